"""Rows written in columns are the values that were given: on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from controltower.ledger import insert
from controltower.ledger.database import begin
from controltower.ledger.tables import decisions, messages, subjects
from controltower.settings import Settings

AT = datetime(2026, 6, 15, 1, 2, 3, 456789, UTC)
ODD = ["", r"\N", "NULL", "\\.", "tab\there", "line\nhere", "back\\slash", "\r", '"quoted", {1}', "고객 \x7f", "ends\\"]


def test_what_was_given_is_read_again_whatever_is_in_it(ledger_settings: Settings) -> None:
    codes = pa.array([*ODD[1:], None], pa.string()).dictionary_encode()
    chosen = [json.dumps({text: [text, None, 1.5]}) for text in ODD]
    rows = pa.table(
        {
            "run_id": pa.repeat(7, len(ODD)), "customer_id": ODD,
            "subject_id": [-(2**63), *range(len(ODD) - 2), 2**63 - 1],
            "outcome": pa.repeat("not_sent", len(ODD)), "reason": pa.array(["x"] * len(ODD)).dictionary_encode(),
            "arm": codes, "probability": [1 / 3, 1e-300, *[0.1] * (len(ODD) - 2)],
            "due_at": pa.array([AT, None, *[AT] * (len(ODD) - 2)], pa.timestamp("us", "UTC")), "choices": chosen,
        }
    )  # fmt: skip
    pieces = [rows.slice(n, 3) for n in range(0, len(ODD), 3)]
    names = [decisions.c[name] for name in rows.column_names]
    with begin(ledger_settings) as ledger:
        insert.load(ledger, decisions, pieces)
        found = {row["customer_id"]: dict(row) for row in ledger.execute(sa.select(*names)).mappings()}
    expected = {row["customer_id"]: row | {"choices": json.loads(row["choices"])} for row in rows.to_pylist()}
    assert found == expected


def test_nothing_to_write_is_nothing_written(ledger_settings: Settings) -> None:
    with begin(ledger_settings) as ledger:
        insert.load(ledger, messages, [])
        insert.load(ledger, subjects, [subject([])])
        insert.load_new(ledger, subjects, subject([]))
        assert ledger.execute(sa.select(sa.func.count()).select_from(subjects)).scalar_one() == 0


def subject(names: list[str], number: int = 1) -> pa.Table:
    columns: dict[str, Any] = {"customer_id": pa.array(names, pa.string()), "subject_id": pa.repeat(number, len(names))}
    return pa.table(columns | {"created_at": pa.repeat(AT + timedelta(seconds=number), len(names))})


def test_rows_that_are_there_already_stay_as_they_are(ledger_settings: Settings) -> None:
    with begin(ledger_settings) as ledger:
        insert.load_new(ledger, subjects, subject(["a", "b"]))
        insert.load_new(ledger, subjects, subject(["a", "c", "d"], 2))
        insert.load_new(ledger, subjects, subject(["d", "e"], 3))
        found = ledger.execute(sa.select(subjects.c.customer_id, subjects.c.subject_id)).all()
    assert dict(map(tuple, found)) == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3}
    with pytest.raises(sa.exc.IntegrityError), begin(ledger_settings) as ledger:
        insert.load(ledger, subjects, [subject(["e"], 4)])
