"""The lake for people and other programs: its versions, its files, a table in Delta's form."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import BadSettings, ControlTowerError, NoData
from controltower.jobs.identity import resolve_identity
from controltower.jobs.ingest import alone
from controltower.settings import Settings

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from controltower.data.manifest import Manifest, Part

_EXPORT = "An export of Control Tower's, which the next one replaces."
_OURS = {  # as they are kept, nobody else may read them
    "profiles": "holds what was inferred of people who don't agree to it any more",
    "features_basis": "is for the next day's features only",
}


def list_versions(table: str | None = None) -> dict[str, Any]:
    """The versions of the lake that can be read, newest first: {versions: [...]}.

    Each with version, published (in UTC), interval (none: rows of erased people, or too old ones, went), and tables:
    the rows that the interval, or without one the table, has since. Of `table` only those that changed it, with the
    table's rows altogether.
    """
    from controltower.data.lake import Lake

    found = []
    for version, manifest in Lake(settings.load()).versions():
        swapped = {part.file.partition("/")[0] for part in version.swapped.values()}
        if table is None:
            tables = {t: _rows(manifest.loads(t).get(str(version.interval))) for t in version.now if version.interval}
            if not version.interval:
                tables = {t: _rows(*manifest.loads(t).values()) for t in sorted({*version.now, *swapped})}
        elif table in version.now or table in swapped:
            tables = {table: _rows(*manifest.loads(table).values())}
        else:
            continue
        found.append(
            {
                "version": version.number,
                "published": version.published.isoformat(timespec="seconds"),
                "interval": version.interval,
                "rows": tables,
            }
        )
    return {"versions": found}


def list_files(table: str, version: str | None = None) -> list[str]:
    """The Parquet files of a table, the oldest load first: paths, or the object store's URLs. NoData where none is."""
    from controltower.data.lake import Lake

    _allow(table)
    conf = settings.load()
    lake = Lake(conf)
    return [lake.store.address(part.file) for part in _parts(lake.manifest(_version(version, conf)), table)]


def restore_interval(version: int, interval: str) -> dict[str, Any]:
    """Let a load's interval hold again what it held in an earlier version, also for what is odd about the data.

    Returns {version, interval, tables, load_again}: the rows before and after of each table that changed; and the
    intervals loaded since, which may lack a row because this one had it. BadSettings where it isn't kept any more.
    """
    from controltower.data.contract import CONTRACT
    from controltower.data.lake import Lake
    from controltower.ledger import loads
    from controltower.ledger.database import begin

    conf = settings.load()
    lake = Lake(conf)
    with alone(conf):
        before = lake.manifest()
        published = {entry.number: entry.published for entry, _ in lake.versions()}
        changed = lake.restore(interval, version)
        resolve_identity(conf, settings.load_shop(conf))
        with begin(conf) as ledger:
            loads.again(ledger, interval, list(changed), published[version], clock.now(conf))
    logs = [table for table in changed if table in CONTRACT and CONTRACT[table].kind != "version"]
    since = {i for t in logs for i, load in before.loads(t).items() if i != interval and load.number > version}
    tables = {table: {"before": rows, "after": after} for table, (rows, after) in changed.items()}
    return {"version": version, "interval": interval, "tables": tables, "load_again": sorted(since)}


def export_delta(table: str, folder: Path, as_of: str | None = None, version: str | None = None) -> dict[str, Any]:
    """Write a table as of a moment as a Delta table, in place of an earlier export: never with what that held.

    Of a contract table the last version of each row, by person; of features, scores and recommendations the newest.
    Returns {table, rows, folder}. NoData where the table has none; BadSettings without the package `deltalake`.
    """
    try:
        import deltalake
    except ImportError:
        raise BadSettings("Delta needs a package that isn't there.", "pip install 'controltower[delta]'.") from None
    import pyarrow as pa

    from controltower.data.contract import CONTRACT
    from controltower.data.lake import Lake

    _allow(table)
    conf = settings.load()
    folder = folder.resolve()
    moment = clock.parse(as_of, settings.load_shop(conf)) if as_of else None
    fresh, before = (folder.parent / f".{folder.name}-export-{which}" for which in ("fresh", "before"))
    counted = 0
    with alone(conf, "export"), Lake(conf).read(moment, _version(version, conf)) as reading:
        if before.exists() and not folder.exists():  # an export was killed on its last step
            before.rename(folder)
        _check_place(folder, table)
        for left in (fresh, before):  # by an export that was killed
            shutil.rmtree(left, ignore_errors=True)
        if not reading.has(table):
            raise NoData(f"There are no {table} to export.", "`controltower doctor` tells what the lake has.")
        rows = reading.table(table) if table in CONTRACT else reading.derived(table)

        def batches() -> Iterable[pa.RecordBatch]:
            nonlocal counted
            for batch in reading.batches(reading.sql(rows)):
                counted += batch.num_rows
                yield batch

        fresh.mkdir(parents=True, mode=0o700)
        try:
            reader = pa.RecordBatchReader.from_batches(rows.schema().to_pyarrow(), batches())
            deltalake.write_deltalake(fresh, reader, name=table, description=_EXPORT)
            if folder.exists():
                folder.rename(before)
            try:
                fresh.rename(folder)
            except BaseException:
                if before.exists() and not folder.exists():
                    before.rename(folder)
                raise
            shutil.rmtree(before, ignore_errors=True)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return {"table": table, "rows": counted, "folder": str(folder)}


def _check_place(folder: Path, table: str) -> None:
    """ControlTowerError for a folder that holds anything but an earlier export of the table."""
    from deltalake import DeltaTable

    if folder.is_mount():
        raise ControlTowerError(f"{folder} is a mount point.", "Name a folder in it: an export replaces its folder.")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    is_delta = folder.is_dir() and DeltaTable.is_deltatable(str(folder))
    about = DeltaTable(folder).metadata() if is_delta else None
    export = about is not None and (about.name, about.description) == (table, _EXPORT)
    if not export or not {p.name for p in folder.iterdir()} <= {"_delta_log", *_files_of(DeltaTable(folder))}:
        raise ControlTowerError(
            f"{folder} holds something else.", f"Name a new folder, or that of an earlier export of {table}."
        )


def _files_of(table: DeltaTable) -> set[str]:
    return {Path(uri).name for uri in table.file_uris()}


def _allow(table: str) -> None:
    if table in _OURS:
        raise BadSettings(
            f"{table} isn't given away as it is: it {_OURS[table]}.",
            "`controltower profiles --out` writes what may be used.",
        )


def _parts(manifest: Manifest, table: str) -> list[Part]:
    if table not in manifest.tables:
        raise NoData(f"The lake has no table {table}.", f"It has {', '.join(sorted(manifest.tables)) or 'none yet'}.")
    return [part for part in manifest.parts(table) if part.rows]


def _version(text: str | None, conf: Settings) -> int | datetime | None:
    """A version's number, or a moment."""
    if text is None or text.isdecimal():
        return int(text) if text else None
    return clock.parse(text, settings.load_shop(conf))


def _rows(*loads: Any) -> int:
    return sum(part.rows for load in loads if load for part in load.parts)
