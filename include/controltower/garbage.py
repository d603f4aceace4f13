"""Python's search for reference cycles, during work that makes millions of objects and hardly a cycle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 50_000  # new ones between two searches; Python's own 700 cost a fifth of a dispatch


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Search seldom, and leave out what was there before: modules and what they hold. Also a decorator."""
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
