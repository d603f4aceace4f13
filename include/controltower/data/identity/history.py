"""Who was one person when, kept in the lake and brought up to it: only what new facts touch is resolved again.

`identity`         customer_id, person_id, since, until: customer ids that belong to a person of another id
`identity_log`     what each link came to (resolver.Entry): merges, and what wasn't merged and why
`identity_claims`  the keys that more than one customer told
`identity_undone`  the merges that somebody has undone
`identity_read`    the files of the lake that the others were made of, and by which rules

What new facts touch are the customers and keys of files that came or went since, whoever brought them; so a load that
was cut short before this is caught up by the next, and any split of the same facts comes to the same rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Any, NamedTuple, get_type_hints

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.data.identity.claims import told
from controltower.data.identity.resolver import (
    MERGED,
    OWN,
    About,
    Claim,
    Entry,
    Limits,
    Resolution,
    Stay,
    Undo,
    by_time,
    groups,
    resolve,
)
from controltower.data.lake import Lake
from controltower.data.manifest import Manifest
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.sql import listed
from controltower.errors import BadSettings
from controltower.shop import Shop

CURRENT = "current"  # the one interval of these tables
SOURCES = ("customers", "identities")
_VERSION = "1"  # of the rules: with another one everything is resolved again

_TIME = pa.timestamp("us", "UTC")


class _Undone(NamedTuple):
    entry_id: str
    one: str
    other: str
    at: datetime
    by: str


class _Read(NamedTuple):
    file: str
    rules: str


TABLES: Mapping[str, type[tuple[Any, ...]]] = {
    "identity": Stay, "identity_log": Entry, "identity_claims": Claim, "identity_undone": _Undone,
    "identity_read": _Read,
}  # fmt: skip
_NAMES = {("identity", "customer"): "customer_id", ("identity", "person"): "person_id"}


@dataclass(frozen=True)
class Changed:
    """What an update came to: customers looked at anew, and the ids that now belong to another than before."""

    customers: int
    merged: int
    parted: int


def update(lake: Lake, shop: Shop) -> Changed:
    """Bring the identity tables up to the lake's files. One process at a time, as for a load."""
    return _update(lake, shop, _rows(lake, "identity_undone"))


def undo(lake: Lake, shop: Shop, entry_id: str, by: str, now: datetime) -> Entry:
    """Part the two customers of a merge from `now` on. Returns the merge; BadSettings where none of that id holds."""
    update(lake, shop)
    held = [e for e in log(lake) if e.entry_id == entry_id and e.outcome == MERGED and e.until is None]
    if not held or held[0].other is None:
        raise BadSettings(
            f"There is no merge {entry_id!r} that holds.", "`controltower identity list` shows those that do."
        )
    if held[0].since > now:
        raise BadSettings(f"The merge {entry_id} is later than now.", "Set the clock right: `controltower clock`.")
    made = _Undone(entry_id, held[0].one, held[0].other, now, by)
    _update(lake, shop, [*_rows(lake, "identity_undone"), made], touched={made.one, made.other})
    return held[0]


def log(lake: Lake) -> list[Entry]:
    """What links came to, the oldest first."""
    return [Entry(*row) for row in _rows(lake, "identity_log")]


def stays(lake: Lake) -> list[Stay]:
    return [Stay(*row) for row in _rows(lake, "identity")]


def undone(lake: Lake) -> list[_Undone]:
    """The merges that were undone, when and by whom."""
    return [_Undone(*row) for row in _rows(lake, "identity_undone")]


