"""Loads the shop's data into the lake, daily at 05:00 in the shop's zone.

A scheduled or backfilled run loads its data interval. A run by hand loads `start` to `end`; without `start` all that
was known before `end`: do that first in a new home. Running it again replaces what it loaded.

**If it fails**, the log names the table, the file and the remedy; what was loaded before is still there, and campaigns
go on with yesterday's data. Mend the source, then clear the task. Rows that broke a rule don't fail it: they are in
quarantine, and the report counts them (`controltower quarantine list`). Nor does odd data (no rows, tenfold, a
table that shrank by half): the report's `anomalies` tell it, and campaigns aren't planned until it is mended or
accepted (`controltower data accept`).

Beside it, `forget` removes what is older than the shop file's `retention_days`. If that fails, run it again.
"""

from _defaults import DAG, FACTS, run, timed
from airflow.sdk import Param, dag, task
from controltower.jobs import ingest, retention

TEXT = {"type": ["string", "null"]}
FORM = {
    "source": Param(None, **TEXT, title="Source", description="Empty: the setting CONTROLTOWER_SOURCE."),
    "start": Param(None, **TEXT, title="From", description="A date or time. Empty: from the beginning."),
    "end": Param(None, **TEXT, title="To", description="A date or time, not included. Empty: now."),
}


@dag(**DAG, **timed("0 5 * * *"), params=FORM, tags=["tier-1", "daily"], doc_md=__doc__)
def ingest_data() -> None:
    @task(pool="lake", outlets=[FACTS])
    def load(*, params=None, dag_run=None, outlet_events=None) -> dict:
        start, end = params["start"], params["end"]
        if dag_run.run_type != "manual":
            start, end = dag_run.data_interval_start.isoformat(), dag_run.data_interval_end.isoformat()
        report = run(ingest.ingest_data, params["source"], start, end)
        outlet_events[FACTS].extra = {"as_of": [report["as_of"]]}
        return report

    @task(pool="lake")
    def forget() -> dict:
        return run(retention.keep_to_retention)

    load()
    forget()


ingest_data()
