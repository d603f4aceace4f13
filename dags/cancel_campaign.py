"""Cancels what is unsent of one occasion of a campaign: the button to stop a campaign that was planned.

Trigger it with the campaign and the occasion. What was sent stays sent, calls under way can't be recalled (the task's
result counts both); planning that occasion again adds nothing.
`controltower campaign cancel NAME --occasion DAY` does the same, also for a campaign whose spec is gone.

**If it fails**, nothing was cancelled, and the log says why. To stop all sending at once, pause dispatch_messages.
"""

from _defaults import DAG, days, run
from _form import occasion_form
from airflow.sdk import dag, task
from controltower.jobs import control


@dag(
    **DAG,
    schedule=None,
    params=occasion_form(),
    allowed_run_types=["manual"],
    tags=["tier-1", "campaign"],
    doc_md=__doc__,
)
def cancel_campaign() -> None:
    @task(pool="stopping")
    def cancel(*, params=None, dag_run=None) -> dict:
        (day,) = days({}, dag_run, params["occasion"])
        return run(control.cancel_campaign, params["campaign"], day, dag_run.triggering_user_name or "Airflow")

    cancel()


cancel_campaign()
