"""Trains the models once a week, as of the newest features: recommendations, predictions, gender and age.

It runs when build_profiles is done. Where the models are 6 days old or younger as of that moment, and of this version
of the code, it trains nothing, says so, and hands the moment on to score_customers; a run by hand always trains. A
model that doesn't beat its baseline isn't published: the baseline serves, the report says so, and that is no failure.

**If it fails**, the models published before stay in use for whoever scores by hand (trigger score_customers). Clear the
task when the cause is mended.
"""

from _defaults import AS_OF, DAG, MODELS, PROFILES, as_ofs, run
from airflow.sdk import dag, task
from controltower.jobs import training

WEEKLY = 6  # days up to which the newest models will do


@dag(**DAG, schedule=PROFILES, params={"as_of": AS_OF}, tags=["tier-1", "weekly"], doc_md=__doc__)
def train_models() -> None:
    @task(pool="lake", outlets=[MODELS])
    def train(*, params=None, dag_run=None, triggering_asset_events=None, outlet_events=None) -> list[dict]:
        days = 0 if dag_run.run_type == "manual" else WEEKLY
        moments = as_ofs(triggering_asset_events, params["as_of"])
        reports = [run(training.train_models, as_of, unless_newer_than_days=days) for as_of in moments]
        outlet_events[MODELS].extra = {"as_of": [report["as_of"] for report in reports]}
        return reports

    train()


train_models()
