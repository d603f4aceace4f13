"""Fixtures of every room: a home of its own, a ledger on each database, the real data where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from controltower import settings
from controltower.settings import Settings
from support import postgres

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CONTROLTOWER_* variable of the person who runs the tests gets in."""
    for name in [n for n in os.environ if n.startswith("CONTROLTOWER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home with its ledger on SQLite, named by the environment as users name it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("CONTROLTOWER_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """One PostgreSQL for the whole session, started at the first test that needs it."""
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, home: Path) -> Iterator[str]:
    """The URL of a fresh, empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{home / 'ledger.db'}"
        return
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    with server.database() as url:
        yield url


@pytest.fixture
def ledger_settings(ledger_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an empty home whose ledger is on each kind of database."""
    monkeypatch.setenv("CONTROLTOWER_DATABASE_URL", ledger_url)
    return settings.load()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data is not at {SHARED_DATA}")
    return SHARED_DATA
