"""Python's search for reference cycles, during work that makes millions of objects and hardly a cycle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_OBJECTS = 50_000  # new ones between two searches; Python's own 700 cost a fifth of a dispatch

_lock = Lock()
_inside = 0  # how many are at work: the collector is the whole process's
_usual = gc.get_threshold()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Search seldom, and leave out what was there before: modules and what they hold. Also a decorator.

    (Not searching before that: it takes a second in a process that holds much, and spares nothing.)
    """
    global _inside, _usual
    with _lock:
        _inside += 1
        if _inside == 1:
            _usual = gc.get_threshold()
            gc.freeze()
            gc.set_threshold(_OBJECTS, *_usual[1:])
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                gc.set_threshold(*_usual)
                gc.unfreeze()
