"""All that a home holds, to look for somebody in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import sqlalchemy as sa
from controltower.data.lake import Lake
from controltower.ledger import tables
from controltower.ledger.database import reading
from controltower.settings import Settings


def hand_over(folder: Path, files: Mapping[str, str]) -> Path:
    """Make the folder that a shop hands over."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def counts(conf: Settings) -> dict[str, int]:
    """The rows of each table of the ledger."""
    with reading(conf) as ledger:
        found = {t.name: sa.select(sa.func.count()).select_from(t) for t in tables.metadata.sorted_tables}
        return {name: ledger.execute(query).scalar_one() for name, query in found.items()}


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


class Contacts:
    """How the people of a home's lake can be reached, and their full names: what no log may hold."""

    def __init__(self, conf: Settings) -> None:
        lake = Lake(conf)
        people, devices = (
            [row for file in (lake.root / table).glob("*.parquet") for row in pq.read_table(file).to_pylist()]
            for table in ("customers", "devices")
        )
        self.known = {value for row in people for value in (row["email"], row["phone"]) if value}
        self.known |= {row["push_token"] for row in devices if row["push_token"]}
        full = {(row["first_name"], row["last_name"]) for row in people if row["first_name"] and row["last_name"]}
        self.names = {name for first, last in full for name in (f"{first} {last}", f"{last}{first}", f"{last} {first}")}
        self.names |= {json.dumps(name)[1:-1] for name in self.names}  # as JSON may write them

    def in_text(self, text: str) -> set[str]:
        """Those that a text holds."""
        words = set(re.findall(r"[\w.%+-]+@[\w.-]*\w|\+?\d{9,}|[\w:-]{20,}", text))
        return {*(self.known & words), *(name for name in self.names if name in text)}

    def in_files(self, files: Iterable[Path]) -> set[str]:
        """The names of the files that hold one: nothing else of it is shown."""
        return {str(f) for f in files if self.in_text(f.read_bytes().decode("utf-8", errors="replace"))}
