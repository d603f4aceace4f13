"""What a run changed: customers with a message planned, against those held out of it.

By intention to treat: a customer counts in the group that was drawn, whether or not the message left or arrived, since
what keeps a message from leaving is seldom chance. Both groups' outcomes are counted over the same days, from planning
on. Whom `ledger.cohorts` leaves out, and why, is said there.

The verdict is on one question, asked once, after the window has closed: did another share of customers order? Looking
every day and stopping when it suits finds effects where there are none. Revenue per customer is shown beside it,
without a claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa

from controltower.measurement import intervals

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from controltower.data.lake import Reading

# With fewer expected orders (or expected customers without one) in a group, a share says too little: Cochran's rule.
FEWEST = 5
# Of the held out, this share may have got a message of the campaign all the same: it hides as much of an effect.
MOST_WRITTEN_TO = 0.01

PEOPLE = pa.schema(
    [("run_id", pa.int64()), ("subject_id", pa.int64()), ("customer_id", pa.string()), ("treated", pa.bool_()),
     ("starts", pa.timestamp("us", "UTC")), ("ends", pa.timestamp("us", "UTC"))]
)  # fmt: skip
Member = tuple[int, str, bool, datetime]  # subject, customer, whether a message was planned, when


@dataclass(frozen=True)
class Group:
    """One arm's outcomes; revenue in the shop's currency, variance over customers."""

    customers: int = 0
    ordered: int = 0
    revenue: Decimal = Decimal(0)
    variance: float = 0.0

    @property
    def share(self) -> float | None:
        return self.ordered / self.customers if self.customers else None

    @property
    def mean(self) -> float:
        return float(self.revenue) / self.customers if self.customers else 0.0


def people(run_id: int, members: Iterable[Member], window: timedelta) -> pa.Table:
    """A run's members with the time in which their orders count: some 50 bytes each, made in pieces."""
    batches, rows = [], []
    for member in members:
        rows.append((run_id, *member, member[3] + window))
        if len(rows) == 10_000:
            batches.append(_batch(rows))
            rows = []
    return pa.Table.from_batches([*batches, _batch(rows)], schema=PEOPLE)


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ((),) * len(PEOPLE)
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, PEOPLE, strict=True)], schema=PEOPLE)


def tally(
    lake: Reading, who: pa.Table, orders: ir.Table, as_of: datetime, currency: str
) -> dict[int, dict[bool, Group]]:
    """By run, the outcomes of the treated (True) and the held out (False): one count a subject, however many orders.

    `who` is as `people` makes it, `orders` as `measurement.orders.counted` does.
    """
    members = ibis.memtable(who)
    hits = orders.inner_join(members, "customer_id")
    hits = hits.filter(hits.ordered_at >= hits.starts, hits.ordered_at < hits.ends, hits.ordered_at <= as_of)
    in_currency = ibis.ifelse(hits.currency == currency, hits.revenue, ibis.literal(0).cast("decimal(18,4)"))
    outcomes = hits.group_by(["run_id", "subject_id"]).aggregate(ordered=hits.bought.any(), revenue=in_currency.sum())
    everyone = members.select("run_id", "subject_id", "treated").distinct()
    each = everyone.left_join(outcomes, ["run_id", "subject_id"])
    revenue = each.revenue.fill_null(0).cast("decimal(18,4)")
    square = revenue.cast("decimal(28,4)") * revenue  # decimals: the same to the last digit in whatever order summed
    counted = each.group_by(["run_id", "treated"]).aggregate(
        customers=each.count(),
        ordered=each.ordered.fill_null(False).sum(),
        revenue=revenue.sum().cast("decimal(38,4)"),
        squares=square.sum().cast("decimal(38,8)"),
    )
    found: dict[int, dict[bool, Group]] = {}
    for row in lake.arrow(counted).to_pylist():
        groups = found.setdefault(row["run_id"], {True: Group(), False: Group()})
        groups[row["treated"]] = Group(
            row["customers"],
            int(row["ordered"]),
            row["revenue"],
            _variance(row["customers"], row["revenue"], row["squares"]),
        )
    return found


def _variance(n: int, total: Decimal, squares: Decimal) -> float:
    """The sample variance, exact up to the last division."""
    with localcontext(prec=80):
        return float((squares - total * total / n) / (n - 1)) if n > 1 else 0.0


@dataclass(frozen=True)
class Window:
    """The days over which outcomes are counted, and up to when orders are known."""

    starts: datetime
    days: int
    known_until: datetime | None  # None: none were loaded

    @property
    def ends(self) -> datetime:
        return self.starts + timedelta(days=self.days)

    @property
    def closed(self) -> bool:
        return self.known_until is not None and self.known_until >= self.ends

    @property
    def days_so_far(self) -> int:
        passed = ((self.known_until or self.starts) - self.starts) // timedelta(days=1)
        return max(0, min(self.days, passed))


