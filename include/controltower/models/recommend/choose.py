"""Which recommender serves: trained on the past, tried on what customers bought next, ranked against all products."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product as combinations

import numpy as np
import scipy.sparse as sp

from controltower.models.base import Outcome
from controltower.models.recommend.als import Als
from controltower.models.recommend.base import CELLS, FILL, Parts, Recommender, barred, top
from controltower.models.recommend.blend import MEMBERS, Blend, combine, momentum
from controltower.models.recommend.interactions import ORDER, Interactions
from controltower.models.recommend.neighbours import Neighbours
from controltower.models.recommend.own_history import OwnCount, OwnHistory
from controltower.models.recommend.popularity import Popularity
from controltower.profiles.local_time import DAY

KINDS: tuple[type[Recommender], ...] = (Blend, OwnHistory, OwnCount, Popularity, Als, Neighbours)
REPEAT, NEW = "recommend_repeat", "recommend_new"
K = 10
SPLIT_DAYS = 28  # the orders of this many days are the truth, or the latest tenth where that is less
MOST_CUSTOMERS = 1500  # tried on a drawn sample of this many
FEWEST_CUSTOMERS = 20  # with fewer, chance decides


@dataclass(frozen=True)
class Split:
    """Interactions before a moment, and what customers ordered from then on."""

    history: Interactions
    future: sp.csr_matrix  # customers x products: 1 where ordered
    start: int


def candidates(repeat: bool) -> list[Blend.Config]:
    """Each member alone, and blends of them."""

    def blend(**weights: float) -> Blend.Config:
        return Blend.Config.model_validate({**dict.fromkeys(MEMBERS, 0.0), **weights})

    alone = [blend(**{name: 1.0}) for name in MEMBERS]
    popular, general = ((0.3, 0.6, 1.0), (0.0, 0.3)) if repeat else ((0.1, 0.3), (0.0, 1.0))
    for p, a, n, m in combinations(popular, general, general, (0.0, 1.0)):
        if m == 0 or a or n:
            alone.append(blend(own_history=1.0, popularity=p, als=a, neighbours=n, momentum=m))
    return alone


def split(interactions: Interactions) -> Split | None:
    """The time split, or None where there are too few orders for one."""
    orders = interactions.second[interactions.kind == ORDER]
    if not len(orders):
        return None
    start = max(interactions.until - SPLIT_DAYS * DAY, int(np.quantile(orders, 0.9, method="lower")))
    history = interactions.where(interactions.second < start, until=start)
    later = (interactions.second >= start) & (interactions.kind == ORDER)
    future = sp.csr_matrix(
        (np.ones(later.sum(), np.float32), (interactions.customer[later], interactions.product[later])),
        interactions.shape,
    )
    future.data[:] = 1.0
    return Split(history, future, start) if len(history) and future.nnz else None


def train(interactions: Interactions, allowed: np.ndarray) -> list[Outcome]:
    """Two recommenders: with products bought before, and with new ones only.

    Each is the candidate with the best NDCG@10 on the time split, trained again on everything; where none beats the
    baseline (own order counts, or popularity), the baseline serves. allowed: mask of the products that may be shown.
    """
    window = _window(interactions)
    found = split(interactions)
    final = {name: kind().fit(interactions) for name, kind in MEMBERS.items()}
    rows = {
        "customers": interactions.shape[0],
        "products": interactions.shape[1],
        "orders": int((interactions.kind == ORDER).sum()),
        "carts_and_views": int((interactions.kind != ORDER).sum()),
    }
    outcomes = []
    past = {name: kind().fit(found.history) for name, kind in MEMBERS.items()} if found else {}
    for name, repeat in ((REPEAT, True), (NEW, False)):
        baseline: Recommender = (OwnCount() if repeat else Popularity()).fit(interactions)
        tried = _try(found, past, repeat, allowed) if found else Tried()
        enough = tried.customers >= FEWEST_CUSTOMERS
        best = max(tried.ndcg, key=lambda c: tried.ndcg[c], default=None)
        won = best is not None and enough and tried.ndcg[best] > tried.baseline
        outcomes.append(
            Outcome(
                name=name,
                model=_model(best, final, interactions) if won and best else baseline,
                challenger=_label(best) if best else Blend.name,
                published=won,
                why=_why(won, enough, tried, baseline.name),
                metric="ndcg@10",
                metrics=_metrics(tried, best),
                baseline=baseline.name,
                baseline_metrics={"ndcg@10": round(tried.baseline, 5)} if tried.customers else {},
                window=window,
                rows={**rows, "customers_tried": tried.customers},
                details={
                    "weights": best.model_dump(exclude={"seed"}) if best else {},
                    "tried": {_label(c): round(v, 5) for c, v in _best_by_label(tried.ndcg).items()},
                    "split_at": datetime.fromtimestamp(found.start, UTC).isoformat() if found else None,
                },
            )
        )
    outcomes[0].details["repeat_helps"] = _repeat_helps(found, past, outcomes, allowed)
    return outcomes


@dataclass(frozen=True)
class Tried:
    """NDCG@10 by candidate, and the baseline's, over this many customers."""

    ndcg: dict[Blend.Config, float] = field(default_factory=dict)
    baseline: float = 0.0
    customers: int = 0


