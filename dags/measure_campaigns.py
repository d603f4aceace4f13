"""Measures what campaign runs changed: their orders against those of the customers held out.

It runs when ingest_data has loaded something, as of the end of what was loaded, for each run whose attribution window
has closed since. A verdict is given once and isn't made again; until then reports show how it stands, without one.
Trigger it with `as_of` to measure as of another moment.

**If it fails**, the log says why. Nothing is sent or held back by it, and no verdict is lost: the next run gives it.
Clear the task when the cause is mended.
"""

from _defaults import AS_OF, DAG, FACTS, as_ofs, run
from airflow.sdk import dag, task
from controltower.jobs import measurement


@dag(**DAG, schedule=FACTS, params={"as_of": AS_OF}, tags=["tier-2", "daily"], doc_md=__doc__)
def measure_campaigns() -> None:
    @task(pool="lake")
    def measure(*, params=None, triggering_asset_events=None) -> list[dict]:
        moments = as_ofs(triggering_asset_events, params["as_of"])
        return [run(measurement.measure_campaigns, moment) for moment in moments]

    measure()


measure_campaigns()
