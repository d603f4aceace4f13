"""However a demo ends, no process is left; a failing stage is named."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.patience import PATIENCE
from support.running_demo import read_until, start_demo

from demo.processes import marked

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def test_interrupts_leave_nothing_and_a_killed_demo_is_cleared_away(small_shop: Path, homes: Path) -> None:
    early = start_demo(small_shop, homes)
    read_until(early, "the shop's clock shows")
    early.send_signal(signal.SIGTERM)
    assert early.wait(PATIENCE) == 130
    (home,) = homes.iterdir()
    assert marked(home) == []

    killed = start_demo(small_shop, homes)
    read_until(killed, "Airflow is up")
    killed.kill()
    killed.wait()
    assert len(marked(home)) >= 4

    again = start_demo(small_shop, homes)
    read_until(again, r"ended \d+ processes of an earlier demo")
    read_until(again, r"\] ingest_data ")  # now build_profiles is at work
    for _ in range(3):  # make passes a terminal's Ctrl-C on, so it comes more than once
        again.send_signal(signal.SIGINT)
    assert again.wait(PATIENCE) == 130
    assert marked(home) == []


def test_a_failing_stage_is_named_with_its_reason(tmp_path: Path, homes: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "orders.csv").write_text("order_id,ordered_at\n1,2026-03-01T10:00:00Z\n")
    failing = start_demo(source, homes / "homes", "--once")
    said, _ = failing.communicate(timeout=PATIENCE)
    assert failing.returncode == 1
    assert "ingest_data.load failed" in said
    assert "currency" in said
    assert "Traceback" not in said
    (home,) = (homes / "homes").iterdir()
    assert marked(home) == []
