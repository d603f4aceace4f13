"""Scores every customer, writes recommendations and profiles; campaigns that follow the scores start when it is done.

Running it again for the same moment replaces that moment's scores.

**If it fails**, campaigns that wait for scores don't start; those already planned still go out. Clear the task when the
cause is mended.
"""

from _defaults import AS_OF, DAG, MODELS, SCORES, as_ofs, run
from airflow.sdk import dag, task
from controltower.jobs import scoring


@dag(**DAG, schedule=MODELS, params={"as_of": AS_OF}, tags=["tier-1", "daily"], doc_md=__doc__)
def score_customers() -> None:
    @task(pool="lake", outlets=[SCORES])
    def score(*, params=None, triggering_asset_events=None, outlet_events=None) -> list[dict]:
        reports = [run(scoring.score_customers, as_of) for as_of in as_ofs(triggering_asset_events, params["as_of"])]
        outlet_events[SCORES].extra = {"as_of": [report["as_of"] for report in reports]}
        return reports

    score()


score_customers()
