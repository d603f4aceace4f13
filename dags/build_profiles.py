"""Computes each customer's features as of the moment up to which data was loaded.

It runs when ingest_data has loaded something. Running it again for the same moment replaces that moment's features.

**If it fails**, the log says why. Campaigns that wait for scores don't start; nothing is sent on half-made features.
Clear the task when the cause is mended.
"""

from _defaults import AS_OF, DAG, FACTS, PROFILES, as_ofs, run
from airflow.sdk import dag, task
from controltower.jobs import profiles


@dag(**DAG, schedule=FACTS, params={"as_of": AS_OF}, tags=["tier-1", "daily"], doc_md=__doc__)
def build_profiles() -> None:
    @task(pool="lake", outlets=[PROFILES])
    def build(*, params=None, triggering_asset_events=None, outlet_events=None) -> list[dict]:
        reports = [run(profiles.build_profiles, as_of) for as_of in as_ofs(triggering_asset_events, params["as_of"])]
        outlet_events[PROFILES].extra = {"as_of": [report["as_of"] for report in reports]}
        return reports

    build()


build_profiles()
