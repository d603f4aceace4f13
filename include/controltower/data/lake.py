"""The lake: immutable Parquet files per table, interval and date, named by a manifest for each version.

Publishing writes new files and then adds a version (see `manifest.py`), so that readers in other processes see
either the old rows or the new ones, of all tables together. Nothing under a reader is renamed or changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa

from controltower import clock
from controltower.data import manifest as manifests
from controltower.data.contract import CONTRACT
from controltower.data.manifest import Keeping, Load, Manifest, Part, Version
from controltower.data.parts import PartWriter, by_date, schema_of
from controltower.data.reading import BATCH, Reading, interval_key
from controltower.data.scratch import bounds, scratch
from controltower.data.stores import store_of
from controltower.errors import BadSettings
from controltower.settings import Settings

__all__ = ["BATCH", "GRACE", "Lake", "Reading", "interval_key"]

GRACE = 3600.0  # seconds a replaced file stays for readers that began before: no task of the DAGs may run longer


class Lake:
    """The tables of one home."""

    def __init__(self, settings: Settings, grace: float = GRACE) -> None:
        self.settings = settings
        self.keeping = Keeping(grace, timedelta(days=settings.lake_days).total_seconds())
        self.store = store_of(settings)
        self.root = self.store.folder

    def write(self, table: str, rows: pa.Table | pa.RecordBatchReader) -> tuple[Part, ...]:
        """Write rows as parts that nobody sees until `commit` names them: of a contract table by the UTC date on which
        they happened, in the order of which batches should come, and with its columns."""
        happened = CONTRACT[table].happened if table in CONTRACT else None
        schema = schema_of(table, rows.schema)
        if isinstance(rows, pa.Table) and happened:
            rows = rows.sort_by(happened)
        writer = PartWriter(self.store, table, schema)
        with writer:
            for batch in rows.to_batches() if isinstance(rows, pa.Table) else rows:
                for date, piece in by_date(pa.table(batch).select(schema.names).cast(schema), happened):
                    writer.write(date, piece)
        return writer.parts

    def commit(self, interval: str, tables: Mapping[str, tuple[Part, ...]], read: Manifest | None = None) -> None:
        """Publish written parts of several tables in one step.

        `read`: the manifest by which they were made; TryAgain where these tables have changed since.
        """
        manifests.commit(self.store, self.keeping, clock.now(self.settings), interval, tables, read=read)

    def merge(self, tables: Sequence[str], intervals: Collection[str], into: str) -> None:
        """Let one interval of these tables hold what several held, in fewer files. Nothing reads differently.

        BadSource where one of the intervals is published anew meanwhile.
        """
        read = self.manifest()
        instead_of = {table: {i: load for i, load in read.loads(table).items() if i in intervals} for table in tables}
        parts: dict[str, tuple[Part, ...]] = {table: () for table, loads in instead_of.items() if loads}
        with self._reading(read) as reading:
            for table in parts:
                if any(load.parts for load in instead_of[table].values()):  # else they are too old, and were dropped
                    happened = CONTRACT[table].happened if table in CONTRACT else None
                    parts[table] = self.write(table, reading.rows_of(table, intervals, happened))
        manifests.commit(self.store, self.keeping, clock.now(self.settings), into, parts, instead_of=instead_of)

    def swap(self, parts: Mapping[str, Part]) -> set[str]:
        """Let other parts take the place of files in every version (manifest.swap)."""
        return manifests.swap(self.store, self.keeping, clock.now(self.settings), parts)

    def drop(self, gone: Mapping[str, Mapping[str, Collection[Part]]]) -> None:
        """Name these parts (by table and interval) no longer; an earlier version has them while it is kept."""
        manifests.drop(self.store, self.keeping, clock.now(self.settings), gone)

    def sweep(self) -> None:
        """Remove files that no version names, and that are older than a writer could be."""
        manifests.sweep(self.store)

    def restore(self, interval: str, version: int) -> dict[str, tuple[int, int]]:
        """Let an interval of all tables hold again what it held in an earlier version.

        An event or log row that another interval has by now isn't in two. Returns the tables that changed, with their
        rows of the interval before and after. BadSettings where the version isn't kept, or its interval went into
        another one since.
        """
        then, now = self.manifest(version), self.manifest()
        if not any(interval in then.loads(table) for table in CONTRACT):
            raise BadSettings(f"Version {version} has no interval {interval!r}.", "`controltower lake versions` tells.")
        for table in CONTRACT:
            if interval in then.loads(table) and interval not in now.loads(table):
                raise BadSettings(
                    f"{table} has no interval {interval!r} now.", "What went into another one can't be restored."
                )
        names = {t for t, loads in now.tables.items() if loads.get(interval) != then.loads(t).get(interval)}
        if names:
            fresh = self._once(now, then, interval, names)
            tables = {t: {**then.loads(t), **fresh.get(t, {})} for t in names}
            files = Manifest(tables=fresh).files()
            manifests.restore(self.store, self.keeping, clock.now(self.settings), interval, tables, files, read=now)
            then = Manifest(tables=tables)
        return {table: (_rows(now, table, interval), _rows(then, table, interval)) for table in sorted(names)}

    def _once(
        self, now: Manifest, then: Manifest, interval: str, tables: Collection[str]
    ) -> dict[str, dict[str, Load]]:
        """What an interval held, written without the rows that others have now; only of tables where they have some."""
        fresh = {}
        with self._reading(now) as reading:
            for table in tables:
                load = then.loads(table).get(interval)
                if load and (rows := reading.only_of(table, interval, load)):
                    fresh[table] = {interval: Load(load.number, self.write(table, rows))}
        return fresh

    def manifest(self, version: int | datetime | None = None) -> Manifest:
        """Which files there are: now, in a version, or in that of a moment."""
        return manifests.read(self.store) if version is None else manifests.at(self.store, self.keeping, version)

    def versions(self) -> list[tuple[Version, Manifest]]:
        """The versions that can be read, newest first."""
        return manifests.history(self.store, self.keeping)

    def intervals(self, table: str) -> list[str]:
        """The keys of the table's intervals, sorted."""
        return sorted(self.manifest().loads(table))

    def sizes(self, table: str) -> dict[str, int]:
        """How many rows each of the table's intervals holds."""
        manifest = self.manifest()
        return {interval: _rows(manifest, table, interval) for interval in manifest.loads(table)}

    def made_before(self, table: str, since: datetime | None) -> list[str]:
        """The intervals of a derived table that read facts known since a moment, and so may lack what is loaded now."""
        return [key for key in self.intervals(table) if since and key >= interval_key(since)]

    @contextmanager
    def read(self, as_of: datetime | None = None, version: int | datetime | None = None) -> Iterator[Reading]:
        """One consistent look at all tables, as of a moment (None: at everything).

        `version`: of an earlier version, or the one that was published last at a moment. BadSettings where it isn't
        kept. Whoever was erased since isn't in it.
        """
        with self._reading(self.manifest(version), as_of) as reading:
            yield reading

    @contextmanager
    def _reading(self, manifest: Manifest, as_of: datetime | None = None) -> Iterator[Reading]:
        self.store.forget(manifest.kept_files())
        with scratch(self.settings) as folder, duckdb.connect(config=bounds(self.settings, folder)) as connection:
            yield Reading(connection, self.settings, self.store, manifest, as_of)


def _rows(manifest: Manifest, table: str, interval: str) -> int:
    load = manifest.loads(table).get(interval)
    return sum(part.rows for part in load.parts) if load else 0
