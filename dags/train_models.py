"""Trains the models as of the newest features: recommendations, propensity, send hour.

A model that doesn't beat its baseline isn't published: the baseline serves, the report says so, and that is no failure.
It runs when build_profiles is done.

**If it fails**, the models published before stay in use for whoever scores by hand (trigger score_customers). Clear the
task when the cause is mended.
"""

from _defaults import AS_OF, DAG, MODELS, PROFILES, as_ofs, run
from airflow.sdk import dag, task
from controltower.jobs import training


@dag(**DAG, schedule=PROFILES, params={"as_of": AS_OF}, tags=["tier-1", "daily"], doc_md=__doc__)
def train_models() -> None:
    @task(pool="lake", outlets=[MODELS])
    def train(*, params=None, triggering_asset_events=None, outlet_events=None) -> list[dict]:
        reports = [run(training.train_models, as_of) for as_of in as_ofs(triggering_asset_events, params["as_of"])]
        outlet_events[MODELS].extra = {"as_of": [report["as_of"] for report in reports]}
        return reports

    train()


train_models()
