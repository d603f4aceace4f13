"""The ledger's own types of columns, alike on SQLite and PostgreSQL."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import BigInteger, Integer, Uuid


class Moment(sa.types.TypeDecorator[datetime]):
    """A UTC time: `timestamptz` on PostgreSQL, naive UTC on SQLite; zone-aware in Python."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger takes zone-aware times only")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class MessageId(sa.types.TypeDecorator[str]):
    """128 bits, written as 32 hexadecimal digits; `uuid` on PostgreSQL."""

    impl = Uuid(as_uuid=True)
    cache_ok = True

    def process_bind_param(self, value: str | None, _: sa.Dialect) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(value)

    def process_result_value(self, value: uuid.UUID | None, _: sa.Dialect) -> str | None:
        return None if value is None else value.hex


# SQLite counts up by itself only in a column declared INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")
