"""DAG files are parsed by Airflow itself, in a process of its own, with a home of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.airflow_process import DAGS, ROOT, airflow_environment


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