def _try(found: Split, past: dict[str, Recommender], repeat: bool, allowed: np.ndarray) -> Tried:
    truth = _truth(found, repeat, allowed)
    rows = _sample(truth)
    if not len(rows):
        return Tried()
    baseline: Recommender = OwnCount() if repeat else Popularity()
    baseline.fit(found.history)
    configs = candidates(repeat)
    totals = np.zeros(len(configs) + 1)
    trend = momentum(found.history)
    fill = FILL * past["popularity"].popularity[None, :]
    for chunk in _chunks(rows, truth.shape[1]):
        raw: Parts = {}
        for member in past.values():
            raw.update(member.score(found.history, chunk))
        for i, config in enumerate(configs):
            scores = fill + sum(combine(raw, config, trend).values())
            totals[i] += _gain(scores, found.history, chunk, truth, repeat, allowed)
        own = fill + sum(baseline.score(found.history, chunk).values())
        totals[-1] += _gain(own, found.history, chunk, truth, repeat, allowed)
    means = totals / len(rows)
    return Tried(dict(zip(configs, means[:-1].tolist(), strict=True)), float(means[-1]), len(rows))


def _gain(
    scores: np.ndarray, history: Interactions, rows: np.ndarray, truth: sp.csr_matrix, repeat: bool, allowed: np.ndarray
) -> float:
    picked = top(barred(np.array(scores), history, rows, repeat, allowed), K)
    return float(ndcg(picked, truth[rows]).sum())


def ndcg(picked: np.ndarray, truth: sp.csr_matrix) -> np.ndarray:
    """NDCG of each row: `picked` columns, best first, against the ones of `truth`; binary gains."""
    hits = np.asarray(truth[np.arange(len(picked))[:, None], picked].todense())
    discount = 1 / np.log2(np.arange(2, picked.shape[1] + 2))
    ideal = np.r_[0.0, discount.cumsum()][np.minimum(np.diff(truth.indptr), picked.shape[1])]
    return np.divide((hits * discount).sum(axis=1), ideal, out=np.zeros(len(picked)), where=ideal > 0)


def _truth(found: Split, repeat: bool, allowed: np.ndarray) -> sp.csr_matrix:
    truth = found.future if repeat else found.future - found.future.multiply(found.history.ordered)
    truth = (truth @ sp.diags(allowed.astype(np.float32))).tocsr()
    truth.eliminate_zeros()
    return truth


def _sample(truth: sp.csr_matrix) -> np.ndarray:
    rows = np.flatnonzero(np.diff(truth.indptr))
    if len(rows) <= MOST_CUSTOMERS:
        return rows
    return np.sort(np.random.default_rng(7).choice(rows, MOST_CUSTOMERS, replace=False))


def _chunks(rows: np.ndarray, width: int) -> Iterable[np.ndarray]:
    size = max(1, CELLS // max(1, width))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _repeat_helps(
    found: Split | None, past: dict[str, Recommender], outcomes: list[Outcome], allowed: np.ndarray
) -> bool:
    """Whether lists with products bought before hit more of all that customers bought than lists without."""
    if found is None:
        return True
    truth = _truth(found, True, allowed)
    rows = _sample(truth)
    means = []
    for outcome, repeat in zip(outcomes, (True, False), strict=True):
        if outcome.details["weights"]:
            config = Blend.Config(**outcome.details["weights"])
            model: Recommender = Blend.of(config, past, found.history)
        else:
            model = past["popularity"]
        total = 0.0
        for chunk in _chunks(rows, truth.shape[1]):
            scores = FILL * model.popularity[None, :] + sum(model.score(found.history, chunk).values())
            total += _gain(scores, found.history, chunk, truth, repeat, allowed)
        means.append(total)
    return means[0] >= means[1]


def _model(config: Blend.Config, members: dict[str, Recommender], interactions: Interactions) -> Recommender:
    alone = _label(config)
    return members[alone] if alone in members else Blend.of(config, members, interactions)


def _label(config: Blend.Config) -> str:
    used = [name for name in MEMBERS if getattr(config, name) > 0]
    return used[0] if len(used) == 1 else Blend.name


def _best_by_label(tried: dict[Blend.Config, float]) -> dict[Blend.Config, float]:
    best: dict[str, tuple[Blend.Config, float]] = {}
    for config, value in tried.items():
        if _label(config) not in best or value > best[_label(config)][1]:
            best[_label(config)] = (config, value)
    return dict(best.values())


def _metrics(tried: Tried, best: Blend.Config | None) -> dict[str, float]:
    return {"ndcg@10": round(tried.ndcg[best], 5)} if best is not None else {}


def _why(won: bool, enough: bool, tried: Tried, baseline: str) -> str:
    if won:
        return f"It beat {baseline} on what {tried.customers} customers bought after the time split."
    if not enough:
        return f"Only {tried.customers} customers bought after the time split, too few to judge: {baseline} serves."
    return f"No candidate beat {baseline} on the time split, so {baseline} serves."


def _window(interactions: Interactions) -> tuple[datetime, datetime] | None:
    if not len(interactions):
        return None
    first, last = int(interactions.second.min()), int(interactions.second.max())
    return datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
