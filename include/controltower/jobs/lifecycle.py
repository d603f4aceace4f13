"""Lifecycle moves: who changed stage since an earlier date, and how many are expected to within the coming days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from controltower import clock, settings

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from controltower.data.lake import Lake
    from controltower.shop import Shop

AHEAD: Final = 28  # days: those of dormancy_28d
LEVEL: Final = 0.95
PAST_DATES: Final = 3  # by whose expectations the interval is widened, AHEAD days apart
SLACK = timedelta(days=1)  # features so much older than a date are its features, too


def lifecycle_moves(as_of: str | None = None, days: int = 7) -> dict[str, Any]:
    """How many customers are in each stage, moved between stages within `days`, and are expected to in 28 days.

    Of the newest features as of a moment (now), beside those of `days` before them, or at most a day older:
    {as_of, stages: {stage: customers}, days, before (None: there are none), moves, expected}. Moves are rows {from, to,
    customers}, stays among them; `from` is None for who had no features then, `to` for who has none now (their id
    belongs to another by now). Expected: see `expected`. NoData where there are no features.
    """
    from controltower.data.lake import Lake
    from controltower.errors import BadSettings

    if not 1 <= days <= 365:
        raise BadSettings(f"Moves of {days} days can't be told.", "Say 1 to 365 with --days.")
    conf = settings.load()
    shop = settings.load_shop(conf)
    lake = Lake(conf)
    with lake.read(clock.parse(as_of, shop) if as_of else clock.now(conf)) as reading:
        features = reading.derived("features")
        now = reading.arrow(features.select("customer_id", "lifecycle", "as_of"))
    if not now.num_rows:
        return {"as_of": None, "stages": {}, "days": days, "before": None, "moves": [], "expected": None}
    at: datetime = now["as_of"][0].as_py().astimezone(UTC)
    then = made_at(lake, "features", earlier(at, days, shop))
    return {
        "as_of": at.isoformat(),
        "stages": _counts(now),
        "days": days,
        "before": then.isoformat() if then else None,
        "moves": _moves(stages(lake, then), now) if then else [],
        "expected": expected(lake, at, shop),
    }


def earlier(at: datetime, days: int, shop: Shop) -> datetime:
    """The same time of day in the shop's zone, so many days before."""
    return (at.astimezone(shop.zone) - timedelta(days=days)).astimezone(UTC)


def made_at(lake: Lake, table: str, moment: datetime) -> datetime | None:
    """As of when the rows are that a derived table has of a moment: at most SLACK older; None where it has none."""
    from controltower.data.lake import interval_key

    first, last = interval_key(moment - SLACK), interval_key(moment)
    made = [key for key, rows in lake.sizes(table).items() if rows and first <= key <= last]
    return datetime.fromisoformat(max(made)) if made else None


def stages(lake: Lake, moment: datetime | None) -> pa.Table:
    """customer_id, lifecycle: as of a moment, for which there are features; of nobody where it is None."""
    import pyarrow as pa

    if moment is None:
        return pa.table({name: pa.array([], pa.string()) for name in ("customer_id", "lifecycle")})
    with lake.read(moment) as reading:
        return reading.arrow(reading.derived("features").select("customer_id", "lifecycle"))


