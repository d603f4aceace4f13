"""What each step of the trial says, expects and waits for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compose.containers import Service


class TrialFailed(Exception):
    """Something didn't go as compose.yaml or its documentation says."""


began = time.monotonic()


def say(text: str) -> None:
    sys.stdout.write(f"{time.monotonic() - began:6.1f}  {text}\n")
    sys.stdout.flush()


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise TrialFailed(f"{what}: {found!r} instead of {wanted!r}")


def wait(what: str, is_so: Callable[[], Any], running: list[Service], patience: float = 180, pause: float = 0.5) -> Any:
    until = time.monotonic() + patience
    while not (found := is_so()):
        for service in running:
            if service.process and service.process.poll() is not None:
                raise TrialFailed(f"{service.name} ended with {service.process.returncode}:\n{service.tail()}")
        if time.monotonic() > until:
            raise TrialFailed(f"waited {patience:.0f} s for {what}" + "".join(f"\n{s.tail()}" for s in running[:1]))
        time.sleep(pause)
    return found
