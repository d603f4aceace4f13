"""What can be checked of the image and of CI without a Docker engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_image_has_the_locks_airflow_and_this_python() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    base = re.search(r"^FROM apache/airflow:(\S+)-python(\S+)$", dockerfile, re.MULTILINE)
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert base and locked
    assert base[1] == locked[1]
    assert base[2] == "3.11"


def test_the_image_copies_what_exists_and_is_not_ignored() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"requirements.txt", "include", "dags", "plugins"} == set(copied)
    assert all((ROOT / name).exists() and name not in ignored for name in copied)


def test_the_images_path_is_enough_to_run_the_product() -> None:
    """As in the image: no installed package, only PYTHONPATH."""
    command = [sys.executable, "-m", "controltower.cli", "--help"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "include")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "dispatch" in done.stdout


def test_ci_runs_make_check() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()
    assert re.search(r"make .*\bcheck\b", script.read_text())


def test_every_make_target_is_in_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    documented = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "check", "bench", "lock", "setup", "clean"):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
        assert re.search(rf"^{target}\s", documented, re.MULTILINE)
