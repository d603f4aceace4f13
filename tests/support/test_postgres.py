"""The fixtures themselves: each test gets a database of its own, of each kind."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from controltower.ledger.database import begin
from controltower.ledger.tables import subjects
from controltower.settings import Settings

NOW = datetime(2026, 6, 15, tzinfo=UTC)


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_gets_an_empty_database(empty_database: str, attempt: int) -> None:
    engine = sa.create_engine(empty_database)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("create table seen (n integer)"))
    engine.dispose()


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_gets_an_empty_ledger(ledger_settings: Settings, attempt: int) -> None:
    with begin(ledger_settings) as ledger:
        ledger.execute(sa.insert(subjects).values(customer_id="c", subject_id=attempt, created_at=NOW))
        assert ledger.scalar(sa.select(sa.func.count()).select_from(subjects)) == 1
