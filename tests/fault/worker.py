"""A dispatcher in a process of its own, which dies where it is told to."""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_TROUBLE = 3  # it ended by an error that it told

PRELOAD = [
    "controltower.delivery.dispatch", "controltower.jobs.dispatch", "controltower.ledger.reports", "duckdb",
    "controltower.content.compiling", "psycopg", "fault.worker",
]  # fmt: skip


def run(environment: dict[str, str], kill: tuple[str, int] | None, space: int | None) -> None:
    """Dispatch what is due. `kill`: a place and the how-many-eth time that it is come to. `space`: bytes that a file
    may have; writing beyond fails as it does on a full disk."""
    for name in [n for n in os.environ if n.startswith("CONTROLTOWER_")]:
        del os.environ[name]
    os.environ.update(environment)
    if kill:
        _arm(*kill)
    if space is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (space, space))
    from controltower.errors import ControlTowerError
    from controltower.jobs.dispatch import dispatch_messages
    from sqlalchemy.exc import SQLAlchemyError

    try:
        dispatch_messages()
    except (ControlTowerError, SQLAlchemyError, OSError):
        os._exit(EXIT_TROUBLE)
    os._exit(0)


def _arm(place: str, nth: int) -> None:
    """Let SIGKILL end this process before or after a transaction that does the step, or before or after the call."""
    from controltower.delivery import dispatch
    from controltower.ledger import work

    when, step = place.split(" ", 1)
    seen: Counter[str] = Counter()

    def come_to(moment: str, what: str) -> None:
        if what == step and moment == when:
            seen[what] += 1
            if seen[what] == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    current: list[str] = []

    def noted(name: str) -> Any:
        real = getattr(work, name)

        def wrapped(*arguments: Any, **more: Any) -> Any:
            result = real(*arguments, **more)
            if result is not None or name != "claim":  # a claim that finds nothing is no transition
                current.append(name)
            return result

        return wrapped

    real_begin, real_post = dispatch.begin, dispatch._post

    @contextmanager
    def begin(settings: Any) -> Iterator[Any]:
        current.clear()
        with real_begin(settings) as connection:
            yield connection
            for name in current:
                come_to("before", name)
        for name in current:
            come_to("after", name)

    def post(*arguments: Any) -> Any:
        come_to("before", "post")
        result = real_post(*arguments)
        come_to("after", "post")
        return result

    for name in ("claim", "drop", "defer", "open_requests", "close_requests", "release"):
        setattr(work, name, noted(name))
    dispatch.begin, dispatch._post = begin, post  # type: ignore[assignment]
