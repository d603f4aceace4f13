"""A demo that stays up, of a small simulated shop, shared by the tests of a session."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from controltower.jobs.simulation import simulate_shop
from controltower.settings import INCLUDE
from support.running_demo import Demo, read_until, start_demo

from demo.processes import marked, stop_all
from demo.tower import USER, Api, passwords


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    simulate_shop(folder, until="2026-06-15", customers=150)
    return folder


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Path]:
    """A folder for demos' homes; whatever runs on them is killed in the end."""
    yield tmp_path
    for home in [*tmp_path.iterdir(), *tmp_path.glob("*/*")]:
        stop_all(home, patience=0)


@pytest.fixture(scope="session")
def demo(small_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Up and done with its day; one of its campaign specs is broken."""
    homes = tmp_path_factory.mktemp("homes")
    specs = tmp_path_factory.mktemp("specs")
    shutil.copytree(INCLUDE / "campaigns", specs, dirs_exist_ok=True)
    (specs / "half_made.yaml").write_text("name: half_made\ntitle: [unclosed\n")
    process = start_demo(small_shop, homes, CONTROLTOWER_CAMPAIGNS=str(specs))
    try:
        said = read_until(process, "It stays up until Ctrl-C")
        (home,) = homes.iterdir()
        url = re.search(r"Airflow  (\S+)", said)
        inbox = re.search(r"Inbox    (\S+)", said)
        assert url and inbox
        api = Api(url[1], passwords(home / "airflow")[USER])
        api.log_in()
        yield Demo(small_shop, homes, home, process, said, api, inbox[1])
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert marked(home) == []
    finally:
        process.kill()
        for home in homes.iterdir():
            stop_all(home, patience=0)
