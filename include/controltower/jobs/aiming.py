"""What a goal needs of everybody it may be for: chances, baskets, margins, values, from scores and the lake."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower.errors import BadSpec, NoData
from controltower.jobs.predictions import Past
from controltower.jobs.predictions.channel import CHANNELS
from controltower.jobs.predictions.propensity import HORIZONS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from controltower.audiences.about import About
    from controltower.audiences.targeting import Customers
    from controltower.data.reading import Reading

log = logging.getLogger("controltower")

UPLIFT_DAYS = 14  # see jobs.predictions.uplift
UNCLICKED = 1 / 30  # as the feature click_rate says of who got no message
PAST_DATES = 4  # that the propensity for a set of products learns from


@dataclass(frozen=True)
class Aimed:
    """customers: what is known of each. more: columns for the file, aligned. calibration: NaN where past dates don't
    tell. said: what one must know to read the figures. excluded: how many it isn't for, by reason."""

    customers: Customers
    versions: list[str]
    calibration: float = float("nan")
    more: dict[str, np.ndarray] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)


def aim(past: Past, goal: str, about: About, within: float) -> Aimed:
    """Of the goals of audiences.targeting but `acquire` (jobs.acquiring). past: as of the moment of the scores.

    BadSpec for a goal that can't be about products, NoData where a model that it needs hasn't scored.
    """
    from controltower.audiences import targeting as t

    if about and goal not in (t.CONVERSIONS, t.REVENUE, t.MARGIN):
        raise BadSpec(
            f"The goal {goal} can't be about some products: nothing tells it by product.",
            f"Leave the products out, or choose {t.CONVERSIONS}, {t.REVENUE} or {t.MARGIN}.",
        )
    with past.lake.read(past.as_of) as reading:
        known = _known(reading)
        if goal == t.CLICKS:
            return _clicks(known)
        if goal == t.RETENTION:
            return _retention(past, known, within)
        if goal == t.INCREMENTAL:
            return _incremental(known)
        return _orders(past, reading, known, goal, about, within)


def calibration(past: Past, name: str, *, absent: bool = False) -> float:
    """By what share the model's totals were off on past dates, by the backtest of its card; NaN where it has none.
    absent: the totals of those of whom nothing came."""
    from controltower.audiences.targeting import calibration_error

    try:
        rows: list[dict[str, Any]] = past.registry.card(name, past.as_of).details.get("backtest", [])
    except NoData:
        return float("nan")
    told = [row for row in rows if "came" in row]
    predicted, came = (
        [row["customers"] - float(row[key]) if absent else float(row[key]) for row in told]
        for key in ("expected", "came")
    )
    return calibration_error(predicted, came, [float(row["variance"]) for row in told])


def _known(reading: Reading) -> pd.DataFrame:
    """Scores, and click_rate of the features: index customer_id, sorted; what isn't there is NaN."""
    import numpy as np

    scores, features = reading.derived("scores"), reading.derived("features")
    names = [f"propensity_{h}d" for h in HORIZONS]
    names += ["dormancy_28d", "clv_1y", "uplift", "uplift_error", *map(_of_channel, CHANNELS), "model_version"]
    rows = scores.select("customer_id", *(name for name in names if name in scores.columns))
    if "click_rate" in features.columns:
        rows = rows.left_join(features.select("customer_id", "click_rate"), "customer_id").drop("customer_id_right")
    frame = reading.frame(rows).set_index("customer_id").sort_index()
    for name in (*names, "click_rate"):
        if name not in frame:
            frame[name] = np.nan
        if name != "model_version":
            frame[name] = frame[name].astype(float)
    return frame


def _chances(known: pd.DataFrame, within: float) -> np.ndarray:
    from controltower.audiences import targeting

    there = {float(h): known[f"propensity_{h}d"].to_numpy(float) for h in HORIZONS}
    there = {h: p for h, p in there.items() if (p == p).any()}
    if not there:
        raise _untold("how likely customers buy", "propensity_7d")
    return targeting.within(there, within)


def _of_channel(name: str) -> str:
    return f"channel_{name}"


def _horizon(within: float) -> int:
    """The horizon of the propensity that is asked of so many days: the first that holds them."""
    return next((h for h in HORIZONS if h >= within), HORIZONS[-1])


def _untold(what: str, column: str) -> NoData:
    return NoData(
        f"It isn't known {what}: `{column}` of scores is empty.",
        "Run `controltower train` and `controltower score` (both with --as-of) first.",
    )


def _customers(known: pd.DataFrame, **columns: np.ndarray) -> Customers:
    import numpy as np

    from controltower.audiences.targeting import Customers

    return Customers(known.index.to_numpy(dtype=np.str_), **columns)


