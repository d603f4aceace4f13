"""An example of an engineer's own DAG: the customers most likely to buy this week, as a file, after each scoring.

It follows the asset of the scores, reads them with the lake, and writes HOME/exports/top_customers-<as of>.csv with ids
and scores. Copy it, name the file and the DAG alike, and take the `is_paused_upon_creation` away.

**If it fails**, nobody else is affected; clear the task.
"""

from _defaults import AS_OF, DAG, SCORES, as_ofs
from airflow.sdk import Param, dag, task
from controltower import clock, settings

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
    def export(*, params=None, triggering_asset_events=None) -> list[str]:
        from controltower.data.lake import Lake, interval_key  # heavy: not when the file is parsed

        here = settings.load()
        files = []
        for text in as_ofs(triggering_asset_events, params["as_of"]):
            as_of = clock.parse(text, settings.load_shop(here)) if text else clock.now(here)
            with Lake(here).read(as_of) as lake:
                scores = lake.derived("scores")
                top = scores.order_by(scores.propensity_7d.desc(), "customer_id").limit(params["at_most"])
                frame = lake.frame(top.select("customer_id", "propensity_7d", "model_version"))
            path = here.home / "exports" / f"top_customers-{interval_key(as_of)}.csv"
            path.parent.mkdir(exist_ok=True)
            frame.to_csv(path, index=False)
            files.append(path.name)
        return files

    export()


example_export_top_customers()
