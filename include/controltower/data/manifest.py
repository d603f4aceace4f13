"""The lake's manifest: which immutable files make up each table, interval by interval, and which did before.

Each publication is a numbered entry, `versions/0000000042.json`, which only one process can create: it says what
changed, of all its tables together. `manifest.json` is what the entries up to some number came to; whoever reads
applies those that follow. So a reader sees one version of all tables, and a load of several is seen whole or not at
all, also when its process is killed halfway, in a folder and in an object store alike.

Entries tell what was there before, too: going back over them gives an earlier version. Files are never changed. A
replaced one stays as long as a version that names it, and a grace longer, for readers that began before. Only `swap`
reaches into the past: it lets other files take the place of some in every version, and those go after the grace.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from controltower import clock
from controltower.data.contract import CONTRACT
from controltower.data.stores import Store
from controltower.errors import BadSettings, BadSource, ControlTowerError, TryAgain

log = logging.getLogger(__name__)

FORM = 2  # of the manifest and its entries: 1 knew no entries. Whoever knows only that refuses what we write
NAME = "manifest.json"
LOG = "versions"
_TRIES = 1000  # somebody else got the next number each time
ABANDONED = 7 * 86_400.0  # seconds after which a file that was never published is of a writer that died


class Part(NamedTuple):
    """One immutable Parquet file: its path below the lake, the UTC date of its rows where they have one, its rows."""

    file: str
    date: str | None
    rows: int


class Replaced(NamedTuple):
    """A part that isn't of the newest version any more, since when (epoch seconds), and whether of none at all."""

    part: Part
    at: float
    swapped: bool


@dataclass(frozen=True)
class Load:
    """What one interval holds of a table. `number` orders the loads: the later one wins a tie between versions."""

    number: int
    parts: tuple[Part, ...]


Tables = Mapping[str, Mapping[str, Load]]
_Changes = Mapping[str, Mapping[str, Load | None]]  # None: no such interval
_T = TypeVar("_T")


@dataclass(frozen=True)
class Manifest:
    version: int = 0
    tables: Tables = field(default_factory=dict)
    replaced: tuple[Replaced, ...] = ()  # files that are there still

    def loads(self, table: str) -> Mapping[str, Load]:
        return self.tables.get(table, {})

    def parts(self, table: str, *, without: str | None = None) -> list[Part]:
        """The table's parts, oldest load first; `without` leaves one interval out."""
        loads = [load for interval, load in self.loads(table).items() if interval != without]
        return [part for load in sorted(loads, key=lambda load: load.number) for part in load.parts]

    def earlier_parts(self, table: str) -> list[Part]:
        """Those that only earlier versions have."""
        return [r.part for r in self.replaced if not r.swapped and r.part.file.startswith(f"{table}/")]

    def files(self) -> set[str]:
        return _files(self.tables)

    def kept_files(self) -> set[str]:
        """The same of all versions that are kept."""
        return self.files() | {r.part.file for r in self.replaced if not r.swapped}


@dataclass(frozen=True)
class Version:
    """An entry: what was published when, by the home's clock; what its tables' intervals hold now, and did before."""

    number: int
    published: datetime
    interval: str | None  # None: parts of several were swapped or dropped
    now: _Changes = field(default_factory=dict)
    was: _Changes = field(default_factory=dict)
    swapped: Mapping[str, Part] = field(default_factory=dict)  # by the file that it takes the place of


class Keeping(NamedTuple):
    """Seconds that replaced files are kept: for readers, and beyond these for those who read earlier versions."""

    grace: float
    versions: float = 0.0


def read(store: Store) -> Manifest:
    """The manifest as it is now; an empty one where the lake doesn't exist yet."""
    raw = store.get(NAME)
    found = _read(raw, NAME, _manifest) if raw is not None else Manifest()
    while (raw := store.get(_entry(found.version + 1))) is not None:
        name = _entry(found.version + 1)
        found = _after(found, _read(raw, name, _version), store.written(name))
    if not found.version and (entries := store.others(LOG, ())):
        if _entry(1) not in entries:
            raise _damaged(NAME)
        return read(store)  # the first one came meanwhile
    return found


