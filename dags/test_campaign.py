"""Sends a campaign's messages to the shop's own people, the `seed_list` of shop.yaml, marked [TEST].

Trigger it with the campaign. Each variant goes out in each language, as to a made-up customer, or as to the customer
whose id you give. Tests are no messages: they count in no figure and no cap, use no coupon, and their links change
nothing. `controltower campaign test NAME` does the same, and takes addresses. See docs/messages.md.

**If it fails**, the log says what to mend: no seed_list, a variant or customer that there isn't, a provider that
refuses us. Where a provider asks to wait or fails meanwhile it stops, and names what was sent, what wasn't, and when to
try again. It isn't tried again by itself: that would send all of it again.
"""

from _defaults import DAG, run
from _form import test_form
from airflow.sdk import dag, task
from controltower.jobs import test_sends


@dag(
    **DAG,
    schedule=None,
    params=test_form(),
    allowed_run_types=["manual"],
    tags=["tier-3", "campaign"],
    doc_md=__doc__,
)
def test_campaign() -> None:
    @task(pool="lake", retries=0)  # a retry would send again what was sent
    def send(*, params=None, dag_run=None) -> dict:
        return run(
            test_sends.send_test,
            params["campaign"],
            variants=[params["variant"]] if params["variant"] else [],
            customer=params["customer"],
            check_only=params["sandbox_mode"],
            asked_by=dag_run.triggering_user_name or "Airflow",
        )

    send()


test_campaign()