def _update(lake: Lake, shop: Shop, undone_ones: Sequence[tuple[Any, ...]], touched: Iterable[str] = ()) -> Changed:
    manifest = lake.manifest()
    rules = f"{_VERSION} {shop.identity.customers_per_key} {shop.identity.customers_per_person} {shop.country}"
    limits = Limits(shop.identity.customers_per_key, shop.identity.customers_per_person)
    files = {table: [p.file for p in manifest.parts(table) if p.rows] for table in SOURCES}
    now = {_Read(file, rules) for some in files.values() for file in some}
    before = {_Read(*row) for row in _rows(lake, "identity_read")}
    seeds = set(touched)
    if now == before and not seeds:
        return Changed(0, 0, 0)
    came_or_went = {r.file for r in now ^ before}
    whole = not before or any(r.rules != rules for r in before) or lake.store.lacking(came_or_went)
    with scratch(lake.settings) as folder, duckdb.connect(config=bounds(lake.settings, folder)) as con, bounded():
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET enable_progress_bar = false")
        con.execute("SET python_enable_replacements = false")  # no variable of ours is a table
        evidence = _Evidence(con, lake, files, shop.country)
        held = [] if whole else [Claim(*row) for row in _rows(lake, "identity_claims")]
        if whole:
            shared = evidence.shared(limits)
        else:
            some = {t: [f for f in came_or_went if f.startswith(f"{t}/")] for t in SOURCES}
            seeds |= evidence.touch(some)
            keys = evidence.touched_keys({(c.kind, c.key) for c in held})
            seeds |= {c.customer for c in held if (c.kind, c.key) in keys}
            fresh = evidence.shared(limits, touched=True)
            seeds |= {c.customer for c in fresh}
            shared = [c for c in held if (c.kind, c.key) not in keys] + fresh
        members = _members(shared, None if whole else seeds)
        theirs = [c for c in shared if c.customer in members]
        undos = [Undo(u[1], u[2], u[3], u[4]) for u in undone_ones]
        found = resolve(theirs, evidence.about(members), undos, limits)
    old = Resolution(stays(lake), log(lake))
    gone = members | seeds
    kept = Resolution([], []) if whole else old
    new = Resolution(
        sorted(found.stays + [s for s in kept.stays if s.customer not in gone], key=by_time),
        sorted(found.entries + [e for e in kept.entries if e.one not in gone], key=by_time),
    )
    _commit(lake, manifest, {
        "identity": new.stays, "identity_log": new.entries, "identity_claims": sorted(shared),
        "identity_undone": undone_ones, "identity_read": sorted(now),
    })  # fmt: skip
    was, is_now = _open(old.stays), _open(new.stays)
    return Changed(len(members), len(is_now.items() - was.items()), len(was.keys() - is_now.keys()))


def _open(some: Iterable[Stay]) -> dict[str, str]:
    return {s.customer: s.person for s in some if s.until is None}


def _members(shared: Iterable[Claim], seeds: set[str] | None) -> set[str]:
    """The customers that have to do with the seeds (None: all), through keys that more than one has."""
    by_key: dict[tuple[str, str], set[str]] = defaultdict(set)
    for claim in shared:
        by_key[claim.kind, claim.key].add(claim.customer)
    return {customer for some in groups(by_key) if seeds is None or some & seeds for customer in some}