def check_schema(version: int, name: str, latest: int) -> None:
    """Raise BadSource for what a later Control Tower wrote."""
    if version > latest:
        raise BadSource(
            f"{name} has schema version {version}; this Control Tower knows up to {latest}.",
            "Upgrade Control Tower, or use the home with the version that wrote it.",
        )


def history(store: Store, keeping: Keeping) -> list[tuple[Version, Manifest]]:
    """The versions that are kept, newest first: what each published, and the lake as it was then.

    Only those whose files stay for a reader that begins now.
    """
    manifest = read(store)
    entries = {name: _read(raw, name, _version) for name, raw in store.get_all(store.others(LOG, ())).items()}
    since = clock.wall() - keeping.versions
    files = manifest.files() | {r.part.file for r in manifest.replaced if not r.swapped and r.at >= since}
    swapped, found = dict[str, Part](), []
    while entry := entries.get(_entry(manifest.version)):
        found.append((entry, manifest))
        swapped = {**entry.swapped, **swapped}
        back = {t: {i: load and _swapped(load, swapped) for i, load in some.items()} for t, some in entry.was.items()}
        if not _files(back) <= files:
            break
        manifest = Manifest(entry.number - 1, _changed(manifest.tables, back))
    return found


def at(store: Store, keeping: Keeping, version: int | datetime) -> Manifest:
    """The lake as it was at a version, or at a moment. BadSettings where that isn't kept."""
    newest = read(store)
    if version == newest.version:
        return newest
    found = history(store, keeping)
    for entry, manifest in found:
        if entry.number == version or (isinstance(version, datetime) and entry.published <= version):
            return manifest
    kept = f"The earliest that is kept is {found[-1][0].number}." if found else "None is kept yet."
    raise BadSettings(f"There is no version {version} of the lake. {kept}", "`controltower lake versions` lists them.")


def commit(
    store: Store, keeping: Keeping, published: datetime, interval: str, tables: Mapping[str, tuple[Part, ...]],
    *, instead_of: Tables | None = None, read: Manifest | None = None,
) -> None:  # fmt: skip
    """Let `interval` of each table consist of these parts, all tables in one step. Safe among processes.

    `instead_of`: what these tables then lack; TryAgain where it isn't there any more. `read`: the manifest by which
    the parts were made; TryAgain where these tables have changed since.
    """
    instead_of = instead_of or {}

    def change(old: Manifest) -> Version:
        if any(old.loads(t).get(i) != load for t, loads in instead_of.items() for i, load in loads.items()):
            raise TryAgain(f"What was to become {interval} was published anew meanwhile.", "Run the job again.")
        if read:
            _check_unchanged(old, read, tables, interval)
        load = {t: Load(old.version + 1, parts) for t, parts in tables.items()}
        now = {t: {**dict.fromkeys(instead_of.get(t, ())), interval: load[t]} for t in tables}
        return _instead(old, published, interval, now)

    lacking = store.lacking([part.file for parts in tables.values() for part in parts])
    if lacking:
        raise BadSource(f"{lacking[0]} vanished from the lake before it was published.", "Run the job again.")
    _publish(store, keeping, change)


def restore(
    store: Store, keeping: Keeping, published: datetime, interval: str, tables: Tables, fresh: Collection[str],
    read: Manifest,
) -> None:  # fmt: skip
    """Let an interval hold what it held in an earlier version: `tables` are that version's, but for `fresh` files.
    TryAgain where these tables have changed since `read`."""

    def change(old: Manifest) -> Version:
        _check_unchanged(old, read, tables, interval)
        now = {
            t: {interval: loads.get(interval) or _emptied(t, old.loads(t).get(interval))} for t, loads in tables.items()
        }
        if not _files(now) <= old.kept_files() | set(fresh):
            raise TryAgain("What is to be restored was replaced meanwhile.", "Run it again.")
        return _instead(old, published, interval, now)

    _publish(store, keeping, change)


