"""The same home again: whatever the tests before did with it, nothing is sent twice."""

from __future__ import annotations

import re
import signal

import pytest
from support.patience import PATIENCE
from support.running_demo import Demo, start_demo

from demo.processes import marked

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


KNOWN = re.compile(r"known when planned +([\d,]+\d)")


def test_a_second_run_sends_nothing_new(demo: Demo) -> None:
    demo.set_clock("2026-07-02T23:00", speed=0)  # also where morning comes later than in the shop's zone
    assert demo.wait("dispatch_messages", demo.api.trigger("dispatch_messages")) == "success"
    before, caught = demo.ledger(), demo.caught()["message_ids"]
    assert before["pending"] == 0
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(PATIENCE) == 0
    assert marked(demo.home) == []
    again = start_demo(demo.source, demo.homes, "--once", **demo.environment)
    said, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    assert marked(demo.home) == []
    assert "password" not in said  # of pages that are gone
    assert demo.ledger() == before
    assert f"message ids            {caught}" in said
    assert KNOWN.findall(said) == KNOWN.findall(demo.said)  # of the first day; the second isn't lived again
