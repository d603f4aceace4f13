"""A small shop, made once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.simulation import shop
from controltower.simulation.parameters import Parameters

UNTIL = datetime.fromisoformat("2026-06-05T07:00:00+09:00")
SEED = 7


def small(**changes: object) -> Parameters:
    given: dict[str, object] = {"customers": 200, "days": 60, "products": 120, "broken_share": 0.0}
    return Parameters.load(**(given | {"visits": {"anonymous_per_day": 4}} | changes))


def read(folder: Path) -> dict[str, pa.Table]:
    return {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"))}


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small-shop")
    shop.generate(folder, until=UNTIL, parameters=small(), seed=SEED)
    return folder


@pytest.fixture(scope="session")
def tables(small_shop: Path) -> dict[str, pa.Table]:
    return read(small_shop)
