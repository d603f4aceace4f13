"""Which recommender serves: trained on the past, tried on what customers bought next, ranked against all products."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
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
from controltower.profiles.portable import DAY

KINDS: tuple[type[Recommender], ...] = (Blend, OwnHistory, OwnCount, Popularity, Als, Neighbours)
REPEAT, NEW = "recommend_repeat", "recommend_new"
K = 10
SPLIT_DAYS = 28  # the orders of this many days are the truth, or the latest tenth where that is less
MOST_CUSTOMERS = 1500  # tried on a drawn sample of this many
FEWEST_CUSTOMERS = 20  # with fewer in a half, chance decides


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

    Each is the candidate with the best NDCG@10 on one half of the customers after the time split, and is judged on the
    other half, which had no say in the choice. If it beats the baseline (own order counts, or popularity) there, it is
    trained again on everything and serves; else the baseline does. allowed: mask of the products that may be shown.
    """
    found = split(interactions)
    final = {name: kind().fit(interactions) for name, kind in MEMBERS.items()}
    past = {name: kind().fit(found.history) for name, kind in MEMBERS.items()} if found else {}
    outcomes, before = [], []
    for name, repeat in ((REPEAT, True), (NEW, False)):
        baseline = OwnCount if repeat else Popularity
        tried = _try(found, past, baseline, repeat, allowed) if found else Tried()
        served = _serving(tried, final, baseline, interactions)
        outcomes.append(_outcome(name, served, baseline.name, tried, interactions, found))
        if found:
            before.append(_serving(tried, past, baseline, found.history))
    outcomes[0].details["repeat_helps"] = _repeat_helps(found, before, allowed) if found else True
    return outcomes


@dataclass(frozen=True)
class Tried:
    """How the candidates did on what customers ordered after the split, by NDCG@10.

    One half of the customers chooses the best candidate, the other half judges it: the best of many looks better than
    it is on the customers that chose it.
    """

    ndcg: dict[Blend.Config, float] = field(default_factory=dict)  # of each candidate, on the half that chooses
    best: Blend.Config | None = None
    challenger: float = 0.0  # the best one, on the half that judges
    baseline: float = 0.0  # on the half that judges
    choosing: int = 0  # customers
    judging: int = 0

    @property
    def enough(self) -> bool:
        return min(self.choosing, self.judging) >= FEWEST_CUSTOMERS

    @property
    def winner(self) -> Blend.Config | None:
        return self.best if self.enough and self.challenger > self.baseline else None


def judges(customer_ids: np.ndarray) -> np.ndarray:
    """Mask of the half of the customers that judges. By a hash of the id: a customer's half never changes."""
    return np.array([hashlib.sha256(f"judges {c}".encode()).digest()[0] % 2 == 1 for c in customer_ids], dtype=bool)


def _try(
    found: Split, past: dict[str, Recommender], kind: type[Recommender], repeat: bool, allowed: np.ndarray
) -> Tried:
    truth = _truth(found, repeat, allowed)
    rows = _sample(truth)
    judging = judges(found.history.customer_ids[rows])
    if not judging.any() or judging.all():
        return Tried(choosing=int((~judging).sum()), judging=int(judging.sum()))
    baseline = kind().fit(found.history)
    configs = candidates(repeat)
    trend = momentum(found.history)
    fill = FILL * past["popularity"].popularity[None, :]
    made = []
    for chunk in _chunks(rows, truth.shape[1]):
        raw: Parts = {}
        for member in past.values():
            raw.update(member.score(found.history, chunk))
        parts = (*(combine(raw, config, trend) for config in configs), baseline.score(found.history, chunk))
        made.append([_gain(fill + sum(p.values()), found.history, chunk, truth, repeat, allowed) for p in parts])
    gains = np.hstack(made)  # candidates, then the baseline x customers
    chosen, judged = gains[:-1, ~judging].mean(axis=1), gains[:, judging].mean(axis=1)
    best = int(chosen.argmax())
    return Tried(
        ndcg=dict(zip(configs, chosen.tolist(), strict=True)),
        best=configs[best],
        challenger=float(judged[best]),
        baseline=float(judged[-1]),
        choosing=int((~judging).sum()),
        judging=int(judging.sum()),
    )


def _outcome(
    name: str, served: Recommender, baseline: str, tried: Tried, interactions: Interactions, found: Split | None
) -> Outcome:
    best = tried.best
    orders = interactions.kind == ORDER
    return Outcome(
        name=name,
        model=served,
        challenger=_label(best) if best else Blend.name,
        published=tried.winner is not None,
        why=_why(tried, baseline),
        metric="ndcg@10",
        metrics={"ndcg@10": round(tried.challenger, 5)} if best else {},
        baseline=baseline,
        baseline_metrics={"ndcg@10": round(tried.baseline, 5)} if best else {},
        window=_window(interactions),
        rows={
            "customers": interactions.shape[0],
            "products": interactions.shape[1],
            "orders": int(orders.sum()),
            "carts_and_views": int((~orders).sum()),
            "customers_choosing": tried.choosing,
            "customers_judging": tried.judging,
        },
        details={
            "weights": best.model_dump(exclude={"seed"}) if best else {},
            "chosen_among": {_label(c): round(v, 5) for c, v in _best_by_label(tried.ndcg).items()},
            "split_at": datetime.fromtimestamp(found.start, UTC).isoformat() if found else None,
        },
    )


def _gain(
    scores: np.ndarray, history: Interactions, rows: np.ndarray, truth: sp.csr_matrix, repeat: bool, allowed: np.ndarray
) -> np.ndarray:
    picked = top(barred(np.array(scores), history, rows, repeat, allowed), K)
    return ndcg(picked, truth[rows])


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


def _repeat_helps(found: Split, before: Sequence[Recommender], allowed: np.ndarray) -> bool:
    """Whether lists with products bought before hit more of all that customers bought than lists without.

    before: who serves with repeats and who without, as trained on the past of the split.
    """
    truth = _truth(found, True, allowed)
    rows = _sample(truth)
    rows = rows[judges(found.history.customer_ids[rows])]
    totals = []
    for model, repeat in zip(before, (True, False), strict=True):
        total = 0.0
        for chunk in _chunks(rows, truth.shape[1]):
            scores = FILL * model.popularity[None, :] + sum(model.score(found.history, chunk).values())
            total += float(_gain(scores, found.history, chunk, truth, repeat, allowed).sum())
        totals.append(total)
    return totals[0] >= totals[1]


def _serving(
    tried: Tried, members: dict[str, Recommender], baseline: type[Recommender], interactions: Interactions
) -> Recommender:
    """The winner, or the baseline where there is none. members: fitted on these interactions."""
    return _model(tried.winner, members, interactions) if tried.winner else baseline().fit(interactions)


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


def _why(tried: Tried, baseline: str) -> str:
    if not tried.enough:
        count = tried.choosing + tried.judging
        return f"Only {count} customers bought after the time split, too few to choose and to judge: {baseline} serves."
    on = f"on what {tried.judging} customers bought after the time split"
    compared = f"NDCG@10 {tried.challenger:.4f} against {tried.baseline:.4f}"
    if tried.winner:
        return f"Chosen on {tried.choosing} other customers, it beat {baseline} {on}: {compared}."
    return f"The candidate chosen on {tried.choosing} customers lost to {baseline} {on}, so that serves: {compared}."


def _window(interactions: Interactions) -> tuple[datetime, datetime] | None:
    if not len(interactions):
        return None
    first, last = int(interactions.second.min()), int(interactions.second.max())
    return datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
