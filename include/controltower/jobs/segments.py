"""AI segments: customers cut by their scores, and how many of each segment bought once the days were over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from controltower import clock, settings
from controltower.jobs.predictions.propensity import HORIZONS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from controltower.data.lake import Lake
    from controltower.data.reading import Reading
    from controltower.shop import Shop

# why there is nothing to show
NO_SCORES, NOT_OVER, ORDERS_UNKNOWN, NOT_RANKED = WHYS = ("no_scores", "not_over", "orders_unknown", "not_ranked")
_NEEDED: Final = ("scores", "features")


def segment_columns(customers: np.ndarray, scores: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """segment_{h}d by propensity_{h}d: a segment's name; null where that is null, or the same for everybody."""
    import numpy as np
    import pyarrow as pa

    from controltower.audiences.score_segments import cut, names, tells_apart

    columns = {}
    for h in HORIZONS:
        chances = scores[f"propensity_{h}d"].to_numpy(zero_copy_only=False)
        if tells_apart(chances):
            places = pa.array(cut(customers, chances), pa.int64(), mask=np.isnan(chances))
            columns[f"segment_{h}d"] = pa.array(names(), pa.string()).take(places)
        else:
            columns[f"segment_{h}d"] = pa.nulls(len(customers), pa.string())
    return columns


@dataclass(frozen=True)
class _Scoring:
    """A past scoring with all that is needed to judge it."""

    at: datetime
    until: datetime

    def shown(self) -> dict[str, str]:
        return {"scored": self.at.isoformat(), "until": self.until.isoformat()}


def segment_conversions(
    horizon: int = 7, as_of: str | None = None, *, scored: str | None = None, most: int = 1
) -> dict[str, Any]:
    """How many customers of each segment bought within `horizon` days (1, 7 or 28) after they were scored.

    Of the scorings whose days are over, as of a moment (now), and of which all orders are known: the newest one, or
    that as of `scored`; with `most` also those before it, whose days don't overlap. Returns {horizon, as_of, tables,
    over (all scorings that could be shown, newest first), why (one of WHYS; None: there are tables), next (the first
    that isn't over), orders_known_until}. A table: {scored, until, model, customers, bought, rate, rows}; rows see
    `score_segments.table`. Computed from the lake as it is: whoever was erased isn't counted.
    """
    from controltower.data.lake import Lake
    from controltower.errors import BadSettings, NoData

    if horizon not in HORIZONS:
        raise BadSettings(f"There are no scores for {horizon} days.", f"Choose one of {', '.join(map(str, HORIZONS))}.")
    conf = settings.load()
    shop = settings.load_shop(conf)
    at = clock.parse(as_of, shop) if as_of else clock.now(conf)
    lake = Lake(conf)
    over, still, known = _scorings(lake, horizon, at)
    chosen = over
    if scored is not None:
        wanted = clock.parse(scored, shop)
        chosen = [one for one in over if one.at <= wanted]
        if not chosen or chosen[0].at != wanted:
            raise NoData(
                f"No scores as of {wanted.isoformat()} can be judged for {horizon} days.",
                "Choose one of those that `controltower segments --json` lists as `over`.",
            )
    tables: list[dict[str, Any]] = []
    with lake.read(at) as now:
        for one in chosen:
            if len(tables) >= most or (scored is not None and not tables and one != chosen[0]):
                break
            if not tables or one.until <= datetime.fromisoformat(tables[-1]["scored"]):
                tables += _table(lake, now, one, horizon, shop)
    why = None
    if not tables:
        waits = still and still[-1].until > at
        why = NOT_RANKED if over else NO_SCORES if not still else NOT_OVER if waits else ORDERS_UNKNOWN
    return {
        "horizon": horizon,
        "as_of": at.isoformat(),
        "tables": tables,
        "over": [one.at.isoformat() for one in over],
        "why": why,
        "next": still[-1].shown() if still else None,
        "orders_known_until": known.isoformat() if known else None,
    }


def _scorings(lake: Lake, horizon: int, as_of: datetime) -> tuple[list[_Scoring], list[_Scoring], datetime | None]:
    """The scorings that can be judged, and those that can't yet, newest first; and up to when orders are known since
    the oldest one that can't."""
    from controltower.audiences.score_segments import closed
    from controltower.measurement.worth import known_until, loaded

    made = [{key for key, rows in lake.sizes(table).items() if rows} for table in _NEEDED]
    times = sorted((datetime.fromisoformat(key) for key in set.intersection(*made)), reverse=True)
    orders, known = loaded(lake), None
    over, still = [], []
    for t in (t for t in times if t <= as_of):
        until = known_until(orders, t, as_of)
        one = _Scoring(t, t + timedelta(days=horizon))
        if closed(t, horizon, until):
            over.append(one)
        else:
            still.append(one)
            known = until
    return over, still, known


def _table(lake: Lake, now: Reading, scoring: _Scoring, horizon: int, shop: Shop) -> list[dict[str, Any]]:
    """None of it where the scores tell nobody apart."""
    from controltower.audiences.score_segments import table, tells_apart

    with lake.read(scoring.at) as then:
        frame = _scored(then, f"propensity_{horizon}d")
    if frame is None or not tells_apart(frame["chance"].to_numpy(float)):
        return []
    bought = _persons(now, frame["customer_id"]).isin(_buyers(now, scoring, shop)).to_numpy()
    rows = table(
        frame["customer_id"].to_numpy(str), frame["chance"].to_numpy(float), frame["days"].to_numpy(float), bought
    )
    versions = str(frame["model_version"].iloc[0] or "").split()
    about = {
        **scoring.shown(),
        "model": next((one for one in versions if one.startswith(f"propensity_{horizon}d@")), None),
        "customers": len(frame),
        "bought": int(bought.sum()),
        "rate": float(bought.mean()),
        "rows": rows,
    }
    return [about]


def _scored(then: Reading, column: str) -> pd.DataFrame | None:
    """customer_id, chance, days (since the last order), model_version: by customer, as of a scoring."""
    scores, features = then.derived("scores"), then.derived("features")
    if column not in scores.columns:
        return None
    days = features.select("customer_id", days=features.days_since_last_order.cast("float64"))
    chances = scores.select("customer_id", "model_version", chance=scores[column].cast("float64"))
    rows = chances.left_join(days, "customer_id").select("customer_id", "chance", "days", "model_version")
    return then.frame(rows.order_by("customer_id"))


def _persons(now: Reading, customers: pd.Series) -> pd.Series:
    """Whose each of the ids is by now: they were scored before some of them were merged."""
    if not now.has_persons:
        return customers
    rows = now.run("SELECT customer_id, person_id FROM _persons").to_pydict()
    return customers.map(dict(zip(rows["customer_id"], rows["person_id"], strict=True))).fillna(customers)


def _buyers(now: Reading, scoring: _Scoring, shop: Shop) -> pd.Series:
    """Who bought in the days after a scoring, as the models' labels count it."""
    from controltower.profiles.facts import gather

    assert now.as_of is not None
    orders = gather(now.table, now.as_of, shop).orders
    start, end = (int(t.timestamp()) for t in (scoring.at, scoring.until))
    rows = orders.filter(orders.second > start, orders.second <= end).select("customer_id").distinct()
    return now.frame(rows)["customer_id"]
