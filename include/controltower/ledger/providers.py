"""How providers fare, and what was taken of their limits: what all dispatchers know together.

A row is there once something was to be noted. Pauses and rates go by the database's clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from controltower.ledger.database import Epoch, among
from controltower.ledger.insert import insert_new
from controltower.ledger.tables import delivery_events, provider_rates, providers, requests

FOREVER = math.inf  # until somebody resumes it
_CALLS = 10_000  # read at once


class Paused(Exception):
    """A provider was paused meanwhile: no further call to it may begin."""


class Standing(NamedTuple):
    """How a provider fares. `waits`: seconds of its pause that are left, 0 where it isn't paused."""

    name: str
    waits: float = 0.0
    why: str | None = None
    refused: str | None = None
    failures: int = 0
    pauses: int = 0
    size: int | None = None
    resumed_at: datetime | None = None
    resumed_by: str | None = None


class Bucket(NamedTuple):
    """What was taken of a rate, in epoch seconds: see tables.provider_rates."""

    spent_until: float = 0.0
    queued_until: float = 0.0


class Usage(NamedTuple):
    """What was taken of a provider's limits; `now` by the database's clock, `taken` on the day asked for."""

    now: float
    taken: int
    buckets: Mapping[str, Bucket]  # by domain; "" is all


_p = providers.c
_left = sa.case((_p.paused_until > Epoch(), _p.paused_until - Epoch()), else_=0.0)
_standing = sa.select(_p.name, _left, _p.why, _p.refused, _p.failures, _p.pauses, _p.size, _p.resumed_at, _p.resumed_by)


def standings(connection: sa.Connection) -> dict[str, Standing]:
    """By name; a provider that isn't there fares well."""
    return {row[0]: Standing(*row) for row in connection.execute(_standing.order_by(_p.name))}


def lock(connection: sa.Connection, name: str) -> Standing:
    """A provider's standing, which nobody else changes until the transaction ends."""
    return Standing(*_locked(connection, name, _standing))


def _locked(connection: sa.Connection, name: str, columns: sa.Select[Any]) -> sa.Row[Any]:
    mine = columns.where(_p.name == name).with_for_update()
    if (row := connection.execute(mine).one_or_none()) is None:
        insert_new(connection, providers, [{"name": name}])
        row = connection.execute(mine).one()
    return row


def write(connection: sa.Connection, standing: Standing) -> None:
    """Keep a standing that was locked and changed."""
    until = Epoch() + standing.waits if standing.waits < FOREVER else FOREVER
    kept = {name: getattr(standing, name) for name in ("why", "refused", "failures", "pauses", "size")}
    change = sa.update(providers).where(_p.name == standing.name)
    connection.execute(change.values(paused_until=until, **kept))


def is_paused(name: str) -> sa.Label[bool]:
    """Whether a provider is paused, as a column `is_paused`; null where it has no row."""
    return sa.select(_p.paused_until > Epoch()).where(_p.name == name).scalar_subquery().label("is_paused")


def resume(connection: sa.Connection, name: str, by: str, now: datetime) -> Standing:
    """End a pause and forget what led to it. Returns how the provider stood."""
    before = lock(connection, name)
    write(connection, Standing(name))
    connection.execute(sa.update(providers).where(_p.name == name).values(resumed_at=now, resumed_by=by))
    return before


def usage(connection: sa.Connection, name: str, day: str | None, domains: Collection[str]) -> Usage:
    """What was taken; nobody else takes any until the transaction ends."""
    row = _locked(connection, name, sa.select(Epoch().label("now"), _p.day, _p.taken))
    r = provider_rates.c
    found = sa.select(r.domain, r.spent_until, r.queued_until).where(
        r.provider == name, among(connection, r.domain, domains)
    )
    buckets = {domain: Bucket(*times) for domain, *times in connection.execute(found)} if domains else {}
    return Usage(row.now, row.taken if day and row.day and row.day >= day else 0, buckets)


def take(connection: sa.Connection, name: str, day: str | None, taken: int, buckets: Mapping[str, Bucket]) -> None:
    """Keep what was taken altogether, after `usage` in the same transaction; without a day only of the rates."""
    if day:
        today, so_far = connection.execute(sa.select(_p.day, _p.taken).where(_p.name == name)).one()
        if today and today > day:  # who began before midnight takes from the new day, and gives nothing back to it
            day, taken = today, max(so_far, taken)
        connection.execute(sa.update(providers).where(_p.name == name).values(day=day, taken=taken))
    if buckets:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        new = dialect.insert(provider_rates)
        kept = {column: new.excluded[column] for column in Bucket._fields}
        connection.execute(
            new.on_conflict_do_update(index_elements=["provider", "domain"], set_=kept),
            [{"provider": name, "domain": domain, **bucket._asdict()} for domain, bucket in buckets.items()],
        )


def complaints(connection: sa.Connection, name: str, since: datetime) -> tuple[int, int]:
    """How many messages were complained of, of how many that the provider took: both since then."""
    e, r = delivery_events.c, requests.c
    told = sa.select(sa.func.count(e.message_id.distinct())).where(
        e.provider == name, e.event == "complained", e.received_at > since
    )
    calls = sa.select(r.members).where(r.provider == name, r.state == "sent", r.opened_at > since)
    rows: Iterable[bytes] = connection.execute(calls.execution_options(yield_per=_CALLS)).scalars()
    return int(connection.execute(told).scalar_one()), sum(int.from_bytes(m, "little").bit_count() for m in rows)
