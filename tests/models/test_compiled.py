"""Where compiled loops are kept: never in the place of older code, and nowhere where nothing may be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from controltower.models.recommend import compiled


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled, "HERE", tmp_path / "code")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "loops.py").write_text("@compiled\ndef f(): return 1\n")
    (tmp_path / "code" / "plain.py").write_text("x = 1\n")
    return tmp_path / "code"


def test_another_loop_is_kept_in_another_folder(code: Path) -> None:
    first = compiled._folder()
    assert first and first.parent == code / "__pycache__"
    (code / "plain.py").write_text("x = 2\n")
    assert compiled._folder() == first
    (code / "loops.py").write_text("@compiled\ndef f(): return 2\n")
    assert compiled._folder() not in (first, None)


def test_the_users_cache_else_none(code: Path, tmp_path: Path) -> None:
    (code / "__pycache__").write_text("a file where a folder should be")
    found = compiled._folder()
    assert found and found.parent == tmp_path / "cache" and found.stat().st_mode & 0o077 == 0
    found.rmdir()
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("")
    assert compiled._folder() is None


def test_a_loop_is_compiled() -> None:
    @compiled.compiled
    def total(values: np.ndarray) -> float:
        found = 0.0
        for value in values:
            found += value
        return found

    assert total(np.arange(4.0)) == 6.0
    assert total.signatures  # type: ignore[attr-defined]
