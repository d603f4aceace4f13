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
from support.patience import PATIENCE
from support.running_demo import Demo

from demo.processes import marked, stop_all

# In a shop so small hardly anybody leaves: of this seed one customer unsubscribes on the first day, and another's
# address bounces. Both are of win_back's audience.
SHOP = {"CONTROLTOWER_SIMULATED_CUSTOMERS": "300", "CONTROLTOWER_SIMULATED_SEED": "174"}
WINDOW = 'window: { start: "08:00", end: "12:00", hours: 24 }'  # so that few dispatches send it all


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
    """Up and done with its two days; one of its campaign specs is broken, the others are sent in the morning."""
    homes = tmp_path_factory.mktemp("homes")
    specs = tmp_path_factory.mktemp("specs")
    for spec in (INCLUDE / "campaigns").glob("*.yaml"):
        (specs / spec.name).write_text(re.sub("(?m)^window: .*", WINDOW, spec.read_text()))
    win_back = specs / "win_back.yaml"
    win_back.write_text(win_back.read_text().replace("holdout: 0.1", "holdout: 0"))  # who is held out can't bounce
    (specs / "half_made.yaml").write_text("name: half_made\ntitle: [unclosed\n")
    environment = SHOP | {"CONTROLTOWER_CAMPAIGNS": str(specs)}
    try:
        made = Demo.start("simulated", homes, "--days", "2", **environment)
        with (made.home / "shop.yaml").open("a") as shop:
            # the tests plan on later days, which nothing was loaded for
            shop.write("stale_after_hours: 10000\ndata_stale_hours: {}\n")
        yield made
        if made.process.poll() is None:
            made.process.send_signal(signal.SIGINT)
        assert made.process.wait(PATIENCE) == 0
        assert marked(made.home) == []
    finally:
        for home in homes.iterdir():
            stop_all(home, patience=0)
