"""A script: parse a DAG folder as Airflow does and print what is in it, as JSON on the last line.

In a process of its own, so that Airflow's configuration and what parsing imports stay out of the tests' process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def describe(folder: Path) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import BundleDagBag

    before = set(sys.modules)
    bag = BundleDagBag(folder, bundle_path=folder, bundle_name="dags-folder")
    return {
        "errors": bag.import_errors,
        "modules": sorted({module.split(".")[0] for module in set(sys.modules) - before}),
        "dags": {dag_id: _dag(dag) for dag_id, dag in bag.dags.items()},
    }


def _dag(dag: Any) -> dict[str, Any]:
    params = {name: dag.params.get_param(name) for name in dag.params}
    condition = getattr(dag.timetable, "asset_condition", None)
    return {
        "file": Path(dag.fileloc).name,
        "owner": dag.owner,
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "timetable": type(dag.timetable).__name__,
        "assets": [asset.name for asset in getattr(condition, "objects", [condition])] if condition else [],
        "zone": str(getattr(dag.timetable, "timezone", "")),
        "scheduled": dag.end_date is None,
        "run_types": sorted(dag.allowed_run_types) if dag.allowed_run_types else None,
        "params": {name: {**p.schema, "default": p.value, "description": p.description} for name, p in params.items()},
        "tasks": {task.task_id: _task(task) for task in dag.tasks},
    }


def _task(task: Any) -> dict[str, Any]:
    return {
        "retries": task.retries,
        "backoff": task.retry_exponential_backoff,
        "timeout": task.execution_timeout.total_seconds() if task.execution_timeout else None,
        "pool": task.pool,
        "failure_callback": bool(task.on_failure_callback),
        "outlets": [outlet.name for outlet in task.outlets],
        "before": sorted(task.downstream_task_ids),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe(Path(sys.argv[1])), default=str))
