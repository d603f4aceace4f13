"""DAG files are parsed by Airflow itself, in a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
        "PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(DAGS)]),
        "CONTROLTOWER_HOME": str(home),
        **more,
    }


@pytest.fixture(scope="session")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """parse(folder, home, **environment): what Airflow finds in a DAG folder, as support/dag_bag.py describes it."""
    airflow_home = tmp_path_factory.mktemp("airflow")

    def parsed(folder: Path, home: Path, **more: str) -> dict[str, Any]:
        command = [sys.executable, str(ROOT / "tests" / "support" / "dag_bag.py"), str(folder)]
        environment = airflow_environment(airflow_home, home, **more)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return parsed


@pytest.fixture(scope="session")
def ours(parse: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Our DAG folder in an empty home."""
    return parse(DAGS, tmp_path_factory.mktemp("home"))
