"""A demo that stays up, of a small simulated shop, shared by the tests of a session.

The files are in the order of the alphabet: those that only look come first, those that end the demo last.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from controltower.jobs.simulation import simulate_shop
from controltower.settings import INCLUDE
from support.running_demo import Demo, start_demo

from demo.processes import marked, stop_all

# A shop so small that few leave or bounce: of this seed somebody does both on the first day.
SHOP = {"CONTROLTOWER_SIMULATED_CUSTOMERS": "250", "CONTROLTOWER_SIMULATED_SEED": "34"}


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
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Up and done with its two days; one of its campaign specs is broken, and the others are sent within some hours."""
    homes = tmp_path_factory.mktemp("homes")
    specs = tmp_path_factory.mktemp("specs")
    for spec in (INCLUDE / "campaigns").glob("*.yaml"):
        text, shorter = re.subn(r"window: .*", 'window: { start: "08:00", end: "12:00", hours: 24 }', spec.read_text())
        assert shorter == 1
        (specs / spec.name).write_text(text)
    (specs / "half_made.yaml").write_text("name: half_made\ntitle: [unclosed\n")
    process = start_demo("simulated", homes, "--days", "2", CONTROLTOWER_CAMPAIGNS=str(specs), **SHOP)
    try:
        made = Demo.that_is_up("simulated", homes, process)
        with (made.home / "shop.yaml").open("a") as shop:
            shop.write("stale_after_hours: 10000\n")  # the tests plan on later days, which nothing was loaded for
        yield made
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert marked(made.home) == []
    finally:
        process.kill()
        for home in homes.iterdir():
            stop_all(home, patience=0)
