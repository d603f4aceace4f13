"""Odd ids have one outcome, whatever file they come in: kept as they are, or in quarantine with the rule they broke."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.data import quarantine
from controltower.data.contract import LONGEST_ID
from controltower.data.lake import Lake

from data.conftest import Ingest, rows

KEPT = [
    "0", "-1", "007", "7", "1e5", "inf", "true", "N/A", "NA", "undefined", "x" * LONGEST_ID, "상" * LONGEST_ID,
    'qu"ote', "apo'strophe", "a,b", "a;b", "a/b/../c", "a\\b", "%00", "=1+1", "<b>", "😀", "한국어 상품", "é",
    "e\u0301", "A", "a", "two  blanks",
]  # fmt: skip
BAD = {
    "": "required", " ": "required", "NaN": "required", "nan": "required", "None": "required", "NULL": "required",
    "new\nline": "control_character", "tab\there": "control_character", "1e+5": "float_key", "8.80123E+12": "float_key",
    "x" * (LONGEST_ID + 1): "long_key", "상" * (LONGEST_ID + 1): "long_key",
}  # fmt: skip
TRIMMED = {"  lead": "lead", "trail  ": "trail", "17850.0": "17850"}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_odd_id_is_kept_or_told(lake: Lake, ingest: Ingest, shop: Path, form: str) -> None:
    given = [*KEPT, *BAD, *TRIMMED]
    made = [{"product_id": i, "title": f"t{n}", "price": "1", "currency": "EUR"} for n, i in enumerate(given)]
    seen = [
        {"event_id": f"e{n:02}", "occurred_at": "2025-06-01", "event_name": "view_item", "product_id": i,
         "customer_id": i} for n, i in enumerate(given)
    ]  # fmt: skip
    for name, table in (("products", made), ("events", seen)):
        path = shop / f"{name}.{form}"
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(table), path)
        elif form == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
        else:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, table[0].keys())
            writer.writeheader()
            writer.writerows(table)
            path.write_bytes(text.getvalue().encode())
    report = ingest({"source.yaml": "bad_rows_limit: 1"})
    kept = [*KEPT, *TRIMMED.values()]
    assert sorted(row["product_id"] for row in rows(lake, "products")) == sorted(kept)
    bad = quarantine.read(lake).to_pylist()
    told = sorted((row["rule"], (row["value"] or "")[:99]) for row in bad if row["table"] == "products")
    assert told == sorted((rule, i.strip(" ")[:99]) for i, rule in BAD.items())
    events = {row["event_id"]: row for row in rows(lake, "events")}
    assert sorted(e["customer_id"] for e in events.values() if "customer_id" in e) == sorted(kept)
    nobody = {f"e{n:02}" for n, i in enumerate(given) if BAD.get(i) == "required"}
    assert {name for name, e in events.items() if "customer_id" not in e} == nobody, "no customer, and no product"
    words = sum(i.strip() != "" for i, rule in BAD.items() if rule == "required")
    notes = [f"{words} rows have a key that is a word for none (as NULL or nan): read as empty"]
    assert report["tables"]["events"]["notes"][:1] == notes and notes[0] not in report["tables"]["products"]["notes"]
    assert {row["rule"] for row in bad if row["table"] == "events"} == {"control_character", "float_key", "long_key"}


def test_a_shop_whose_ids_are_such_words_puts_something_before_them(lake: Lake, ingest: Ingest) -> None:
    mapping = "{expressions: {customer_id: \"'u-' || nullif(trim(customer_id), '')\"}}"
    heads = "event_id,occurred_at,event_name,customer_id\n"
    seen = heads + "".join(f"{n},2025-06-01,login,{i}\n" for n, i in enumerate((" NULL ", " ", "")))
    ingest({
        "customers.csv": "customer_id,first_name\nNULL,Ann\nnan,Bob\n", "events.csv": seen,
        "source.yaml": f"tables: {{customers: {mapping}, events: {mapping}}}",
    })  # fmt: skip
    assert [row["customer_id"] for row in rows(lake, "customers")] == ["u-NULL", "u-nan"]
    assert [row.get("customer_id") for row in sorted(rows(lake, "events"), key=lambda row: row["event_id"])] == [
        "u-NULL", None, None,
    ], "who has no id isn't one customer"  # fmt: skip
