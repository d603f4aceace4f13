"""Waiting for a condition for as long as a busy machine may take: only what never comes costs the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 900.0  # seconds


def wait_until(found: Callable[[], Any], what: str, pause: float = 0.05) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(pause)
    return answer
