"""What was committed must outlive a crash: a call that is forgotten is made again."""

from __future__ import annotations

import pytest
from controltower.jobs.doctor import examine
from controltower.ledger.database import begin, forgetful
from controltower.settings import Settings


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
