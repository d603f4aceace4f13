"""A simulated shop written straight into a home's lake and ledger, with its truth: the gate is tested elsewhere."""

from __future__ import annotations

import shutil
from datetime import datetime

import pyarrow.parquet as pq
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.ledger import consents
from controltower.settings import Settings
from controltower.simulation import shop
from controltower.simulation.parameters import Parameters

from support.lakes import publish_rows

TABLES = ("customers", "products", "events", "orders", "order_lines")


def make(settings: Settings, until: datetime, **parameters: object) -> dict[str, dict[str, object]]:
    """The truth by customer id. The ledger knows the consents."""
    folder = settings.home / "made"
    folder.mkdir()
    given = {"broken_share": 0.0, "visits": {"anonymous_per_day": 4}}
    shop.generate(folder, until=until, parameters=Parameters.load(**(given | parameters)), seed=7)
    lake = Lake(settings)
    for name in TABLES:
        rows = pq.read_table(folder / f"{name}.parquet")
        publish_rows(lake, name, "first", rows.select(CONTRACT[name].schema.names).cast(CONTRACT[name].schema))
    consents.append(settings, pq.read_table(folder / "consents.parquet"))
    truth = pq.read_table(folder / "truth" / "truth.parquet", columns=["customer_id", "gender", "birth_date"])
    shutil.rmtree(folder)
    return {row["customer_id"]: row for row in truth.to_pylist()}
