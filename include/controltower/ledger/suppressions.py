"""Suppressions: stored reasons not to send. An address is kept as a keyed hash only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger.tables import suppressions


def address_hash(key: bytes, address: str) -> str:
    """The keyed hash under which an e-mail address is suppressed; letter case doesn't matter."""
    return hmac.new(key, b"address:" + address.strip().lower().encode(), hashlib.sha256).hexdigest()


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
) -> None:
    """Suppress an address (its hash), a customer or a device: on one channel, purpose and site, or on all."""
    connection.execute(
        sa.insert(suppressions).values(
            kind=kind, value=value, channel=channel, purpose=purpose, site=site,
            reason=reason, source=source, created_at=now, until=until,
        )
    )  # fmt: skip


def held(
    connection: sa.Connection,
    kind: str,
    channel: str,
    purpose: str,
    now: datetime,
    values: Iterable[str] | None = None,
) -> set[str]:
    """The values of a kind that may not be written to at `now`: of all, or of those given.

    Campaigns have no site yet, so a suppression for one site holds on all.
    """
    s = suppressions.c
    rows = sa.select(s.value).where(
        s.kind == kind,
        s.created_at <= now,
        sa.or_(s.channel.is_(None), s.channel == channel),
        sa.or_(s.purpose.is_(None), s.purpose == purpose),
        sa.or_(s.until.is_(None), s.until > now),
    )
    if values is not None:
        rows = rows.where(s.value.in_(list(values)))
    return set(connection.execute(rows).scalars())
