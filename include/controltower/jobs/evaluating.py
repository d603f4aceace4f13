"""evaluate: how good what is trained as of a past moment would have been, by what customers did since."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from controltower import settings
from controltower.jobs.profiles import moment

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("controltower")

TASKS = ("recommend",)


def evaluate(task: str = "recommend", as_of: str | None = None, days: int = 28) -> tuple[dict[str, Any], pa.Table]:
    """Train as of `days` before as_of, on what was known then, and judge by what was done from then until as_of.

    Nothing is stored. Returns a report (the row of who serves for each model and group, `regret` against the best
    algorithm, what wasn't tried, CPU-seconds) and all rows: one a model, group and algorithm.
    """
    from threadpoolctl import threadpool_limits

    from controltower.data.lake import Lake
    from controltower.errors import BadSettings, NoData
    from controltower.models.recommend import evaluation, history

    if task not in TASKS:
        raise BadSettings(f"There is nothing to evaluate named {task!r}.", f"--task is {', '.join(TASKS)}.")
    if not 1 <= days <= 3650:
        raise BadSettings(f"{days} days can't be evaluated.", "Say 1 to 3650 with --days.")
    config = settings.load()
    shop = settings.load_shop(config)
    at = moment(as_of, config, shop)
    start = at - timedelta(days=days)
    spent = time.process_time()
    lake = Lake(config)
    with lake.read(start) as reading:
        past = history.read(reading.table, start, shop)
        allowed = history.catalogue_mask(reading.table, start, past.product_ids, in_stock=False)
    if not len(past):
        raise NoData(
            f"Nothing was bought or viewed before {start.isoformat()}, so nothing can be learned.",
            "Load data first, or choose a later date with --as-of or fewer --days.",
        )
    with lake.read(at) as reading:
        later = history.read(reading.table, at, shop)
    log.info("evaluating on %d interactions of before %s", len(past), start.isoformat())
    with threadpool_limits(limits=1):
        made = evaluation.evaluate(past, later, allowed)
    if not made.rows:
        raise NoData(
            f"No known customer took a product that may be shown from {start.isoformat()} until {at.isoformat()}.",
            "Choose another date with --as-of, or more --days.",
        )
    report = {
        "task": task,
        "as_of": at.isoformat(),
        "split": start.isoformat(),
        "days": days,
        "customers": past.shape[0],
        "products": past.shape[1],
        "products_allowed": int(allowed.sum()),
        "interactions": len(past),
        "unknown_share": made.unknown_share,
        "diversity_by": made.diversity_by,
        "not_tried": made.not_tried,
        "models": made.tasks,
        "served": [row for row in made.rows if row["algorithm"] == evaluation.SERVED],
        "regret": made.regret,
        "cpu_seconds": round(time.process_time() - spent, 1),
    }
    return report, _table(made.rows)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        if name in ("task", "group", "algorithm", "chosen"):
            return pa.string()
        return pa.int64() if name == "cases" else pa.float64()

    return pa.Table.from_pylist(rows, schema=pa.schema([(name, kind(name)) for name in rows[0]]))
