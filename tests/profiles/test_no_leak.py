"""No feature reads a fact received later than as_of, nor depends on the order of rows: every byte is as it was."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.profiles.features import features
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_shop import Rows, random_shop
from support.shop_tables import SHOP, T, ago, lake_with


def raw(lake: Lake, later: float = 0) -> bytes:
    at = ago(-later)
    with lake.read(at) as reading:
        rows = reading.arrow(features(reading.table, at, SHOP))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return sink.getvalue().to_pybytes()


def received_later(rng: random.Random, early: Rows) -> Rows:
    """What becomes known after T: of later days, of earlier days, and corrections of rows known before."""
    rows = random_shop(rng, ago(-0.01), ago(-60), "later", size=20)
    for name, body in rows.items():
        contract = CONTRACT[name]
        for row in body:
            if name == "message_events" and rng.random() < 0.5:
                row["message_id"] = rng.choice(early["messages_history"])["message_id"]
            if contract.happened not in (None, contract.known) and rng.random() < 0.5:
                row[contract.known], row[contract.happened] = ago(-1), ago(rng.choice([1, 20, 80]))
        if contract.kind == "version":
            kept = early[name][:20]
            others = [{**rng.choice(early[name]), **{key: row[key] for key in contract.key}} for row in kept]
            body += [{**row, contract.known: ago(-2)} for row in others]
    return rows


def test_the_random_shop_has_rows_in_every_table_that_features_read() -> None:
    read = set()

    with TemporaryDirectory() as folder:
        rows = random_shop(random.Random(1), ago(100), ago(), "x", size=5)
        with lake_with(Path(folder), rows).read(T) as reading:
            features(lambda name: read.add(name) or reading.table(name), T, SHOP)
    assert read == {name for name, body in rows.items() if body}


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_the_order_of_rows_and_what_is_received_later_change_no_byte(seed: int) -> None:
    rng = random.Random(seed)
    early = random_shop(rng, ago(120), ago(), "x", size=20)
    with TemporaryDirectory() as a, TemporaryDirectory() as b:
        first = raw(lake_with(Path(a), early))
        for body in early.values():
            rng.shuffle(body)
        lake = lake_with(Path(b), early)
        lake_with(Path(b), received_later(rng, early), "second")
        assert raw(lake) == first
        assert raw(lake, later=61) != first
