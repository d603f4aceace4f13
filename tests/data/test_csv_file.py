"""Line numbers of CSV rows, whatever the quoting, line endings, blank and odd lines, and block size."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from controltower.data import csv_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KINDS = {"plain": "{},x,1", "broken": '{},"x\ny""z,\n",1', "blank": "", "short": '{},"a\nb"', "long": "{},1,2,3"}


@given(
    st.lists(st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(["\n", "\r\n"])), max_size=60),
    st.sampled_from([64, 500, 1 << 20]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_knows_its_line(tmp_path: Path, lines: list[tuple[str, str]], block: int) -> None:
    text, line, good, odd = "\ufeffa,b,c\n", 2, {}, []
    for i, (kind, end) in enumerate(lines):
        row = KINDS[kind].format(f"k{i}")
        if kind in ("plain", "broken"):
            good[f"k{i}"] = line
        elif kind != "blank":
            odd.append(line)
        text += row + end
        line += row.count("\n") + 1
    file, staged = tmp_path / "x.csv", tmp_path / "x.parquet"
    file.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "LONGEST_ROW", block)
        found = csv_file.stage_csv(file, staged, "utf-8")
    rows = pq.read_table(staged).to_pylist()
    assert {row["c0"]: row["_line"] for row in rows if row["c0"]} == good
    assert [row.line for row in found] == odd


def test_a_quote_inside_a_plain_value_is_just_a_character(tmp_path: Path) -> None:
    file, staged = tmp_path / "x.csv", tmp_path / "x.parquet"
    file.write_text('a,b\n1,5" pipe\n2,x\n')
    assert csv_file.stage_csv(file, staged, "utf-8") == []
    assert pq.read_table(staged)["c1"].to_pylist() == ['5" pipe', "x"]
