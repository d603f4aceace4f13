"""Test sends: what went to the seed list, beside everything that is counted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger.tables import test_sends


def open_call(connection: sa.Connection, row: Mapping[str, Any], now: datetime) -> None:
    """Note that a call is about to be made; `row` has the columns that are known before it."""
    connection.execute(sa.insert(test_sends).values(**row, state="open", opened_at=now))


def close_call(connection: sa.Connection, test_id: str, result: Mapping[str, Any], now: datetime) -> None:
    """Note its result: state, reason, http_status, provider_message_id."""
    mine = test_sends.c.test_id == test_id
    connection.execute(sa.update(test_sends).where(mine).values(**result, closed_at=now))
