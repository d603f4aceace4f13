"""A home whose customers are scored day by day, so that campaigns can be planned: nothing is trained for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow as pa
from controltower.data.lake import Lake, interval_key
from controltower.ledger import consents
from controltower.ledger.database import begin
from controltower.settings import INCLUDE, Settings

from support.lakes import publish_rows
from support.shop_tables import product, table


def score(settings: Settings, as_of: datetime, customers: Sequence[str]) -> None:
    """Features, scores and recommendations as of a moment, of exactly these customers."""
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    who = {"customer_id": text, "as_of": pa.timestamp("us", tz="UTC")}
    rows = [{"customer_id": c, "as_of": as_of, "lifecycle": "active"} for c in customers]
    expected = {"propensity_7d": 0.5, "propensity_28d": 0.5, "send_hour": 10, "model_version": "test"}
    picks = [
        row | {"placement": "for_you", "rank": n + 1, "product_id": f"p{n}", "algorithm": "als"}
        for row in rows for n in range(6)
    ]  # fmt: skip
    types = {"propensity_7d": number, "propensity_28d": number, "send_hour": whole, "model_version": text}
    placed = {"placement": text, "rank": whole, "product_id": text, "algorithm": text}
    tables = {
        "features": (rows, {"lifecycle": text}),
        "scores": ([row | expected for row in rows], types),
        "recommendations": (picks, placed | {"reason_code": text, "reason_value": text}),
    }
    lake = Lake(settings)
    for name, (made, columns) in tables.items():
        publish_rows(lake, name, interval_key(as_of), pa.Table.from_pylist(made, schema=pa.schema(who | columns)))


def open_shop(settings: Settings, day: datetime, customers: Sequence[str]) -> None:
    """The simulated shop's file, its products, and these customers, who agreed to e-mail a month before `day`."""
    before = day - timedelta(days=30)
    shop = (INCLUDE / "shops" / "simulated.yaml").read_text(encoding="utf-8")
    (settings.home / "shop.yaml").write_text(f"{shop}\nexplore_hours: 0\n", encoding="utf-8")  # all are due at 10
    people = [{"customer_id": c, "updated_at": before, "email": f"{c}@customers.example"} for c in customers]
    lake = Lake(settings)
    publish_rows(lake, "customers", "i", table("customers", people))
    publish_rows(lake, "products", "i", table("products", [product(f"p{n}", updated_at=before) for n in range(6)]))
    agreed = {"channel": "email", "purpose": "marketing", "recorded_at": before, "granted": True, "source": "test"}
    with begin(settings) as ledger:
        consents.record(ledger, [{"customer_id": c, **agreed} for c in customers])
