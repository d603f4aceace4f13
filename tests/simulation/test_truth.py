"""What the simulated customers do follows their truth, and looks like a shop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.errors import BadSettings
from controltower.simulation import shop
from controltower.simulation.parameters import Parameters

from .conftest import SEED, UNTIL, small

NOW = pd.Timestamp(UNTIL)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """600 customers and the default 180 days: enough to count shares."""
    folder = tmp_path_factory.mktemp("grown")
    shop.generate(folder, until=UNTIL, parameters=small(customers=600, days=180, products=400), seed=SEED)
    found = {p.stem: pd.read_parquet(p) for p in [*folder.glob("*.parquet"), folder / "truth" / "truth.parquet"]}
    for name in ("customers", "products"):
        found[name] = found[name].drop_duplicates(CONTRACT_KEY[name], keep="last").set_index(CONTRACT_KEY[name])
    return found


CONTRACT_KEY = {"customers": "customer_id", "products": "product_id"}


def share(values: pd.Series, of: int) -> float:
    return float(values.sum()) / of


def test_a_fair_share_lapses(grown: dict[str, pd.DataFrame]) -> None:
    last = grown["orders"].groupby("customer_id")["ordered_at"].max()
    days = (NOW - last).dt.days
    assert 0.15 < share(days.between(60, 150), len(last)) < 0.35  # of those who ever bought
    assert share(days < 30, len(last)) > 0.25
    assert 0.4 < len(last) / len(grown["customers"]) < 0.85


def test_consents_and_devices_have_their_shares(grown: dict[str, pd.DataFrame]) -> None:
    consents = grown["consents"].sort_values(["recorded_at", "granted"], ascending=[True, False])
    stands = consents.drop_duplicates(["customer_id", "channel", "purpose"], keep="last")
    stands = stands[stands["granted"]].groupby(["channel", "purpose"]).size()
    users, everybody = grown["devices"]["customer_id"].nunique(), len(grown["customers"])
    assert 0.7 < stands["email", "marketing"] / everybody < 0.82
    assert 0.53 < stands["push", "marketing"] / users < 0.7
    assert 0.17 < stands["push", "night_marketing"] / users < 0.33
    assert 0.62 < stands["email", "profiling"] / everybody < 0.78
    assert (consents["source"] == "preference_page").any()
    assert 0.48 < users / everybody < 0.62
    with_token = grown["devices"].dropna(subset=["push_token"])
    assert 0.85 < with_token["customer_id"].nunique() / users < 0.98
    assert with_token.groupby("customer_id")["device_id"].nunique().max() >= 2
    assert with_token["push_token"].nunique() >= with_token["device_id"].nunique()


def test_customers_look_like_the_shop(grown: dict[str, pd.DataFrame]) -> None:
    customers = grown["customers"]
    assert 0.8 < (customers["locale"] == "ko-KR").mean() < 0.94
    assert {"en-US", "zh-CN"} <= set(customers["locale"])
    assert customers["email"].dropna().str.fullmatch(r"[a-z0-9.]+@[a-z]+\.example").all()
    assert customers["email"].dropna().is_unique
    assert 0.52 < customers["gender"].notna().mean() < 0.68
    assert (customers["gender"].notna() == customers["birth_date"].notna()).all()
    assert (customers["first_name"].str.len() >= 180).any()
    assert customers["first_name"].str.contains("<b>|{{", regex=True).sum() == 2


def test_orders_are_cancelled_and_returned_later(grown: dict[str, pd.DataFrame]) -> None:
    orders, lines = grown["orders"], grown["order_lines"]
    changed = orders[orders["status"] != "placed"]
    assert set(changed["status"]) == {"cancelled", "returned"}
    assert (changed["updated_at"] > changed["ordered_at"]).all()
    back = lines[lines["quantity"] < 0].merge(lines[lines["quantity"] > 0], on=["order_id", "product_id"])
    assert len(back) == (lines["quantity"] < 0).sum() > 0
    assert (back["updated_at_x"] > back["updated_at_y"]).all()
    assert (back["quantity_x"] == -back["quantity_y"]).all()
    assert not set(back["order_id"]) & set(changed[changed["status"] == "cancelled"]["order_id"])


def test_visits_follow_the_hour_and_views_the_taste(grown: dict[str, pd.DataFrame]) -> None:
    truth = grown["truth"].set_index("customer_id")
    events = grown["events"].dropna(subset=["customer_id"])
    starts = events.drop_duplicates("session_id")
    zones = starts["customer_id"].map(grown["customers"]["timezone"])
    seoul = starts[zones == "Asia/Seoul"]
    local = seoul["occurred_at"].dt.tz_convert("Asia/Seoul")
    turn = (local.dt.hour + local.dt.minute / 60 - seoul["customer_id"].map(truth["hour"])) / 24 * 2 * np.pi
    assert np.cos(turn).mean() > 0.35  # 0: no relation, 1: always at one's hour

    views = events[events["event_name"] == "view_item"]
    category = views["product_id"].map(grown["products"]["category"])
    liked = pd.Series(
        [c in top for c, top in zip(category, views["customer_id"].map(truth["top_categories"]), strict=True)]
    )
    assert liked.mean() > 0.3  # 3 of 32 categories: about 0.09 without taste


def test_a_cart_foretells_an_order(grown: dict[str, pd.DataFrame]) -> None:
    then = NOW - pd.Timedelta(days=14)
    events = grown["events"].dropna(subset=["customer_id"])
    recent = events[(events["received_at"] < then) & (events["occurred_at"] > then - pd.Timedelta(days=7))]
    carted = set(recent[recent["event_name"] == "add_to_cart"]["customer_id"])
    orders = grown["orders"]
    soon = orders[(orders["ordered_at"] >= then) & (orders["ordered_at"] < then + pd.Timedelta(days=7))]["customer_id"]
    bought = grown["customers"].index.isin(soon)
    has_cart = grown["customers"].index.isin(list(carted))
    assert bought[has_cart].mean() > 2 * bought[~has_cart].mean()


def test_truth_covers_the_customers(small_shop: Path, tables: dict[str, pa.Table]) -> None:
    truth = pq.read_table(small_shop / "truth" / "truth.parquet")
    assert set(truth["customer_id"].to_pylist()) == set(tables["customers"]["customer_id"].to_pylist())
    assert np.allclose([sum(t) for t in truth["taste"].to_pylist()], 1)


def test_parameters_are_checked(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"parameters\.yaml: broken_share"):
        Parameters.load(broken_share=2)
    with pytest.raises(BadSettings, match="unknown categories: hats"):
        personas = Parameters.load().model_dump()["personas"]
        Parameters.load(personas=[personas[0] | {"share": 1.0, "likes": {"hats": 1}}])
    with pytest.raises(BadSettings, match="can't be read"):
        Parameters.load(tmp_path / "none.yaml")