def compare(treated: Group, holdout: Group) -> dict[str, Any]:
    """The difference treated - holdout with its 95 % intervals, and the smallest that could be shown; None each where a
    group is empty.
    """
    n, m = treated.customers, holdout.customers
    if not n or not m:
        return {"difference": None, "low": None, "high": None, "detectable": None, "revenue": None}
    low, high = intervals.newcombe(treated.ordered, n, holdout.ordered, m)
    pooled = (treated.ordered + holdout.ordered) / (n + m)
    revenue = None
    if min(n, m) > 1:
        bounds = intervals.careful_welch(treated.mean, treated.variance, n, holdout.mean, holdout.variance, m)
        values = (treated.mean - holdout.mean, *bounds)
        revenue = dict(zip(("difference", "low", "high"), (str(_money(v)) for v in values), strict=True))
    return {
        "difference": treated.ordered / n - holdout.ordered / m,
        "low": low,
        "high": high,
        "detectable": intervals.detectable(pooled, n, m) if 0 < pooled < 1 else None,
        "revenue": revenue,
    }


def _money(value: float) -> Decimal:
    return Decimal(value).quantize(Decimal("0.0001"))


def too_small(treated: Group, holdout: Group) -> bool:
    """Whether the smaller group is too small for a verdict, if both behaved alike."""
    pooled = (treated.ordered + holdout.ordered) / (treated.customers + holdout.customers)
    smaller = min(treated.customers, holdout.customers)
    return smaller * min(pooled, 1 - pooled) < FEWEST


def verdict(
    treated: Group, holdout: Group, window: Window, *, left: int, recorded: bool, written_to: int = 0,
    seen_before: int = 0,
) -> str:  # fmt: skip
    """One of `nobody new`, `no holdout`, `nothing left`, `contaminated`, `window open`, `too small`, `placebo test`,
    `effect`, `no effect shown`. `left` is how many messages left, `written_to` how many of the held out got one all the
    same, `seen_before` how many customers an earlier run of the campaign could write to.
    """
    if not holdout.customers or not treated.customers:
        return "nobody new" if seen_before else "no holdout"
    if not left:
        return "nothing left"
    if written_to > MOST_WRITTEN_TO * holdout.customers:
        return "contaminated"
    if not window.closed:
        return "window open"
    if too_small(treated, holdout):
        return "too small"
    if recorded:
        return "placebo test"
    return "effect" if leaves_out_0(compare(treated, holdout)) else "no effect shown"


def leaves_out_0(compared: Mapping[str, Any]) -> bool:
    return bool(compared["low"] > 0 or compared["high"] < 0)


def readout(
    groups: Mapping[bool, Group], window: Window, left_out: Mapping[str, int], *,
    left: int, recorded: bool, currency: str, written_to: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """The comparison as a report shows it: JSON-able; shares as fractions, money as text in `currency`.

    Of the words that tell it (wording.py) it holds only the verdict's code.
    """
    treated, holdout = groups[True], groups[False]
    return {
        "verdict": verdict(
            treated, holdout, window, left=left, recorded=recorded, written_to=written_to,
            seen_before=left_out.get("in_earlier_run", 0),
        ),
        "placebo": recorded,
        "window": {
            "from": window.starts.isoformat(), "to": window.ends.isoformat(), "days": window.days,
            "days_so_far": window.days_so_far, "closed": window.closed,
            "known_until": window.known_until.isoformat() if window.known_until else None,
        },
        "treated": _group(treated),
        "holdout": _group(holdout),
        "written_to": written_to,
        **compare(treated, holdout),
        "currency": currency,
        "left_out": dict(left_out),
    }  # fmt: skip


def random_hours(found: Mapping[bool, tuple[int, int]]) -> dict[str, Any] | None:
    """What messages at a random hour (True) brought beside those at the customer's best one (False), of messages
    accepted and clicked: who got which was drawn, so nothing else differs. Shares of clicks, and random - best with its
    95 % interval; those None where too few were clicked. None: none went at random.
    """
    (random, random_clicked), (best, best_clicked) = found.get(True, (0, 0)), found.get(False, (0, 0))
    if not random or not best:
        return None
    said: dict[str, Any] = {"random": random, "best": best, "difference": None}
    pooled = (random_clicked + best_clicked) / (random + best)
    if min(random, best) * min(pooled, 1 - pooled) < FEWEST:
        return said
    low, high = intervals.newcombe(random_clicked, random, best_clicked, best)
    shares = {"random_share": random_clicked / random, "best_share": best_clicked / best}
    return said | shares | {"difference": shares["random_share"] - shares["best_share"], "low": low, "high": high}


def _group(group: Group) -> dict[str, Any]:
    mean = _money(group.mean) if group.customers else None
    return asdict(group) | {
        "revenue": str(group.revenue.quantize(Decimal("0.0001"))), "share": group.share,
        "revenue_per_customer": None if mean is None else str(mean),
    }  # fmt: skip
