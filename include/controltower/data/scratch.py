"""Working space of one process, and the bounds that every DuckDB connection keeps.

A killed process leaves its files behind; the next one to start sweeps them. Whether a folder is still in use is told
by a file lock, which the kernel drops when its holder dies.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import duckdb

from controltower.errors import BadSettings
from controltower.settings import Settings


def scratch(settings: Settings) -> AbstractContextManager[Path]:
    """A folder of this process's own under HOME/scratch; it is gone afterwards, with those of processes that died."""
    return scratch_below(settings.home / "scratch")


@contextmanager
def scratch_below(root: Path) -> Iterator[Path]:
    """The same under a folder that is for nothing else."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # so that nobody sweeps a folder between its making and its locking
        _sweep(root)
        folder = root / uuid.uuid4().hex
        folder.mkdir()
        alive = (folder / ".alive").open("w")
        fcntl.flock(alive, fcntl.LOCK_EX)
        fcntl.flock(gate, fcntl.LOCK_UN)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        alive.close()


def bounds(settings: Settings, folder: Path) -> dict[str, Any]:
    """DuckDB's configuration: memory, threads, and where and how far it may spill."""
    return {
        "memory_limit": settings.memory,
        "threads": settings.threads,
        "temp_directory": str(folder / "spill"),
        "max_temp_directory_size": settings.spill,
    }


@contextmanager
def bounded() -> Iterator[None]:
    """Turn DuckDB's running out of memory or spill space into an error that says what to raise, and what it makes of
    Ctrl-C into KeyboardInterrupt again: else who minds errors would take it for one."""
    try:
        yield
    except duckdb.OutOfMemoryException as e:
        raise BadSettings(
            f"A query needs more memory or disk than it may use: {str(e).splitlines()[0]}.",
            "Raise CONTROLTOWER_MEMORY or CONTROLTOWER_SPILL.",
        ) from None
    except RuntimeError as e:  # no error of DuckDB's has this class
        if str(e) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        if folder.is_dir() and not _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    try:
        with (folder / ".alive").open() as alive:
            return not _lock_free(alive)
    except FileNotFoundError:
        return False


def _lock_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
