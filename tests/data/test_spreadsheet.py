"""What a spreadsheet would run is plain text in our CSV files; everything else is as it was."""

from __future__ import annotations

import pyarrow as pa
import pytest
from controltower.data.spreadsheet import plain, plain_texts


@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0",
        "+82 10-0000-0000",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r\n=1",
        " =1",
        "＝1+1",
        "-",
        "--1",
        "-1e5",
    ],
)
def test_a_formula_becomes_text(text: str) -> None:
    assert plain(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["", "c0", "C000123", "17850", "-5", "-5.25", "a=b", "a-b", "'x", "1+1", "été", "한글"]
)
def test_an_ordinary_id_stays(text: str) -> None:
    assert plain(text) == text


def test_a_table_keeps_its_form() -> None:
    columns = {"customer_id": ["=1", "c0", None, "=1"], "n": [-1, 2, None, 4], "empty": pa.nulls(4, pa.string())}
    table = pa.table(columns, metadata={"made": "here"})
    table = pa.concat_tables([table, table.slice(1)])
    made = plain_texts(table)
    assert made.schema.equals(table.schema, check_metadata=True)
    assert made["customer_id"].to_pylist() == ["'=1", "c0", None, "'=1", "c0", None, "'=1"]
    assert made.drop(["customer_id"]).equals(table.drop(["customer_id"]))
    assert plain_texts(table.slice(0, 0)).num_rows == 0
