"""UCI "Online Retail" (Chen, Sain and Guo 2012; CC BY 4.0): the real orders of a UK gift shop, 2010-12 to 2011-12.

How its lines become the contract's tables:

- An invoice is an order. A cancellation (number with a leading C, negative quantities) doesn't say which invoice it
  takes back, so it is an order of its own with status `returned`, dated when it was made: the sum over all lines is
  net revenue, an order count takes those `placed`, and no fact moves to before it was known.
- Lines without a customer stay, as anonymous orders. Those with a negative quantity that are no cancellation (stock
  counted off: damaged, lost) are no orders: they are left out, and counted in the notes.
- Codes that don't begin with five digits (postage, fees, manual entries, vouchers) are products of category `service`
  that are never in stock, so that nothing recommends them. Other products have no category.
- A product's title and price are those of its first sale in each month, known from that sale on.
- Names, addresses, devices and consents are made up: see `retail_customers.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from controltower.data.sources import retail_customers
from controltower.data.sources.base import Input, KnownAt, Wanted
from controltower.data.sources.retail_file import locate, read_lines
from controltower.settings import INCLUDE, Settings

ZONE = "Europe/London"
_GOODS = re.compile(r"\d{5}|DCGS")


class OnlineRetail:
    """The file as a source."""

    name = "online-retail"
    shop_file = INCLUDE / "shops" / "online-retail.yaml"
    zone: str | None = ZONE
    known_at: KnownAt | None = "happened"
    bad_rows_limit = 0.05
    encoding = "utf-8"
    delimiter = ","

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._notes: list[str] = []

    def tables(self, wanted: Wanted) -> dict[str, Input]:
        until = wanted.until
        lines = read_lines(locate(self._settings))
        lines["at"] = lines["InvoiceDate"].dt.tz_localize(ZONE, ambiguous=False, nonexistent="shift_forward")
        lines["at"] = lines["at"].dt.tz_convert("UTC")
        lines = lines[lines["at"] < until]
        adjustment = (lines["Quantity"] < 0) & ~lines["InvoiceNo"].str.startswith("C")
        lines = lines[~adjustment]
        self._notes = [
            f"{int(adjustment.sum()):,} stock adjustments (negative quantity without a cancellation) are no orders and"
            " were left out",
            "names, e-mail addresses, devices and consents are made up with a fixed seed",
        ]
        seen = _first_seen(lines)
        made = {
            "customers": retail_customers.customers(seen),
            "consents": retail_customers.consents(seen, until),
            "devices": retail_customers.devices(seen),
            "products": _products(lines),
            "orders": _orders(lines),
            "order_lines": _order_lines(lines),
        }
        return {table: _written(rows, wanted.folder / f"{table}.parquet") for table, rows in made.items()}

    def notes(self) -> list[str]:
        return self._notes


def _first_seen(lines: pd.DataFrame) -> pd.DataFrame:
    """Each customer with the country and moment of the first invoice."""
    known = lines[lines["CustomerID"].notna()]
    customers = known.assign(customer_id=_customer_ids(known)).sort_values("at", kind="stable")
    first = customers.drop_duplicates("customer_id").sort_values("customer_id")
    return first[["customer_id", "Country", "at"]].rename(columns={"Country": "country", "at": "signed_up_at"})


def _customer_ids(lines: pd.DataFrame) -> pd.Series:
    """17850.0 -> "17850"; null where there is none."""
    return lines["CustomerID"].astype("Int64").astype("string")


def _orders(lines: pd.DataFrame) -> pd.DataFrame:
    """One row per invoice. A few run over a minute: the first counts."""
    lines = lines.assign(customer_id=_customer_ids(lines))
    orders = lines.groupby("InvoiceNo", sort=True).agg(ordered_at=("at", "min"), customer_id=("customer_id", "first"))
    orders = orders.reset_index(names="order_id")
    orders["status"] = np.where(orders["order_id"].str.startswith("C"), "returned", "placed")
    return orders.assign(currency="GBP", channel="web")


def _order_lines(lines: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "order_id": lines["InvoiceNo"],
            "line_no": lines.groupby("InvoiceNo").cumcount() + 1,
            "product_id": lines["StockCode"],
            "quantity": lines["Quantity"],
            "unit_price": lines["UnitPrice"].round(4),
        }
    )


def _products(lines: pd.DataFrame) -> pd.DataFrame:
    """A version for each month in which a product's title or price at its first sale changed."""
    lines = lines.sort_values("at", kind="stable")
    sold = lines[(lines["UnitPrice"] > 0) & (lines["Quantity"] > 0) & lines["Description"].notna()]
    month = sold["at"].dt.strftime("%Y-%m")
    versions = sold[~sold.assign(month=month).duplicated(["StockCode", "month"])]
    unsold = lines[~lines["StockCode"].isin(versions["StockCode"])].drop_duplicates("StockCode")
    rows = pd.concat([versions, unsold])
    goods = rows["StockCode"].map(lambda code: bool(_GOODS.match(code)))
    first = lines.drop_duplicates("StockCode").set_index("StockCode")["at"]
    products = pd.DataFrame(
        {
            "product_id": rows["StockCode"],
            "updated_at": rows["at"],
            "title": _titles(rows["Description"]).fillna(rows["StockCode"]),
            "category": goods.map({True: None, False: "service"}),
            "price": rows["UnitPrice"].clip(lower=0).round(4),
            "currency": "GBP",
            "in_stock": goods & rows["StockCode"].isin(versions["StockCode"]),
            "available_from": rows["StockCode"].map(first),
        }
    ).sort_values(["product_id", "updated_at"])
    same = products[["product_id", "title", "price"]].eq(products[["product_id", "title", "price"]].shift()).all(axis=1)
    return products[~same]


def _titles(descriptions: pd.Series) -> pd.Series:
    """WHITE HANGING HEART T-LIGHT HOLDER -> White Hanging Heart T-Light Holder."""
    spaced = descriptions.str.replace(r"\s+", " ", regex=True).str.strip(" .,")
    return spaced.where(spaced != spaced.str.upper(), spaced.map(_capitals, na_action="ignore"))


def _capitals(text: str) -> str:
    return re.sub(r"[A-Z][A-Z']*", lambda word: word[0].capitalize(), text)


def _written(rows: pd.DataFrame, file: Path) -> Input:
    rows.to_parquet(file, index=False)
    return Input([file])
