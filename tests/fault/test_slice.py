"""A few schedules of `make fault`, so that whoever breaks its promises hears of it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FIRST, SCHEDULES = "5", "3"  # seeds that tell on a lease that isn't checked and on an answer that is asked for again
TIMEOUT = 600  # seconds


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the proof by fault needs Linux's fork and signals")
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_nothing_twice_and_nobody_forgotten(database: str) -> None:
    chosen = ["--schedules", SCHEDULES, "--seed", FIRST, "--lanes", "1", "--database", database]
    where = {"PYTHONPATH": f"{TESTS.parent / 'include'}:{TESTS}", "PATH": "/usr/bin:/bin"}
    played = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "fault", *chosen],
        env=where,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert f"| {database} | {SCHEDULES} |" in played.stdout
