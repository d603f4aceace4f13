"""Brings what was posted to /v1/events into the lake, every 5 minutes.

The public app stores each body before it answers; here its events go through the gate into the table `events`. An event
counts once, by its id: run it again at will. Rows that break a rule are in quarantine. Without the setting
CONTROLTOWER_EVENTS_API_KEYS nothing is ever posted, and it has nothing to do.

**If it fails**, nothing is lost: bodies wait in the ledger until it succeeds. The log names what is amiss, mostly the
ledger's database or a full disk.
"""

from _defaults import DAG, run
from airflow.sdk import CronTriggerTimetable, dag, task
from controltower.jobs import events


@dag(
    **DAG,
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    allowed_run_types=["scheduled", "manual"],  # what waits now has no past to backfill
    tags=["tier-2", "daily"],
    doc_md=__doc__,
)
def ingest_events() -> None:
    @task(pool="lake")
    def load() -> dict:
        return run(events.ingest_events)

    load()


ingest_events()
