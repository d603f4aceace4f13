from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from controltower.sandbox import credentials
from controltower.sandbox.credentials import Credentials
from support.sandbox import Running, open_sandbox


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return credentials.make(tmp_path_factory.mktemp("credentials"), "http://127.0.0.1:9")


@pytest.fixture(scope="session")
def shared(made: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One sandbox for cases that leave nothing another case looks at."""
    with open_sandbox(made, tmp_path_factory.mktemp("shared") / "inbox.db") as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(made: Credentials, tmp_path: Path) -> Iterator[Running]:
    with open_sandbox(made, tmp_path / "inbox.db") as sandbox:
        yield sandbox
