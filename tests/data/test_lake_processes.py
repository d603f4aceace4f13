"""Processes publish, merge, erase, read and look back at once: each look has one right answer.

For longer: `python -m bench lake`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from controltower.data.lake import Lake
from controltower.settings import Settings

from bench import _traffic


@pytest.mark.slow
def test_no_look_is_wrong(tmp_path: Path) -> None:
    seen = _traffic.watch(tmp_path, seconds=2.5)
    assert {one["role"]: one["wrong"] for one in seen if one["wrong"]} == {}
    assert [one["role"] for one in seen] == [str(role) for role in _traffic.ROLES]
    assert all(one["looks"] >= _traffic.LEAST for one in seen)
    lake = Lake(Settings(home=tmp_path))
    loads = sum(one["looks"] for one in seen if one["role"].isdigit())
    with lake.read() as reading:  # nobody undid another's load
        assert _traffic.counted(reading)["stays"] == _traffic.LASTING * loads