def a_week_ago(lake: Lake, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, lifecycle_a_week_ago: who had features then."""
    import ibis

    from controltower.profiles.lifecycle import EARLIER

    found = stages(lake, made_at(lake, "features", earlier(as_of, EARLIER, shop)))
    return ibis.memtable(found.rename_columns(["customer_id", "lifecycle_a_week_ago"]))


def expected(lake: Lake, at: datetime, shop: Shop) -> dict[str, Any] | None:
    """How many customers are expected to move from stage to stage within 28 days, stays among them.

    {days, until, moves: [{from, to, expected, low, high}], unknown (customers without a chance), error, dates}. The
    chance of no purchase is dormancy_28d, of who never bought 1 - propensity_28d; then the stage follows by the rule.
    The 95 % interval holds chance (customers decide independently of each other), and by what share the expected buyers
    of up to three past dates were off beyond it (`error`; None with `dates` 0, where none is over yet). None without
    scores of that date.
    """
    from math import isnan, nan, sqrt
    from statistics import NormalDist

    from controltower.audiences.targeting import calibration_error

    if not _scored(lake, at):
        return None
    past = [one for k in range(1, PAST_DATES + 1) if (one := _judged(lake, earlier(at, AHEAD * k, shop), shop))]
    error = calibration_error(*zip(*past, strict=True)) if past else nan
    moves: dict[tuple[str, str], list[float]] = {}
    unknown = 0
    for c in _chances(lake, at):
        if c["silent"] == c["bought"]:
            ways = [(c["silent"], float(c["customers"]), 0.0, 0.0)]
        else:
            unknown += c["customers"] - c["known"]
            buyers = c["known"] - c["none"]  # if more buy than expected, the silent are fewer by as many
            ways = [(c["silent"], c["none"], c["variance"], -buyers), (c["bought"], buyers, c["variance"], buyers)]
        for to, *added in ways:
            moves[c["stage"], to] = [a + b for a, b in zip(moves.get((c["stage"], to), (0, 0, 0)), added, strict=True)]
    quantile, known = NormalDist().inv_cdf(0.5 + LEVEL / 2), not isnan(error)
    rows = []
    for (before, after), (count, variance, shift) in sorted(moves.items(), key=lambda one: _place(*one[0])):
        spread = quantile * sqrt(variance + (error * shift if known else 0) ** 2)
        low, high = max(0.0, count - spread), count + spread
        rows.append({"from": before, "to": after, "expected": count, "low": low, "high": high})
    until = (at.astimezone(shop.zone) + timedelta(days=AHEAD)).astimezone(UTC)
    return {
        "days": AHEAD, "until": until.isoformat(), "moves": rows, "unknown": unknown,
        "error": error if known else None, "dates": len(past),
    }  # fmt: skip


def _chances(lake: Lake, at: datetime) -> list[dict[str, Any]]:
    """By `stage`, and the stages after 28 days without a purchase (`silent`) and with one (`bought`): customers, of how
    many the chance is known, the sum of the chances of no purchase (`none`), and its variance."""
    import ibis

    from controltower.profiles.lifecycle import after_purchase, lifecycle

    with lake.read(at) as reading:
        features, scores = reading.derived("features"), reading.derived("scores")
        chances = {name: scores[name].cast("float64") for name in ("dormancy_28d", "propensity_28d")}
        never = features.days_since_last_order.isnull()
        stages = {"silent": lifecycle(features, AHEAD), "bought": after_purchase(features)}
        stood = features.select("customer_id", stage=features.lifecycle, never=never, **stages)
        rows = stood.left_join(scores.select("customer_id", **chances), "customer_id")
        none = ibis.ifelse(rows.never, 1.0 - rows.propensity_28d, rows.dormancy_28d)
        rows = rows.select("stage", "silent", "bought", none=none)
        cells = rows.group_by(["stage", "silent", "bought"]).aggregate(
            customers=rows.count(),
            known=rows.none.count(),
            none=rows.none.sum().fill_null(0.0),
            variance=(rows.none * (1.0 - rows.none)).sum().fill_null(0.0),
        )
        found: list[dict[str, Any]] = reading.arrow(cells).to_pylist()
        return found


def _judged(lake: Lake, moment: datetime, shop: Shop) -> tuple[float, float, float] | None:
    """Of the customers scored as of a past moment: how many buyers were expected, how many bought within 28 days, and
    the variance of the first. None where features or scores of then, or features of 28 days later, aren't there."""
    import pyarrow.compute as pc

    at, end = (made_at(lake, "features", one) for one in (moment, earlier(moment, -AHEAD, shop)))
    if at is None or end is None or not _scored(lake, at):
        return None
    cells = _chances(lake, at)
    if any(c["known"] < c["customers"] for c in cells):
        return None
    with lake.read(end) as reading:
        features = reading.derived("features")
        lately = features.filter(features.days_since_last_order < (end - at) / timedelta(days=1))
        buyers = reading.arrow(lately.select("customer_id"))["customer_id"]
    bought = pc.sum(pc.is_in(stages(lake, at)["customer_id"], buyers.combine_chunks())).as_py() or 0
    return sum(c["customers"] - c["none"] for c in cells), float(bought), sum(c["variance"] for c in cells)


def _scored(lake: Lake, at: datetime) -> bool:
    """Whether there are scores of this very moment, with chances."""
    from controltower.data.lake import interval_key

    if not lake.sizes("scores").get(interval_key(at)):
        return False
    with lake.read(at) as reading:
        return {"dormancy_28d", "propensity_28d"} <= set(reading.derived("scores").columns)


def _moves(before: pa.Table, now: pa.Table) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = before["customer_id"].combine_chunks()
    was = before["lifecycle"].combine_chunks().take(pc.index_in(now["customer_id"].combine_chunks(), ids))
    gone = before.filter(pc.invert(pc.is_in(ids, now["customer_id"].combine_chunks())))["lifecycle"]
    pairs = pa.table({
        "from": pa.chunked_array([was, *gone.chunks], pa.string()),
        "to": pa.chunked_array([*now["lifecycle"].chunks, pa.nulls(len(gone), pa.string())]),
    })  # fmt: skip
    found = pairs.group_by(["from", "to"]).aggregate([([], "count_all")]).rename_columns({"count_all": "customers"})
    return sorted(found.to_pylist(), key=lambda one: _place(one["from"], one["to"]))


def _counts(rows: pa.Table) -> Mapping[str, int]:
    from controltower.profiles.lifecycle import STAGES

    found = {row["values"]: row["counts"] for row in rows["lifecycle"].value_counts().to_pylist()}
    return {stage: found.get(stage, 0) for stage in STAGES}


def _place(one: str | None, other: str | None) -> tuple[int, int]:
    """Where a move stands: in the order of the stages, the unknown last."""
    from controltower.profiles.lifecycle import STAGES

    places = {stage: n for n, stage in enumerate(STAGES)}
    return places.get(one or "", len(places)), places.get(other or "", len(places))
