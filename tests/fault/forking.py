"""Processes that are copies of this one: they have imported everything, and end with us."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable

# What our jobs import when they run; none of them starts a thread.
_PRELOAD = ("controltower.delivery.providers.fcm", "controltower.delivery.providers.sendgrid", "duckdb",
            "ibis.backends.duckdb", "psycopg", "sqlalchemy.dialects.postgresql.psycopg")  # fmt: skip
_PR_SET_PDEATHSIG = 1
FELL = 1  # exit code: an exception that nobody expected


def preload() -> None:
    """Import what every copy will need."""
    for name in _PRELOAD:
        importlib.import_module(name)


def fork(do: Callable[[], int | None], ends_by: signal.Signals = signal.SIGKILL) -> int:
    """A copy of this process does something, and exits with what that returns. It gets the signal if we are gone."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = FELL
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ends_by)
        code = do() or 0
    except (KeyboardInterrupt, SystemExit):
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
