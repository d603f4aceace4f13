"""A few schedules of `make fault`, so that whoever breaks its promises hears of it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
# They tell, on each database: leases that aren't checked, lost answers and cut short calls that are asked for again,
# events that settle nothing, and at_most_once that sends again.
SEEDS = {"sqlite": ("5", "16"), "postgresql": ("4", "5", "6")}
TIMEOUT = 600  # seconds


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the proof by fault needs Linux's fork and signals")
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_nothing_twice_and_nobody_forgotten(database: str) -> None:
    seeds = SEEDS[database]
    command = [sys.executable, "-W", "ignore", "-m", "fault", "--lanes", "1", "--database", database, "--seeds", *seeds]
    where = {"PYTHONPATH": f"{TESTS.parent / 'include'}:{TESTS}", "PATH": "/usr/bin:/bin"}
    played = subprocess.run(command, env=where, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    assert f"| {database} | {len(seeds)} |" in played.stdout
