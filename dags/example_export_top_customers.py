"""An example of an engineer's own DAG: the customers most likely to buy this week, as a file, after each scoring.

It follows the asset of the scores, and writes HOME/exports/top_customers-<as of>.csv with ids and scores. The work is a
job, a function that needs no Airflow: controltower/jobs/exports.py. Copy both, name the file and the DAG alike, and
take the `is_paused_upon_creation` away.

**If it fails**, nobody else is affected; clear the task.
"""

from _defaults import AS_OF, DAG, SCORES, as_ofs, run
from airflow.sdk import Param, dag, task
from controltower.jobs import exports

MOST = Param(100, type="integer", minimum=1, title="At most", description="How many customers.")


@dag(
    **DAG,
    schedule=SCORES,
    params={"as_of": AS_OF, "at_most": MOST},
    tags=["tier-3", "example"],
    is_paused_upon_creation=True,
    doc_md=__doc__,
)
def example_export_top_customers() -> None:
    @task(pool="lake")
    def export(*, params=None, triggering_asset_events=None) -> list[dict]:
        moments = as_ofs(triggering_asset_events, params["as_of"])
        return [run(exports.export_top_customers, moment, params["at_most"]) for moment in moments]

    export()


example_export_top_customers()
