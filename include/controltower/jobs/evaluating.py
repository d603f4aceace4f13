"""evaluate: how good what is trained as of a past moment would have been, by what customers did since."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower import settings
from controltower.jobs import inference
from controltower.jobs.predictions import Past, channel, next_order, propensity, send_time, uplift, value
from controltower.jobs.predictions.evaluated import Evaluated
from controltower.jobs.profiles import moment

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("controltower")


def evaluate(
    task: str = "recommend", as_of: str | None = None, days: int | None = None
) -> tuple[dict[str, Any], pa.Table]:
    """Train as of `days` before as_of (28; of clv 30), on what was known then, and judge by what was done from then on.

    Nothing is stored. Returns a report (`said`: the verdict, CPU-seconds, what the task tells besides) and all rows.
    """
    from threadpoolctl import threadpool_limits

    from controltower.errors import BadSettings

    if task not in TASKS:
        raise BadSettings(f"There is nothing to evaluate named {task!r}.", f"--task is {', '.join(TASKS)}.")
    days = DAYS.get(task, 28) if days is None else days
    if not 1 <= days <= 3650:
        raise BadSettings(f"{days} days can't be evaluated.", "Say 1 to 3650 with --days.")
    config = settings.load()
    shop = settings.load_shop(config)
    at = moment(as_of, config, shop)
    start = at - timedelta(days=days)
    spent = time.process_time()
    with threadpool_limits(limits=1), Past.of(config, shop, start) as past:
        made = TASKS[task](past, at)
    report = {
        "task": task,
        "as_of": at.isoformat(),
        "split": start.isoformat(),
        "days": days,
        "said": made.said,
        **made.about,
        "cpu_seconds": round(time.process_time() - spent, 1),
    }
    return report, _table(made.rows)


def _recommend(past: Past, until: datetime) -> Evaluated:
    from controltower.errors import NoData
    from controltower.models.recommend import evaluation, history

    with past.lake.read(past.as_of) as reading:
        known = history.read(reading.table, past.as_of, past.shop)
        allowed = history.catalogue_mask(reading.table, past.as_of, known.product_ids, in_stock=False)
    if not len(known):
        raise NoData(
            f"Nothing was bought or viewed before {past.as_of.isoformat()}, so nothing can be learned.",
            "Load data first, or choose a later date with --as-of or fewer --days.",
        )
    with past.lake.read(until) as reading:
        later = history.read(reading.table, until, past.shop)
    log.info("evaluating on %d interactions of before %s", len(known), past.as_of.isoformat())
    made = evaluation.evaluate(known, later, allowed)
    if not made.rows:
        raise NoData(
            f"No known customer took a product that may be shown from {past.as_of.isoformat()} until"
            f" {until.isoformat()}.",
            "Choose another date with --as-of, or more --days.",
        )
    about = {
        "customers": known.shape[0],
        "products": known.shape[1],
        "products_allowed": int(allowed.sum()),
        "interactions": len(known),
        "unknown_share": made.unknown_share,
        "diversity_by": made.diversity_by,
        "not_tried": made.not_tried,
        "models": made.tasks,
        "served": [row for row in made.rows if row["algorithm"] == evaluation.SERVED],
        "regret": made.regret,
    }
    return Evaluated(made.rows, [], about)


TASKS: dict[str, Callable[[Past, datetime], Evaluated]] = {
    "recommend": _recommend,
    "propensity": propensity.evaluate,
    "clv": value.evaluate,
    "replenishment": next_order.evaluate,
    "send_time": send_time.evaluate,
    "profile": inference.evaluate,
    "uplift": uplift.evaluate,
    "channel": channel.evaluate,
}
DAYS = {"clv": 30}  # what is judged by so many days, where not 28


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Where nothing could be judged: no rows, and one column."""
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        there = [row[name] for row in rows if row[name] is not None]
        if any(isinstance(value, str) for value in there):
            return pa.string()
        return pa.int64() if there and all(isinstance(value, int) for value in there) else pa.float64()

    names = list(rows[0]) if rows else []
    return pa.Table.from_pylist(rows, schema=pa.schema([(n, kind(n)) for n in names] or [("model", pa.string())]))
