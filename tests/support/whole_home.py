"""All that a home holds, to look for somebody in it."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow.parquet as pq
import sqlalchemy as sa
from controltower.ledger import tables
from controltower.ledger.database import reading
from controltower.settings import Settings


def everything(conf: Settings) -> str:
    """As text: each Parquet file, also those that nobody names, each other file, each ledger row."""
    found = []
    for file in conf.home.rglob("*"):
        if file.suffix == ".parquet":
            found.append(str(pq.read_table(file).to_pylist()))
        elif file.is_file() and not file.name.startswith("ledger.db"):
            found.append(file.read_text(encoding="utf-8", errors="replace"))
    with reading(conf) as ledger:
        for table in tables.metadata.sorted_tables:
            found += [str(tuple(row)) for row in ledger.execute(sa.select(table))]
    return "\n".join(found)


def left_of(conf: Settings, traces: Iterable[str]) -> list[str]:
    """Those of the traces that the home holds, in any case of letters."""
    text = everything(conf).lower()
    return [trace for trace in traces if trace.lower() in text]
