"""Processes with an Airflow of their own."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"


def airflow_environment(airflow_home: Path, home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that has an empty Airflow of its own and works on `home`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "CONTROLTOWER_"))}
    return kept | {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",  # seconds, on a busy machine
        "PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(DAGS)]),
        "CONTROLTOWER_HOME": str(home),
        **more,
    }
