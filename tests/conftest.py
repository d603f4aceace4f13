"""Fixtures of every room: a home of its own, a ledger on each database, the real data where it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controltower import settings
from controltower.ledger.database import opened
from controltower.settings import Settings
from pydantic import SecretStr
from support import postgres
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
KEY = "the key of the tests' homes"  # one for all: an empty ledger that is copied knows its home's key


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """The tests of a file run in one process, as they share fixtures; those of tests/demo share a demo."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/demo" if file.startswith("tests/demo/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where Airflow runs comes first: it takes longest and waits most, so that other tests run beside it."""
    items.sort(key=lambda item: item.get_closest_marker("airflow") is None)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CONTROLTOWER_* variable of the person who runs the tests gets in."""
    for name in [n for n in os.environ if n.startswith("CONTROLTOWER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, sqlite_ledger: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home with its empty ledger on SQLite, named by the environment as users name it."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "secret.key").write_text(KEY)
    shutil.copy(sqlite_ledger, folder / "ledger.db")
    monkeypatch.setenv("CONTROLTOWER_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """One PostgreSQL for the whole session, started at the first test that needs it."""
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger to copy: to make its tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    opened(Settings(home=path.parent, database_url=SecretStr(f"sqlite:///{path}"), secret_key=SecretStr(KEY))).dispose()
    return path


@pytest.fixture(scope="session")
def postgres_ledger(postgres_server: postgres.Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database that is an empty ledger, to copy."""
    with postgres_server.database() as url:
        home = tmp_path_factory.mktemp("home")
        engine = opened(Settings(home=home, database_url=SecretStr(url), secret_key=SecretStr(KEY)))
        engine.dispose()
        yield str(engine.url.database)


DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=DATABASES)
def ledger_url(request: pytest.FixtureRequest, home: Path) -> Iterator[str]:
    """The URL of a ledger of its own on each kind of database: its tables are there, and empty."""
    if request.param == "sqlite":
        yield f"sqlite:///{home / 'ledger.db'}"
        return
    template = request.getfixturevalue("postgres_ledger")
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    with server.database(template) as url:
        yield url


@pytest.fixture(params=DATABASES)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of each kind that has no tables yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
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
