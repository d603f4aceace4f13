"""What answers are made from: the truth of the home's simulated shop, and by which address a customer is reached."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from controltower.errors import BadSettings
from controltower.simulation.parameters import Parameters

ROOT = "simulated"  # the shop's folder in a home; it holds one folder for each end the shop was made for
TRUTH = "truth"  # the sub-folder of those; ingest knows no such table
NOTE = "shop.json"
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{6}Z")


@dataclass(frozen=True)
class Customer:
    """`taste` (C,) sums to 1, `style` (STYLES,), `hour` local, `app` the share of visits in the app."""

    customer_id: str
    taste: np.ndarray
    style: np.ndarray
    hour: float
    price_sense: float
    app: float
    channel: str
    fades_at: datetime
    zone: ZoneInfo


@dataclass(frozen=True)
class Product:
    """`dear` is the log of its price over what is usual in its category."""

    product_id: str
    category: int
    style: np.ndarray
    dear: float
    price: Decimal
    unit_cost: Decimal
    currency: str
    url: str
    title: str
    in_stock: bool


@dataclass(frozen=True)
class Truth:
    """`folder` is the shop made for the latest end, `seed` and `effect` what it was made with."""

    folder: Path
    seed: int
    effect: float
    parameters: Parameters = field(repr=False)

    @classmethod
    def of_home(cls, home: Path) -> Truth | None:
        """The home's simulated shop; None where its data is of another source."""
        made = made_shops(home / ROOT)
        if not made:
            return None
        kept = read_note(made[-1])
        return cls(made[-1], int(kept["seed"]), float(kept.get("effect", 1.0)), Parameters.load())

    @property
    def zone(self) -> ZoneInfo:
        """The shop's own."""
        return ZoneInfo(self.parameters.origins[0].timezone)

    @cached_property
    def customers(self) -> dict[str, Customer]:
        columns = "customer_id taste style hour price_sense channels channel fades_at".split()
        zones = self._latest("customers", "customer_id", "timezone")
        return {
            row["customer_id"]: Customer(
                row["customer_id"], np.array(row["taste"]), np.array(row["style"]), row["hour"], row["price_sense"],
                row["channels"][0], row["channel"], row["fades_at"], ZoneInfo(zones[row["customer_id"]]["timezone"]),
            )
            for row in pq.read_table(self.folder / TRUTH / "truth.parquet", columns=columns).to_pylist()
        }  # fmt: skip

    @cached_property
    def products(self) -> dict[str, Product]:
        usual = [c.price for c in self.parameters.categories.values()]
        hidden = {r["product_id"]: r for r in pq.read_table(self.folder / TRUTH / "products.parquet").to_pylist()}
        known = self._latest("products", "product_id", "price", "unit_cost", "currency", "url", "title", "in_stock")
        return {
            key: Product(
                key, hidden[key]["category"], np.array(hidden[key]["style"]),
                float(np.log(float(row["price"]) / usual[hidden[key]["category"]])),
                row["price"], row["unit_cost"], row["currency"], row["url"], row["title"], row["in_stock"],
            )
            for key, row in known.items()
        }  # fmt: skip

    @cached_property
    def _by_address(self) -> dict[str, str]:
        mails = pq.read_table(self.folder / "customers.parquet", columns=["email", "customer_id"])
        tokens = pq.read_table(self.folder / "devices.parquet", columns=["push_token", "customer_id"])
        pairs = [(r["email"].lower(), r["customer_id"]) for r in mails.to_pylist() if r["email"]]
        return dict(pairs + [(r["push_token"], r["customer_id"]) for r in tokens.to_pylist() if r["push_token"]])

    def whose(self, recipient: str) -> Customer | None:
        """Who has this e-mail address (in lower case) or push token."""
        return self.customers.get(self._by_address.get(recipient, ""))

    def _latest(self, table: str, key: str, *columns: str) -> dict[str, dict[str, Any]]:
        rows: pa.Table = pq.read_table(self.folder / f"{table}.parquet", columns=[key, "updated_at", *columns])
        return {str(row[key]): row for row in rows.sort_by("updated_at").to_pylist()}  # the last version stays


def made_shops(root: Path) -> list[Path]:
    """The shops that stand in a home's folder, that of the latest end last."""
    return sorted(f for f in root.iterdir() if _STAMP.fullmatch(f.name)) if root.is_dir() else []


def read_note(folder: Path) -> dict[str, Any]:
    """What a shop was made with: opened, seed, effect. BadSettings where that can't be read; empty where it is none."""
    path = folder / TRUTH / NOTE
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        int(kept["seed"])
        float(kept.get("effect", 1.0))
        datetime.fromisoformat(kept["opened"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadSettings(f"{path} can't be read.", "Remove the folder, so that the shop is made afresh.") from None
    return dict(kept)
