"""The lake's manifest: which immutable files make up each table, interval by interval.

One file for the whole lake, `manifest.json`, replaced atomically. A reader reads it once and sees one version of all
tables together; a load of several tables is seen whole or not at all, also when its process is killed halfway.
Files are never changed. One that is no longer named stays for a grace period, for readers that still hold an older
manifest, and is deleted by a later commit.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controltower.data.contract import SCHEMA_VERSION
from controltower.errors import BadSource

NAME = "manifest.json"


@dataclass(frozen=True)
class Part:
    """One immutable Parquet file: its path below the lake, the UTC date of its rows where they have one, its rows."""

    file: str
    date: str | None
    rows: int


@dataclass(frozen=True)
class Load:
    """What one interval holds of a table. `number` orders the loads: the later one wins a tie between versions."""

    number: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Manifest:
    version: int = 0
    tables: Mapping[str, Mapping[str, Load]] = field(default_factory=dict)

    def loads(self, table: str) -> Mapping[str, Load]:
        return self.tables.get(table, {})

    def parts(self, table: str, *, without: str | None = None) -> list[Part]:
        """The table's parts, oldest load first; `without` leaves one interval out."""
        loads = [load for interval, load in self.loads(table).items() if interval != without]
        return [part for load in sorted(loads, key=lambda load: load.number) for part in load.parts]

    def files(self) -> set[str]:
        return {part.file for loads in self.tables.values() for load in loads.values() for part in load.parts}


def read(root: Path) -> Manifest:
    """The manifest as it is now; an empty one where the lake doesn't exist yet."""
    path = root / NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        check_schema(raw["schema"], str(path))
        return Manifest(
            raw["version"], {t: {i: _load(x) for i, x in loads.items()} for t, loads in raw["tables"].items()}
        )
    except FileNotFoundError:
        return Manifest()
    except (ValueError, KeyError, TypeError):
        raise BadSource(
            f"{path} is damaged.", "Restore it from a backup, or remove the lake and ingest again."
        ) from None


def check_schema(version: int, name: str) -> None:
    """Raise BadSource for what a later Control Tower wrote."""
    if version > SCHEMA_VERSION:
        raise BadSource(
            f"{name} has schema version {version}; this Control Tower knows up to {SCHEMA_VERSION}.",
            "Upgrade Control Tower, or use the home with the version that wrote it.",
        )


def commit(
    root: Path, interval: str, tables: Mapping[str, tuple[Part, ...]], grace: float, instead_of: Collection[str] = ()
) -> Manifest:
    """Let `interval` of each table consist of these parts, all tables in one step. Safe among processes.

    `grace`: seconds that a file which is no longer named is kept. `instead_of`: intervals that these tables then lack.
    """
    with (root / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = read(root)
        missing = [p.file for parts in tables.values() for p in parts if not (root / p.file).is_file()]
        if missing:
            raise BadSource(f"{missing[0]} vanished from the lake before it was published.", "Run the job again.")
        number = old.version + 1
        kept = {t: {i: load for i, load in old.loads(t).items() if i not in instead_of} for t in tables}
        changed = {t: {**kept[t], interval: Load(number, parts)} for t, parts in tables.items()}
        new = Manifest(number, {**old.tables, **changed})
        for file in old.files() - new.files():
            os.utime(root / file)  # its grace starts now, before a reader can miss it
        now = _replace(root, new)
        _sweep(root, tables, new.files(), now - grace)
    return new


def swap(root: Path, parts: Mapping[str, Part], grace: float) -> set[str]:
    """Let other parts take the place of these files where they are still named, in one step. Returns which were."""
    with (root / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = read(root)
        named = old.files() & parts.keys()
        tables = {
            table: {
                interval: Load(load.number, tuple(parts.get(part.file, part) for part in load.parts))
                for interval, load in loads.items()
            }
            for table, loads in old.tables.items()
        }
        for file in named:
            os.utime(root / file)
        new = Manifest(old.version + 1, tables)
        now = _replace(root, new)
        _sweep(root, {file.partition("/")[0]: None for file in parts}, new.files(), now - grace)
    return named


def drop(root: Path, gone: Mapping[str, Mapping[str, Collection[Part]]], grace: float) -> None:
    """Let these parts (by table and interval) be named no longer, in one step; nor intervals of which none is left."""
    with (root / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = read(root)
        tables = {
            table: {
                interval: Load(load.number, tuple(p for p in load.parts if p not in gone[table].get(interval, ())))
                for interval, load in old.loads(table).items()
            }
            for table in gone
        }
        kept = {t: {i: load for i, load in x.items() if load.parts or i not in gone[t]} for t, x in tables.items()}
        new = Manifest(old.version + 1, {**old.tables, **kept})
        for file in old.files() - new.files():
            os.utime(root / file)
        now = _replace(root, new)
        _sweep(root, gone, new.files(), now - grace)


def _replace(root: Path, manifest: Manifest) -> float:
    """Write the manifest and put it in place. Returns the time by the file system's clock, which dates the parts."""
    raw = {
        "schema": SCHEMA_VERSION,
        "version": manifest.version,
        "tables": {
            t: {i: {"number": x.number, "parts": [[p.file, p.date, p.rows] for p in x.parts]} for i, x in loads.items()}
            for t, loads in manifest.tables.items()
        },
    }
    fresh = root / f".{NAME}-{uuid.uuid4().hex}"
    with fresh.open("w", encoding="utf-8") as f:
        json.dump(raw, f)
        f.flush()
        os.fsync(f.fileno())
    now = fresh.stat().st_mtime
    fresh.replace(root / NAME)
    return now


def _sweep(root: Path, tables: Mapping[str, Any], named: set[str], before: float) -> None:
    """Delete files of these tables that no manifest names: replaced ones, and those of a writer that died."""
    for table in tables:
        with os.scandir(root / table) as entries:
            old = [e.name for e in entries if f"{table}/{e.name}" not in named and e.stat().st_mtime < before]
        for name in old:
            (root / table / name).unlink(missing_ok=True)


def _load(raw: Mapping[str, Any]) -> Load:
    return Load(raw["number"], tuple(Part(*part) for part in raw["parts"]))
