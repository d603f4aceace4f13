"""The fixtures themselves: each test gets a fresh database of each kind."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from controltower import settings
from controltower.settings import Settings


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_gets_an_empty_database(ledger_settings: Settings, attempt: int) -> None:
    engine = sa.create_engine(ledger_settings.ledger_url)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("create table seen (n integer)"))
    assert settings.load().ledger_url == ledger_settings.ledger_url
    engine.dispose()
