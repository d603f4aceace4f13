"""target: a goal in, a ranked audience out, with what is expected of it and how sure that is."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import settings
from controltower.errors import BadSpec
from controltower.jobs.predictions import Past
from controltower.jobs.profiles import moment

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.audiences.about import About
    from controltower.audiences.targeting import Audience, Result
    from controltower.jobs.aiming import Aimed
    from controltower.settings import Settings
    from controltower.shop import Shop

log = logging.getLogger("controltower")

LONGEST = 365  # days


@dataclass(frozen=True)
class Wanted:
    """How many at most, or for how much money in all at `cost` each; None: everybody."""

    size: int | None = None
    budget: float | None = None
    cost: float = 0.0

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise BadSpec(
                f"{self.size} is no size of an audience.", "Say 1 or more with --size, or leave it out for all."
            )
        if not self.cost >= 0 or self.cost == math.inf:
            raise BadSpec(f"{self.cost} is no cost.", "Say what one contact costs with --cost, 0 or more.")
        if self.budget is not None and not (0 < self.budget < math.inf):
            raise BadSpec(f"{self.budget} is no budget.", "Say an amount above 0 with --budget, or leave it out.")
        if self.budget is not None and not self.cost:
            raise BadSpec("A budget says nothing without the cost of a contact.", "Say it with --cost, above 0.")


def target_customers(
    goal: str,
    about: About | None = None,
    within: float = 7,
    wanted: Wanted | None = None,
    as_of: str | None = None,
    *,
    products: bool = True,
) -> tuple[dict[str, Any], pa.Table]:
    """Who brings most of a goal within so many days after the newest scores not later than as_of.

    Stores nothing. Returns a report and a row for each who is chosen, best first: rank, customer_id (of `acquire` null
    for visitors, and visitor_id), expected, p and what else the goal is made of, what is expected of all until then
    (expected_so_far, low, high), model_version, goal, as_of. products: of `acquire`, also interests and products of
    each, for a file. BadSpec where the request can't be met, NoData where scores or a model lack.
    """
    from threadpoolctl import threadpool_limits

    from controltower.audiences import targeting
    from controltower.audiences.about import About

    about, wanted = about or About(), wanted or Wanted()
    config = settings.load()
    shop = settings.load_shop(config)
    asked = moment(as_of, config, shop)
    _check(goal, within)
    with threadpool_limits(limits=1), _past(config, shop, asked) as past:
        aimed = _aimed(past, goal, about, within)
        off = aimed.calibration
        made = targeting.target(
            goal, aimed.customers, wanted.size, wanted.budget, wanted.cost, 0.0 if math.isnan(off) else off
        )
        reachable = made.curve[-1].size if made.curve else 0
        if not reachable:
            why = "; ".join(f"{n:,} {_REASONS[r]}" for r, n in made.left_out.items())
            raise BadSpec(
                f"Nobody can be chosen for {goal}: {why or 'nobody is known'}.",
                "Choose another goal, or other products.",
            )
        if wanted.size is not None and wanted.size > reachable:
            raise BadSpec(
                f"{wanted.size:,} can't be chosen: {goal} can be expected of {reachable:,}.",
                f"Say --size {reachable} or less, or leave it out for all.",
            )
        if not made.result.size:
            raise BadSpec("The budget pays for nobody.", f"Say --budget {wanted.cost:g} or more.")
        table = _table(past, made, aimed, products)
    report = {
        "goal": goal, "about": str(about), "within": within, "as_of": past.as_of.isoformat(),
        "asked": asked.isoformat(), "unit": _unit(goal, shop), "people": len(aimed.customers.customer_ids),
        "reachable": reachable, "chosen": _result(made.result), "cost_each": wanted.cost, "budget": wanted.budget,
        "curve": [_result(point) for point in made.curve],
        "left_out": dict(made.left_out) | {"beyond_size": reachable - made.result.size},
        "calibration_error": None if math.isnan(off) else round(off, 4),
        "said": aimed.said, "models": aimed.versions,
    }  # fmt: skip
    return report, table


def expected_of(config: Settings, shop: Shop, as_of: datetime, goal: str, within: float) -> pa.Table:
    """customer_id, expected: what is expected of each customer, of whom that is known and above 0."""
    import numpy as np
    import pyarrow as pa

    from controltower.audiences import targeting
    from controltower.audiences.about import About

    _check(goal, within)
    with _past(config, shop, as_of) as past:
        aimed = _aimed(past, goal, About(), within)
    each, _, _ = targeting.expected(goal, aimed.customers)
    keep = np.nan_to_num(each) > 0
    if "visitor" in aimed.more:
        keep &= ~aimed.more["visitor"].astype(bool)
    ids = aimed.customers.customer_ids[keep].tolist()
    return pa.table({"customer_id": pa.array(ids, pa.string()), "expected": pa.array(each[keep], pa.float64())})


_REASONS = {
    "unknown": "of whom a number that the goal needs isn't known",
    "no_gain": "of whom nothing is expected",
    "beyond_size": "beyond the size or the budget",
}


def reason(code: str) -> str:
    """Why some are left out, in words."""
    return _REASONS[code]


def _check(goal: str, within: float) -> None:
    from controltower.audiences.targeting import GOALS

    if goal not in GOALS:
        raise BadSpec(f"There is no goal {goal!r}.", f"Choose one of: {', '.join(GOALS)}.")
    if not 0 < within <= LONGEST:
        raise BadSpec(f"{within:g} days can't be foretold.", f"Say more than 0 and at most {LONGEST} with --within.")


def _past(config: Settings, shop: Shop, asked: datetime) -> Any:
    """Everything as of the newest scores."""
    from controltower.data.lake import Lake

    with Lake(config).read(asked) as reading:
        scores = reading.derived("scores")
        at = reading.arrow(scores.aggregate(at=scores.as_of.max()))["at"][0].as_py()
    return Past.of(config, shop, at or asked)


def _aimed(past: Past, goal: str, about: About, within: float) -> Aimed:
    from controltower.audiences.targeting import ACQUIRE
    from controltower.jobs import acquiring, aiming

    if goal != ACQUIRE:
        return aiming.aim(past, goal, about, within)
    if about:
        raise BadSpec(
            "The goal acquire can't be about some products.", "Leave them out: each gets products they look at."
        )
    return acquiring.aim(past, within)


def _table(past: Past, made: Audience, aimed: Aimed, with_products: bool) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    from controltower.jobs.acquiring import products_for

    n, at = len(made.positions), made.positions
    ids = made.customer_ids.tolist()
    columns: dict[str, Any] = {"rank": pa.array(range(1, n + 1), pa.int64()), "customer_id": pa.array(ids, pa.string())}
    if "visitor" in aimed.more:
        visitor = aimed.more["visitor"][at]
        columns["customer_id"] = pa.array(ids, pa.string(), mask=visitor)
        columns["visitor_id"] = pa.array(ids, pa.string(), mask=~visitor)
    columns["expected"] = pa.array(made.expected, pa.float64())
    for name in ("p", "basket", "basket_sd", "margin_rate", "uplift", "uplift_error", "value"):
        if (values := getattr(aimed.customers, name)) is not None:
            columns[name] = pa.array(np.asarray(values, dtype=float)[at], pa.float64(), from_pandas=True)
    if "visitor" in aimed.more:
        columns["likeness"] = pa.array(aimed.more["likeness"][at], pa.float64())
    if "visitor" in aimed.more and with_products:
        interests, products = products_for(past, made.customer_ids, aimed.more["visitor"][at])
        columns |= {"interests": pa.array(interests, pa.string()), "products": pa.array(products, pa.string())}
    for place, name in enumerate(("expected_so_far", "low", "high")):
        columns[name] = pa.array(made.so_far[:, place], pa.float64())
    columns["model_version"] = pa.array([" ".join(aimed.versions)] * n, pa.string())
    columns["goal"] = pa.array([made.goal] * n, pa.string())
    columns["as_of"] = pa.array([past.as_of] * n, pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def _result(found: Result) -> dict[str, float]:
    return {
        "size": found.size, "expected": round(found.expected, 4), "low": round(found.low, 4),
        "high": round(found.high, 4), "cost": round(found.cost, 4),
    }  # fmt: skip


def _unit(goal: str, shop: Shop) -> str:
    from controltower.audiences import targeting as t

    units = {t.CLICKS: "clicks", t.CONVERSIONS: "buyers", t.INCREMENTAL: "more orders", t.ACQUIRE: "new customers"}
    return units.get(goal, shop.currency)
