"""What pages show of products and of collections, as the Arrow files of a published version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow as pa

from controltower.models.recommend.running import DATES

ON_PAGES = ("product_id", "title", "url", "image_url", "price", "currency")
PART = 65_536  # rows that are Python values at a time
_NUMBERS = ("price", "margin_rate")
_TIME = pa.timestamp("us", tz="UTC")


def columns(given: pa.Table, names: Sequence[str]) -> pa.Table:
    """These columns, null where they lack; and when each row is shown, where that is told."""
    told = (*names, *(DATES if set(DATES) <= set(given.column_names) else ()))
    types = {name: _TIME if name in DATES else pa.float64() if name in _NUMBERS else pa.string() for name in told}
    made = {
        name: given[name].cast(of) if name in given.column_names else pa.nulls(len(given), of)
        for name, of in types.items()
    }
    return pa.table(made).combine_chunks()


def of_products(table: pa.Table) -> pa.Table:
    """What is on pages as one JSON text a product, `shown`: quicker to read than columns. What else is read stays."""
    parts = table.select(ON_PAGES).to_batches(max_chunksize=PART)
    texts = [pa.array([orjson.dumps(row) for row in part.to_pylist()], pa.large_binary()) for part in parts]
    rest = table.drop_columns(["product_id", "url", "image_url", "currency"])
    return rest.append_column("shown", pa.chunked_array(texts, pa.large_binary())).combine_chunks()


def write(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read(path: Path) -> pa.Table:
    """The table, mapped into memory."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
