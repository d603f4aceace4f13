"""Hands what is due to SendGrid and FCM, every 5 minutes, one run at a time.

The ledger says what is due; consent, suppressions and caps are checked again before each call. A run that was killed is
safe to clear or to leave: the next one takes over; calls whose answer was lost are `unknown` and aren't sent twice.

**If it fails**, the log names the provider, and says whether `controltower provider resume` is needed
(docs/operations.md). Messages wait and go out with the next run that succeeds; what became too late is recorded with
its reason. To stop all sending at once, pause this DAG.
"""

from datetime import timedelta

from _defaults import DAG, run
from airflow.sdk import CronTriggerTimetable, dag, task
from controltower.jobs import dispatch


@dag(
    **DAG,
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    allowed_run_types=["scheduled", "manual"],  # what is due now has no past to backfill
    tags=["tier-1", "sends"],
    doc_md=__doc__,
)
def dispatch_messages() -> None:
    @task(pool="providers", retries=0, execution_timeout=timedelta(minutes=30))  # the next run is the retry
    def send() -> dict:
        return run(dispatch.dispatch_messages, stay=240)  # for limits and short pauses; the next run is at 300

    send()


dispatch_messages()
