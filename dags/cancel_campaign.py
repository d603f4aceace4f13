"""Cancels what is unsent of one occasion of a campaign: the button to stop a campaign that was planned.

Trigger it with the campaign and the occasion. What was sent stays sent; planning that occasion again adds nothing.
`controltower campaign cancel NAME --occasion DAY` does the same, also for a campaign whose spec is gone.

**If it fails**, nothing was cancelled, and the log says why. To stop all sending at once, pause dispatch_messages.
"""

from _defaults import DAG, days, run
from airflow.sdk import Param, dag, task
from controltower import settings
from controltower.campaigns.specs import load_specs
from controltower.jobs import control

NAMES = sorted(spec.name for spec in load_specs(settings.load().campaigns))  # of broken ones too: messages may wait
FORM = {
    "campaign": Param(type="string", enum=NAMES, title="Campaign", description="Whose unsent messages."),
    "occasion": Param(
        None,
        type=["string", "null"],
        format="date",
        title="Occasion",
        description="The day it was for. Empty: today in the shop's zone.",
    ),
}


@dag(
    **DAG,
    schedule=None,
    params=FORM,
    allowed_run_types=["manual"],
    tags=["tier-1", "campaign"],
    doc_md=__doc__,
)
def cancel_campaign() -> None:
    @task(pool="planning")
    def cancel(*, params=None, dag_run=None) -> dict:
        (day,) = days({}, dag_run, params["occasion"])
        return run(control.cancel_campaign, params["campaign"], day, dag_run.triggering_user_name or "Airflow")

    cancel()


cancel_campaign()
