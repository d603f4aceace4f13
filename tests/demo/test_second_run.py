"""The same home again: whatever the tests before did with it, nothing is sent twice."""

from __future__ import annotations

import re
import signal

import pytest
from support.running_demo import Demo, start_demo

from demo.processes import marked

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


KNOWN = re.compile(r"known when planned +([\d,]+\d)")


def test_a_second_run_sends_nothing_new(demo: Demo) -> None:
    before, caught = demo.ledger(), demo.caught()["message_ids"]
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0
    assert marked(demo.home) == []
    again = start_demo(demo.source, demo.homes, "--once", **demo.environment)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert marked(demo.home) == []
    assert demo.ledger() == before
    assert f"message ids            {caught}" in said
    assert KNOWN.findall(said) == KNOWN.findall(demo.said)  # of the first day; the second isn't lived again
