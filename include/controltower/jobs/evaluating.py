"""evaluate: how good what is trained as of a past moment would have been, by what customers did since."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower import settings
from controltower.jobs.predictions import Past
from controltower.jobs.predictions.evaluated import Evaluated
from controltower.jobs.profiles import moment

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("controltower")

_CODES = ("task", "group", "algorithm", "chosen", "model", "serves", "name")  # columns of text


def evaluate(task: str = "recommend", as_of: str | None = None, days: int = 28) -> tuple[dict[str, Any], pa.Table]:
    """Train as of `days` before as_of, on what was known then, and judge by what was done from then until as_of.

    Nothing is stored. Returns a report (`said`: the verdict, CPU-seconds, what the task tells besides) and all rows.
    """
    from threadpoolctl import threadpool_limits

    from controltower.errors import BadSettings

    if task not in TASKS:
        raise BadSettings(f"There is nothing to evaluate named {task!r}.", f"--task is {', '.join(TASKS)}.")
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


TASKS: dict[str, Callable[[Past, datetime], Evaluated]] = {"recommend": _recommend}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        if name in _CODES:
            return pa.string()
        return pa.int64() if name in ("cases", "horizon", "customers") else pa.float64()

    return pa.Table.from_pylist(rows, schema=pa.schema([(name, kind(name)) for name in rows[0]]))