class _Evidence:
    """What the lake's files tell, asked on one connection."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, files: Mapping[str, Sequence[str]], country: str
    ) -> None:
        self._con, self._lake, self._country = con, lake, country
        self._files = {table: lake.store.local(some) for table, some in files.items()}
        self._told = told(self._files["customers"], self._files["identities"], country)

    def touch(self, files: Mapping[str, Sequence[str]]) -> set[str]:
        """Note the keys in these files as touched. Returns their customers."""
        some = {table: self._lake.store.local(sorted(found)) for table, found in files.items()}
        query = told(some["customers"], some["identities"], self._country)
        self._con.execute(f"CREATE TEMP TABLE touched AS SELECT DISTINCT kind, key FROM ({query})")
        found: set[str] = set()
        for paths in some.values():
            if paths:
                rows = self._con.execute(
                    f"SELECT DISTINCT customer_id FROM read_parquet({listed(paths)}) WHERE customer_id IS NOT NULL"
                )
                found.update(customer for (customer,) in rows.fetchall())
        return found

    def touched_keys(self, among: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of some keys that are touched."""
        keys = sorted(among)
        rows = pa.table({"kind": [k for k, _ in keys], "key": [k for _, k in keys]}) if keys else None
        if rows is None:
            return set()
        self._con.register("held", rows)
        return set(self._con.execute("SELECT kind, key FROM held SEMI JOIN touched USING (kind, key)").fetchall())

    def shared(self, limits: Limits, touched: bool = False) -> list[Claim]:
        """The claims of keys that several customers told; of each as many as show that they are too many."""
        some = "SEMI JOIN touched USING (kind, key)" if touched else ""
        rows = self._con.sql(f"""
            WITH told AS MATERIALIZED (SELECT * FROM ({self._told}) {some}),
                 several AS (SELECT kind, key FROM told GROUP BY ALL HAVING min(customer_id) <> max(customer_id))
            SELECT kind, key, customer_id, min(since) AS since FROM told SEMI JOIN several USING (kind, key)
            GROUP BY kind, key, customer_id
            QUALIFY row_number() OVER (PARTITION BY kind, key ORDER BY min(since), customer_id)
                    <= {limits.customers_per_key + 1}
            ORDER BY ALL""")
        return [Claim(*row) for row in _tuples(rows.to_arrow_table())]

    def about(self, customers: set[str]) -> dict[str, About]:
        """What else is known of customers."""
        if not customers:
            return {}
        self._con.register("members", pa.table({"customer_id": sorted(customers)}))
        seen = [_NO_ROWS] + [
            f"SELECT customer_id, {known} AS moment, {born} AS born FROM read_parquet({listed(paths)})"
            " SEMI JOIN members USING (customer_id)"
            for table, known, born in (("customers", "updated_at", "birth_date"), ("identities", "seen_at", "NULL"))
            if (paths := self._files[table])
        ]
        rows = self._con.sql(f"""
            SELECT customer_id, min(moment) AS first,
                   list((moment, born) ORDER BY moment, born) FILTER (born IS NOT NULL) AS births
            FROM ({" UNION ALL ".join(seen)}) GROUP BY customer_id""").to_arrow_table()
        births = {}
        for customer, _, told_births in _tuples(rows):
            births[customer] = _changes([tuple(one.values()) for one in told_births or ()])
        keys: dict[str, list[tuple[datetime, str, str]]] = defaultdict(list)
        theirs = told(
            self._files["customers"], self._files["identities"], self._country,
            only="customer_id IN (SELECT customer_id FROM members)",
        )  # fmt: skip
        own = self._con.sql(f"""
            SELECT customer_id, min(since) AS since, kind, key FROM ({theirs})
            WHERE list_contains({listed(list(OWN))}, kind) GROUP BY ALL ORDER BY ALL""").to_arrow_table()
        for customer, *key in _tuples(own):
            keys[customer].append(tuple(key))
        return {c: About(first, births[c], tuple(keys[c])) for c, first, _ in _tuples(rows)}


_NO_ROWS = "SELECT NULL::VARCHAR AS customer_id, NULL::TIMESTAMPTZ AS moment, NULL::DATE AS born WHERE false"


def _changes(told_births: Sequence[tuple[datetime, date]]) -> tuple[tuple[datetime, date], ...]:
    """Birth dates without those that only say again what was said last."""
    return tuple(told_births[:1]) + tuple(b for a, b in pairwise(told_births) if a[1] != b[1])


def _tuples(rows: pa.Table) -> Iterable[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in rows.columns), strict=True)


def _rows(lake: Lake, table: str) -> list[tuple[Any, ...]]:
    files = lake.store.local(part.file for part in lake.manifest().parts(table))
    return [row for file in files for row in _tuples(pq.read_table(file, schema=_schema(table)))]


def _schema(table: str) -> pa.Schema:
    kinds = get_type_hints(TABLES[table])
    return pa.schema(
        [
            (_NAMES.get((table, name), name), _TIME if kind in (datetime, datetime | None) else pa.string())
            for name, kind in kinds.items()
        ]
    )


def _commit(lake: Lake, manifest: Manifest, tables: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    """Publish the tables in one step; one that was empty and stays so needs no file."""
    parts = {}
    for table, rows in tables.items():
        if rows or manifest.parts(table):
            schema = _schema(table)
            columns = zip(*rows, strict=True) if rows else [()] * len(schema)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            parts[table] = lake.write(table, pa.table(arrays, schema=schema))
    if parts:
        lake.commit(CURRENT, parts, manifest)
