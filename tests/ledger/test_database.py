"""What was committed must outlive a crash: a call that is forgotten is made again. And a look is one moment."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from controltower.jobs.doctor import examine
from controltower.ledger import suppressions, tables
from controltower.ledger.database import begin, forgetful, reading
from controltower.settings import Settings

NOW = datetime(2026, 6, 15, 3, tzinfo=UTC)


def test_a_database_that_forgets_commits_is_told_of(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_HOME", str(ledger_settings.home))
    if ledger_settings.database_url:
        monkeypatch.setenv("CONTROLTOWER_DATABASE_URL", ledger_settings.database_url.get_secret_value())
    with begin(ledger_settings) as ledger:
        sqlite = ledger.dialect.name == "sqlite"
        if sqlite:
            assert ledger.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
    (finding,) = [f for f in examine() if f["name"] == "ledger"]
    assert finding["ok"] == sqlite
    assert sqlite or "fsync" in finding["text"]  # the tests' server has it off
    assert forgetful(ledger_settings) == (None if sqlite else "fsync")


def test_a_look_is_one_moment_of_the_ledger(ledger_settings: Settings) -> None:
    """Else a batch that is done between two questions of a cap would count twice, and its customers lose a message."""
    count = sa.select(sa.func.count()).select_from(tables.suppressions)
    with reading(ledger_settings) as look:
        before = look.execute(count).scalar_one()
        with begin(ledger_settings) as ledger:
            suppressions.add(ledger, "customer", "c1", reason="objected", source="desk", now=NOW)
        assert look.execute(count).scalar_one() == before == 0
    with reading(ledger_settings) as look:
        assert look.execute(count).scalar_one() == 1