def _versions(known: pd.DataFrame, *names: str) -> list[str]:
    """Of the models that scored: those asked for."""
    told = {word for text in known["model_version"].dropna().unique() for word in str(text).split()}
    return sorted(word for word in told if word.partition("@")[0] in names)


def _clicks(known: pd.DataFrame) -> Aimed:
    told = [name for name in map(_of_channel, CHANNELS) if known[name].notna().any()]
    rate = known["click_rate"].fillna(UNCLICKED)
    said = ["Clicks are those of the next message, whatever the days; of who may be written to, campaigns decide."]
    p = rate
    if told:
        p = known[told].max(axis=1).fillna(rate)
        said.append("The chance is that of each customer's best channel, or the past click rate where none is told.")
    else:
        said.append("No channel's chances are known (`channel_email` of scores): past click rates stand in for them.")
    return Aimed(_customers(known, p=p.clip(0, 1).to_numpy(float)), _versions(known, "channel"), said=said)


def _retention(past: Past, known: pd.DataFrame, within: float) -> Aimed:
    from controltower.audiences import targeting

    dormant = known["dormancy_28d"].to_numpy(float)
    value = known["clv_1y"].to_numpy(float)
    for column, what, there in (
        ("dormancy_28d", "who won't buy", dormant),
        ("clv_1y", "what customers are worth", value),
    ):
        if not (there == there).any():
            raise _untold(what, column)
    p = 1 - targeting.within({28.0: 1 - dormant}, within)
    customers = _customers(known, p=p, value=known["clv_1y"].clip(lower=0).to_numpy(float))
    said = ["What is expected is at stake, not what a message saves: p is the chance of no order, value `clv_1y`."]
    return Aimed(
        customers, _versions(known, "next_order", "clv"), calibration(past, "next_order", absent=True), said=said
    )


def _incremental(known: pd.DataFrame) -> Aimed:
    if not known["uplift"].notna().any():
        raise NoData(
            "It isn't known whom a message changes: `uplift` of scores is empty.",
            "It is learned from campaigns that kept customers out by chance: send with a `holdout`, or load past ones"
            " as messages_history; then run `controltower train` and `controltower score`.",
        )
    columns = {name: known[name].to_numpy(float) for name in ("uplift", "uplift_error")}
    said = [f"What is expected are orders that wouldn't come without a message, within {UPLIFT_DAYS} days of it."]
    if known["uplift"].nunique() == 1:
        said.append("Past campaigns don't tell customers apart, so everybody is expected to be changed alike.")
    p = _chances(known, UPLIFT_DAYS)
    return Aimed(_customers(known, p=p, **columns), _versions(known, "uplift"), said=said)


def _orders(past: Past, reading: Reading, known: pd.DataFrame, goal: str, about: About, within: float) -> Aimed:
    """conversions, revenue and margin."""
    import numpy as np

    from controltower.audiences import about as abouts
    from controltower.audiences import targeting as t
    from controltower.models.recommend.catalogue import read_catalogue
    from controltower.models.value import baskets

    p, said = _chances(known, within), []
    name = f"propensity_{_horizon(within)}d"
    columns: dict[str, np.ndarray] = {}
    inside = None
    ids = reading.arrow(reading.table("products").select("product_id").distinct())["product_id"].to_pylist()
    catalogue = read_catalogue(reading.table, np.unique(np.array(ids, dtype=np.str_)))
    if about:
        inside = abouts.mask(reading.table, catalogue, about)
        share, how = _of_products(past, reading, known, catalogue.product_ids[inside], _horizon(within))
        p = p * share
        said += how
    if goal != t.CONVERSIONS:
        found = baskets.expect(_baskets(past, reading, catalogue.product_ids, catalogue.margin_rate, inside),
                               known.index.to_numpy())  # fmt: skip
        if np.isnan(found.amount).all():
            raise NoData(
                f"No order of {about} is known with its amount in {past.shop.currency}.",
                "Load orders first (and exchange_rates where they are in other currencies), or choose conversions.",
            )
        columns = {"basket": found.amount, "basket_sd": found.spread}
        said.append("A customer's basket is the own mean order, shrunk to everybody's; one order counts.")
    if goal == t.MARGIN:
        if np.isnan(found.margin_rate).all():
            raise NoData(
                "No bought product's margin is known.",
                "Load products with a margin_rate or a unit_cost, or choose revenue.",
            )
        columns["margin_rate"] = found.margin_rate
    return Aimed(_customers(known, p=p, **columns), _versions(known, name), calibration(past, name), said=said)