def swap(store: Store, keeping: Keeping, published: datetime, parts: Mapping[str, Part]) -> set[str]:
    """Let other parts take the place of these files wherever a kept version names them, in one step.

    Returns which files the newest version had. Those that nothing named any more change nothing.
    """
    named: set[str] = set()

    def change(old: Manifest) -> Version:
        nonlocal named
        named = old.files() & parts.keys()
        there = old.kept_files() & parts.keys()
        return Version(old.version + 1, published, None, swapped={f: p for f, p in parts.items() if f in there})

    _publish(store, keeping, change)
    return named


def drop(
    store: Store, keeping: Keeping, published: datetime, gone: Mapping[str, Mapping[str, Collection[Part]]]
) -> None:
    """Let these parts (by table and interval) be named no longer, in one step."""

    def change(old: Manifest) -> Version:
        now: dict[str, dict[str, Load | None]] = {}
        for table, some in gone.items():
            loads = old.loads(table)
            left = {
                i: Load(loads[i].number, tuple(p for p in loads[i].parts if p not in some[i]))
                for i in some
                if i in loads
            }
            now[table] = {i: load if load.parts else _emptied(table, load) for i, load in left.items()}
        return _instead(old, published, None, now)

    _publish(store, keeping, change)


def sweep(store: Store) -> None:
    """Remove what nobody names: what writers left who died before they published, or as they tidied up."""
    manifest, before = read(store), clock.wall() - ABANDONED
    known = manifest.files() | {r.part.file for r in manifest.replaced}
    for table in {*CONTRACT, *manifest.tables} if manifest.version else ():  # else it may be lost, not all it named
        store.remove(store.others(table, known, before))
    store.remove_halves(before)


def _publish(store: Store, keeping: Keeping, change: Callable[[Manifest], Version]) -> None:
    """Add an entry to those there are, whoever else does meanwhile, and remove what was kept long enough."""
    for _ in range(_TRIES):
        old = read(store)
        version = change(old)
        if store.create(_entry(version.number), _as_json(_raw_version(version))):
            break
    else:
        raise TryAgain("Other processes publish to the lake without a pause.", "Run the job again.")
    try:
        _tidy(store, keeping, old, version)
    except (OSError, ControlTowerError) as e:  # it is published: what is left to do, the next publication does
        log.warning("version %d of the lake holds, but couldn't be tidied up after: %s", version.number, e)


def _tidy(store: Store, keeping: Keeping, old: Manifest, version: Version) -> None:
    now = store.written(_entry(version.number))
    new = _after(old, version, now)
    due = {
        r.part.file for r in new.replaced
        if r.at < now - keeping.grace - (0.0 if r.swapped else keeping.versions)
    }  # fmt: skip
    new = replace(new, replaced=tuple(r for r in new.replaced if r.part.file not in due))
    store.put(NAME, _as_json(_raw_manifest(new)))
    store.remove(due)  # what a process that is killed here leaves is swept
    # an entry stays for long: a process that was held up may put an old manifest in place
    store.remove(store.others(LOG, (), before=now - max(keeping.versions, ABANDONED)))


def _check_unchanged(old: Manifest, read: Manifest, tables: Collection[str], interval: str) -> None:
    """Of a contract table no row may be in two intervals; of the others, each interval is for itself."""
    others = [t for t in tables if old.loads(t) != read.loads(t)]
    if changed := [t for t in others if t in CONTRACT or old.loads(t).get(interval) != read.loads(t).get(interval)]:
        raise TryAgain(
            f"Another process loaded {', '.join(changed)} meanwhile, so rows could be there twice: nothing was loaded.",
            "Run the job again. Of the machines that share a lake, one only should load.",
        )


def _emptied(table: str, load: Load | None) -> Load | None:
    """What an interval without parts is: of a contract table it stays, as one that is gone was merged into another."""
    return Load(load.number, ()) if load and table in CONTRACT else None


