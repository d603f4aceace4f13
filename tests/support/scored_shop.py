"""A home whose shop has been scored, so that its one campaign can be planned: written straight into the lake."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from controltower import clock, settings
from controltower.data.lake import interval_key
from controltower.ledger import consents
from controltower.ledger.database import begin
from controltower.settings import INCLUDE, Settings

from support.lakes import publish_rows
from support.shop_tables import lake_with, product

NOW = datetime.fromisoformat("2026-06-15T09:00+09:00")
DAY = "2026-06-15"
KNOWN = NOW - timedelta(days=30)
SCORED = NOW - timedelta(hours=12)  # on the day before
SPEC: dict[str, Any] = {
    "name": "spring",
    "title": "Spring",
    "description": "For tests.",
    "owner": "marketing",
    "template": "win_back",
    "channels": ["email"],
    "audience": {"rules": [{"column": "orders_total", "at_least": 1}]},
    "holdout": 0.0,
    "variants": [{"name": "a", "subject": {"en": "A {{ products[0].title }}"}}, {"name": "b", "subject": {"en": "B"}}],
    "window": {"start": "10:00", "end": "21:00", "hours": 24},
}


def write_spec(conf: Settings, **changes: Any) -> None:
    (conf.campaigns / "spring.yaml").write_text(yaml.safe_dump(SPEC | changes))


def write_shop(conf: Settings, **changes: Any) -> None:
    """The shop file: Asia/Seoul, no global holdout, no random hours, approval above 5 messages."""
    shop = yaml.safe_load((INCLUDE / "shops" / "simulated.yaml").read_text())
    shop |= {"global_holdout": 0.0, "approve_above": 5, "explore_hours": 0.0, **changes}
    (conf.home / "shop.yaml").write_text(yaml.safe_dump(shop))


def make(home: Path, monkeypatch: pytest.MonkeyPatch, customers: int = 8) -> Settings:
    """Settings of the home, its specs and templates in folders of their own, its clock standing at NOW.

    Customers c0, c1, ... are in the audience; `silent` is, without consent; `asleep` isn't; `fresh` has no features.
    """
    for name in ("campaigns", "templates"):
        monkeypatch.setenv(f"CONTROLTOWER_{name.upper()}", str(home / name))
    shutil.copytree(INCLUDE / "templates", home / "templates")
    (home / "campaigns").mkdir()
    conf = settings.load()
    write_spec(conf)
    write_shop(conf)
    clock.set_clock(conf, NOW, speed=0)
    audience = [*(f"c{n}" for n in range(customers)), "silent"]
    lake = lake_with(
        home,
        {
            "customers": [
                {"customer_id": c, "updated_at": KNOWN, "email": f"{c}@customers.example", "locale": "en"}
                for c in (*audience, "asleep", "fresh")
            ],
            "products": [product(f"p{n}", updated_at=KNOWN) for n in range(4)],
        },
    )
    featured = [*audience, "asleep"]
    derived = {
        "features": [
            {"customer_id": c, "as_of": SCORED, "orders_total": int(c != "asleep"), "lifecycle": "active"}
            for c in featured
        ],
        "scores": [
            {"customer_id": c, "as_of": SCORED, "propensity_28d": 0.5, "send_hour": 10, "model_version": "m"}
            for c in featured
        ],
        "recommendations": [
            {
                "customer_id": c, "as_of": SCORED, "placement": "for_you", "rank": n + 1, "product_id": f"p{n}",
                "algorithm": "als", "reason_code": "popular", "reason_value": None,
            }
            for c in featured for n in range(4)
        ],
    }  # fmt: skip
    for table, rows in derived.items():
        publish_rows(lake, table, interval_key(SCORED), pa.Table.from_pylist(rows))
    with begin(conf) as ledger:
        granted = {"channel": "email", "purpose": "marketing", "recorded_at": KNOWN, "granted": True, "source": "test"}
        consents.record(ledger, [{"customer_id": c, **granted} for c in audience if c != "silent"])
    return conf
