"""Suppressions: stored reasons not to send. An address is kept as a keyed hash only, and so is a push token."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa

from controltower.ledger import merges
from controltower.ledger.database import among
from controltower.ledger.tables import suppressions

_KINDS = ("address", "customer", "device")
_THERE = sa.select(*(sa.exists().where(suppressions.c.kind == kind).label(kind) for kind in _KINDS))
_ADDING = 0x73757070  # PostgreSQL advisory lock: looking and adding are one step


class Suppression(NamedTuple):
    """A stored reason, without the value that it is for; None: all channels, all purposes, for ever."""

    kind: str
    channel: str | None
    purpose: str | None
    reason: str
    source: str
    created_at: datetime
    until: datetime | None
    lifted_by: str | None


def address_hash(key: bytes, address: str) -> str:
    """The keyed hash under which an e-mail address or a push token is suppressed; letter case doesn't matter."""
    mac = _keyed(key).copy()
    mac.update(address.strip().lower().encode())
    return mac.hexdigest()


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> hmac.HMAC:
    """To be copied: setting up the key costs more than the rest."""
    return hmac.new(key, b"address:", "sha256")


def add(
    connection: sa.Connection,
    kind: str,
    value: str,
    *,
    reason: str,
    source: str,
    now: datetime,
    channel: str | None = None,
    purpose: str | None = None,
    site: str | None = None,
    until: datetime | None = None,
) -> bool:
    """Suppress an address (its hash), a customer or a device: on one channel, purpose and site, or on all.

    False: it was suppressed before, for the same reason and as long.
    """
    row = {
        "kind": kind, "value": value, "channel": channel, "purpose": purpose, "site": site,
        "reason": reason, "until": until,
    }  # fmt: skip
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADDING)))
    same = sa.exists().where(*(suppressions.c[name].is_not_distinct_from(given) for name, given in row.items()))
    if connection.execute(sa.select(same)).scalar_one():
        return False
    connection.execute(sa.insert(suppressions).values(**row, source=source, created_at=now))
    return True


def held(
    connection: sa.Connection,
    kind: str,
    channel: str,
    purpose: str,
    now: datetime,
    values: Iterable[str] | None = None,
) -> set[str]:
    """The values of a kind that may not be written to at `now`: of all, or of those given. A merged customer may not
    where one of its person's other ids may not.

    Campaigns have no site yet, so a suppression for one site holds on all.
    """
    s = suppressions.c
    rows = sa.select(s.value).where(
        s.kind == kind,
        sa.or_(s.channel.is_(None), s.channel == channel),
        sa.or_(s.purpose.is_(None), s.purpose == purpose),
        *_at(now),
    )
    if values is not None:
        values = list(values)
    families = merges.families(connection, values) if kind == "customer" else merges.Families({})
    if values is not None:
        rows = rows.where(among(connection, s.value, families.with_others(values)))
    found = families.with_others(connection.execute(rows).scalars())
    return found if values is None or not families else found.intersection(values)


def kinds(connection: sa.Connection) -> set[str]:
    """The kinds of which anything was ever suppressed: the others need not be looked up."""
    return {kind for kind, found in zip(_KINDS, connection.execute(_THERE).one(), strict=True) if found}


def spans(
    connection: sa.Connection, kind: str, channel: str, purpose: str, values: Iterable[str]
) -> dict[str, list[tuple[datetime, datetime | None]]]:
    """From when until when each of these values was suppressed, or is; a value that never was is left out."""
    s = suppressions.c
    rows = sa.select(s.value, s.created_at, s.until).where(
        s.kind == kind,
        sa.or_(s.channel.is_(None), s.channel == channel),
        sa.or_(s.purpose.is_(None), s.purpose == purpose),
        among(connection, s.value, values),
    )
    found: dict[str, list[tuple[datetime, datetime | None]]] = {}
    for value, start, until in connection.execute(rows):
        found.setdefault(value, []).append((start, until))
    return found


def since(connection: sa.Connection, kind: str, values: Iterable[str], reason: str, now: datetime) -> datetime | None:
    """When the oldest suppression of these values for this reason began that holds at `now`; None: none does."""
    s = suppressions.c
    oldest = sa.select(sa.func.min(s.created_at)).where(*_holding(kind, values, now), s.reason == reason)
    return connection.execute(oldest).scalar()


def end(connection: sa.Connection, kind: str, values: Iterable[str], reason: str, now: datetime, by: str) -> int:
    """Let the suppressions of these values for this reason hold until `now`, as `by` wished. Returns how many did."""
    holding = sa.update(suppressions).where(*_holding(kind, values, now), suppressions.c.reason == reason)
    return connection.execute(holding.values(until=now, lifted_by=by)).rowcount


def of(connection: sa.Connection, values: Mapping[str, Collection[str]], now: datetime) -> list[Suppression]:
    """What holds at `now` for these values, given by kind; the oldest first."""
    return _found(connection, values, *_at(now))


def lifted(connection: sa.Connection, values: Mapping[str, Collection[str]]) -> list[Suppression]:
    """What held for these values until somebody ended it; the oldest first."""
    return _found(connection, values, suppressions.c.lifted_by.is_not(None))


def _found(
    connection: sa.Connection, values: Mapping[str, Collection[str]], *which: sa.ColumnElement[bool]
) -> list[Suppression]:
    s = suppressions.c
    rows = sa.select(*(s[name] for name in Suppression._fields)).where(*which)
    found = [
        Suppression(*row)
        for kind, some in values.items()
        for row in connection.execute(rows.where(s.kind == kind, s.value.in_(list(some))))
    ]
    return sorted(found, key=lambda s: s.created_at)


def counts(connection: sa.Connection, now: datetime) -> list[tuple[str, str | None, str, int]]:
    """How many hold at `now`: (kind, channel, reason, number), the most first."""
    s = suppressions.c
    number = sa.func.count()
    rows = sa.select(s.kind, s.channel, s.reason, number).where(*_at(now)).group_by(s.kind, s.channel, s.reason)
    return [(r[0], r[1], r[2], r[3]) for r in connection.execute(rows.order_by(number.desc(), s.kind, s.reason))]


def _holding(kind: str, values: Iterable[str], now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (suppressions.c.kind == kind, suppressions.c.value.in_(list(values)), *_at(now))


def _at(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    s = suppressions.c
    return s.created_at <= now, sa.or_(s.until.is_(None), s.until > now)


def dead_devices(connection: sa.Connection, tokens: Mapping[str, str], purpose: str, now: datetime) -> set[str]:
    """The devices whose push token is suppressed, of device id -> the token's hash; with a new token they are open."""
    dead = held(connection, "address", "push", purpose, now, set(tokens.values()))
    return {device for device, token in tokens.items() if token in dead}