def _instead(old: Manifest, published: datetime, interval: str | None, now: _Changes) -> Version:
    was = {t: {i: old.loads(t).get(i) for i in some} for t, some in now.items()}
    return Version(old.version + 1, published, interval, now, was)


def _after(old: Manifest, version: Version, at: float) -> Manifest:
    """The manifest once an entry, written at a time, holds."""
    tables = _changed(old.tables, version.now)
    replaced = list(old.replaced)
    if version.swapped:
        tables = {t: {i: _swapped(x, version.swapped) for i, x in loads.items()} for t, loads in tables.items()}
        replaced = [r._replace(part=version.swapped.get(r.part.file, r.part)) for r in replaced]
        replaced += [Replaced(p._replace(file=file), at, swapped=True) for file, p in version.swapped.items()]
    after = _files(version.now)
    replaced = [r for r in replaced if r.part.file not in after]
    replaced += [Replaced(part, at, swapped=False) for part in _parts(version.was) if part.file not in after]
    return Manifest(version.number, tables, tuple(replaced))


def _parts(tables: _Changes) -> list[Part]:
    return [part for loads in tables.values() for load in loads.values() if load for part in load.parts]


def _files(tables: _Changes) -> set[str]:
    return {part.file for part in _parts(tables)}


def _changed(tables: Tables, by: _Changes) -> Tables:
    changed = {
        t: {i: load for i, load in {**tables.get(t, {}), **some}.items() if load is not None} for t, some in by.items()
    }
    return {**tables, **changed}


def _swapped(load: Load, parts: Mapping[str, Part]) -> Load:
    def last(part: Part) -> Part:
        while part.file in parts:
            part = parts[part.file]
        return part

    return Load(load.number, tuple(last(part) for part in load.parts))


def _entry(number: int) -> str:
    return f"{LOG}/{number:010d}.json"


def _read(raw: bytes, name: str, parsed: Callable[[dict[str, Any]], _T]) -> _T:
    try:
        found = json.loads(raw)
        check_schema(found["schema"], name, FORM)
        return parsed(found)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(name) from None


def _damaged(name: str) -> BadSource:
    return BadSource(f"The lake's {name} is damaged.", "Restore it from a backup, or remove the lake and ingest again.")


def _as_json(raw: Mapping[str, Any]) -> bytes:
    return json.dumps({"schema": FORM, **raw}).encode()


def _raw_manifest(manifest: Manifest) -> dict[str, Any]:
    return {"version": manifest.version, "tables": _raw_tables(manifest.tables), "replaced": manifest.replaced}


def _manifest(raw: Mapping[str, Any]) -> Manifest:
    replaced = tuple(Replaced(Part(*part), at, swapped) for part, at, swapped in raw.get("replaced", ()))
    tables = {t: {i: _load(x) for i, x in loads.items()} for t, loads in raw["tables"].items()}
    return Manifest(raw["version"], tables, replaced)


def _raw_version(version: Version) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,  # no two entries are the same: see Bucket._create
        "version": version.number, "published": version.published.isoformat(), "interval": version.interval,
        "now": _raw_tables(version.now), "was": _raw_tables(version.was), "swapped": version.swapped,
    }  # fmt: skip


def _version(raw: Mapping[str, Any]) -> Version:
    now, was = ({t: {i: x and _load(x) for i, x in some.items()} for t, some in raw[n].items()} for n in ("now", "was"))
    published = datetime.fromisoformat(raw["published"])
    swapped = {file: Part(*part) for file, part in raw["swapped"].items()}
    return Version(raw["version"], published, raw["interval"], now, was, swapped)


def _raw_tables(tables: _Changes) -> dict[str, Any]:
    return {
        t: {i: {"number": x.number, "parts": x.parts} if x else None for i, x in loads.items()}
        for t, loads in tables.items()
    }


def _load(raw: Mapping[str, Any]) -> Load:
    return Load(raw["number"], tuple(Part(*part) for part in raw["parts"]))
