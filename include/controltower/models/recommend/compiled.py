"""Compiled loops: numba compiles them at first use and keeps them on disk where it may."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

HERE = Path(__file__).parent


def _folder() -> Path | None:
    """Where compiled loops are kept: beside the code, else in the user's cache; None where neither can be written.

    Named by the code of all loops, because numba doesn't see that a loop in another file, which it built in, changed.
    """
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("*.py")):
        code = path.read_bytes()
        digest.update(code if b"@compiled" in code else b"")
    for root in (HERE / "__pycache__", Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()):
        folder = root / f"controltower-loops-{digest.hexdigest()[:16]}"
        with contextlib.suppress(OSError, RuntimeError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
                return folder
    return None


_FOLDER = None if os.environ.get("NUMBA_CACHE_DIR") else _folder()
if _FOLDER:
    numba.config.CACHE_DIR = str(_FOLDER)  # type: ignore[attr-defined]
_KEPT = bool(_FOLDER or os.environ.get("NUMBA_CACHE_DIR"))


def compiled(loop: F) -> F:
    """The loop in machine code, for one thread; others may run meanwhile."""
    return cast(F, numba.njit(cache=_KEPT, nogil=True)(loop))