def _baskets(
    past: Past, reading: Reading, product_ids: np.ndarray, margin_rate: np.ndarray, inside: np.ndarray | None
) -> pd.DataFrame:
    """One row an order: customer_id, amount, told, margin (see models.value.baskets); of the products inside alone."""
    import ibis
    import numpy as np
    import pyarrow as pa

    from controltower.profiles.facts import gather

    lines = gather(reading.table, past.as_of, past.shop).lines
    lines = lines.filter(lines.bought, ~lines.returned, lines.amount.notnull())
    keep = np.ones(len(product_ids), dtype=bool) if inside is None else inside
    rates = ibis.memtable(pa.table({
        "of": pa.array(product_ids[keep].tolist(), pa.string()),
        "rate": pa.array(margin_rate[keep], pa.float64(), from_pandas=True),
    }))  # fmt: skip
    joined = lines.join(rates, lines.product_id == rates.of, how="left" if inside is None else "inner")
    amount = joined.amount.cast("float64")
    by = joined.select("customer_id", "order_id", amount=amount, told=ibis.ifelse(joined.rate.notnull(), amount, 0.0),
                       margin=(amount * joined.rate).fill_null(0.0))  # fmt: skip
    names = ("amount", "told", "margin")
    return reading.frame(by.group_by("customer_id", "order_id").aggregate(**{n: by[n].sum() for n in names}))


def _of_products(
    past: Past, reading: Reading, known: pd.DataFrame, product_ids: np.ndarray, horizon: int
) -> tuple[np.ndarray, list[str]]:
    """By customer, what part of the chance of an order is one of a set's products; and how that is known."""
    import numpy as np

    from controltower.models import propensity

    begun, name = time.monotonic(), f"propensity_{horizon}d"
    model, _ = past.registry.load(name, past.as_of, propensity.KINDS)
    dates = propensity.snapshot_times(past.as_of, horizon, past.first)[::2][:PAST_DATES]
    log.info("learning who buys of %d products from %d past dates", len(product_ids), len(dates))
    frames = {date: propensity.drawn(_features(past, date)) for date in dates}
    today = _features(past, past.as_of).reindex(known.index)
    lines, looks = _bought_and_looked_at(past, reading, product_ids)
    found = propensity.for_products(model, horizon, past.as_of, {**frames, past.as_of: today}, lines, looks)
    overall = model.predict(today, past.as_of)
    share = np.divide(found.p.to_numpy(float), overall, where=overall > 0, out=np.zeros(len(overall)))
    took = f"{time.monotonic() - begun:.0f} seconds"
    log.info("who buys of them is known after %s", took)
    if found.learned:
        return share, [f"Who buys of the {len(product_ids):,} products was learned now from {found.buyers:,} buyers on"
                       f" {len(dates)} past dates, in {took}."]  # fmt: skip
    if not found.p.any():
        return share, [f"Nobody ever bought of the {len(product_ids):,} products, so nobody is expected to."]
    return share, [
        f"Too few bought of the {len(product_ids):,} products on {len(dates)} past dates ({found.buyers:,}) to learn"
        " who does: p is the general propensity x the customer's share of them in past orders, shrunk to everybody's."
    ]


def _features(past: Past, date: datetime) -> pd.DataFrame:
    """Those published as of the date, which a shop that is scored daily has; else computed now."""
    from controltower.data.lake import interval_key
    from controltower.profiles.features import NAMES

    if interval_key(date) in past.lake.intervals("features"):
        with past.lake.read(date) as reading:
            features = reading.derived("features")
            if set(NAMES) <= set(features.columns):
                frame = reading.frame(features.select("customer_id", *NAMES))
                return frame.set_index("customer_id").astype(float)
    return past.features(date)


def _bought_and_looked_at(past: Past, reading: Reading, product_ids: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Order lines (customer_id, second, inside), and looks at the products (customer_id, second)."""
    import ibis
    import pyarrow as pa

    from controltower.profiles.facts import gather

    facts = gather(reading.table, past.as_of, past.shop)
    inside = ibis.memtable(pa.table({"of": pa.array(product_ids.tolist(), pa.string())}))
    lines = facts.lines.filter(facts.lines.bought, ~facts.lines.returned)
    marked = lines.left_join(inside, lines.product_id == inside.of)
    looks = facts.events.filter(facts.events.event_name.isin(["view_item", "add_to_cart"]))
    looks = looks.semi_join(inside, looks.product_id == inside.of)
    return (
        reading.frame(marked.select("customer_id", "second", inside=marked.of.notnull())),
        reading.frame(looks.select("customer_id", "second")),
    )
