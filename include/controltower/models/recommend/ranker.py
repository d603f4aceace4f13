"""A learned ranker over the candidates of all algorithms: LambdaRank (Burges 2010) by LightGBM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from controltower.errors import BadSettings
from controltower.models.base import State
from controltower.models.recommend import kernels
from controltower.models.recommend.algorithms.nearest import asked_for
from controltower.models.recommend.candidates import Candidates
from controltower.models.recommend.interactions import ORDER, Interactions, Weights
from controltower.models.recommend.pairs import days_of_activity
from controltower.profiles.portable import DAY

NAME = "lambdarank"
ROUNDS = 200  # with the leaves' weights held small, more or fewer make little difference, on few customers or many
MOST_PAIRS = 4_000_000  # what isn't a hit is drawn down to so many pairs
PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "learning_rate": 0.05,
    "num_leaves": 8,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 50.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


@dataclass(frozen=True)
class Facts:
    """What is known of a history's customers and products beside the algorithms' scores."""

    entries: np.ndarray  # by customer
    days: np.ndarray  # of activity, by customer
    idle: np.ndarray  # days since the customer's last entry
    popularity: np.ndarray  # by product
    sold: np.ndarray  # log orders, by product
    rising: np.ndarray  # orders of late over those of the last months, by product
    buyers_again: np.ndarray  # orders per buyer, by product
    history: Interactions

    @classmethod
    def of(cls, history: Interactions, popularity: np.ndarray) -> Facts:
        customers, products = history.shape
        orders = history.kind == ORDER
        day = days_of_activity(history)
        days, last = np.zeros(customers), np.full(customers, -np.inf)
        np.maximum.at(days, history.customer, day + 1)
        np.maximum.at(last, history.customer, history.second)
        sold = np.bincount(history.product[orders], minlength=products)
        buyers = np.bincount(history.ordered.indices, minlength=products)

        def lately(half_life: float) -> np.ndarray:
            weight = history.weight(Weights(order_half_life=half_life, event_half_life=half_life))
            return np.bincount(history.product, weights=weight, minlength=products)

        return cls(
            history.entries, days, (history.until - last) / DAY, popularity,
            np.log1p(sold), lately(14) / (lately(120) + 1), sold / np.maximum(buyers, 1), history,
        )  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """Candidates of a chunk of rows, and which of them are hits; their features are made when they are asked for.

    The scores alone are kept; of the features, which take several times as much, only a chunk's exist at a time.
    """

    facts: Facts
    rows: np.ndarray  # of the history
    case: np.ndarray  # of each row, its number among the cases
    row: np.ndarray  # position in rows (int32); sorted
    product: np.ndarray  # int32
    score: np.ndarray  # algorithms x pairs (float32): of a row all of its candidates, or none
    label: np.ndarray  # mask of the hits

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(cls, candidates: Candidates, facts: Facts, rows: np.ndarray, case: np.ndarray, label: np.ndarray) -> Pairs:
        """All candidates of the rows."""
        row, product = candidates.row.astype(np.int32), candidates.product.astype(np.int32)
        return cls(facts, rows, case, row, product, candidates.score, label)

    def where(self, keep: np.ndarray) -> Pairs:
        """Those of a mask of the rows."""
        if keep.all():
            return self
        mine = keep[self.row]
        return replace(
            self, row=self.row[mine], product=self.product[mine], score=self.score[:, mine], label=self.label[mine]
        )

    def features(self) -> np.ndarray:
        """As `features`."""
        row, count = self.row.astype(np.int64), len(self.rows)
        indptr = np.searchsorted(row, np.arange(count + 1))
        place = np.stack([kernels.places(indptr, score) for score in self.score])
        candidates = Candidates(count, row, self.product.astype(np.int64), [], self.score, place)
        return features(candidates, self.facts, self.rows)


def features(candidates: Candidates, facts: Facts, rows: np.ndarray) -> np.ndarray:
    """pairs x features: what each algorithm says, and what customer and product are like. rows: of the history."""
    columns = _columns(candidates, facts, rows)
    made = np.empty((len(candidates.row), 3 * len(candidates.score) + 11), np.float32)
    for i, column in enumerate(columns):
        made[:, i] = column
    return made


def _columns(c: Candidates, facts: Facts, rows: np.ndarray) -> Iterator[np.ndarray]:
    for score, place in zip(c.score, c.place, strict=True):
        highest = np.zeros(c.rows, dtype=score.dtype)
        np.maximum.at(highest, c.row, score)
        top = highest[c.row]
        yield from (score, np.divide(score, top, out=np.zeros_like(score), where=top > 0), place)
    known = rows[c.row] >= 0
    who = np.maximum(rows[c.row], 0)
    for of_customer, unknown in ((facts.entries, 0.0), (facts.days, 0.0), (facts.idle, np.inf)):
        yield np.where(known, of_customer[who], unknown) if len(of_customer) else np.full(len(who), unknown)
    yield from (f[c.product] for f in (facts.popularity, facts.sold, facts.rising, facts.buyers_again))
    yield from _own(facts.history, rows, c)


def _own(history: Interactions, rows: np.ndarray, c: Candidates) -> list[np.ndarray]:
    """Of each pair, the customer's own orders with the product and days since the last; the same of views and carts."""
    made = []
    own = asked_for(history, rows)
    for keep in (own.kind == ORDER, own.kind != ORDER):
        key = own.customer[keep] * history.shape[1] + own.product[keep]
        found, inverse = np.unique(key, return_inverse=True)
        last = np.full(len(found), -np.inf)
        np.maximum.at(last, inverse, own.second[keep])
        times = np.bincount(inverse, minlength=len(found))
        wanted = c.row * history.shape[1] + c.product
        at = np.minimum(np.searchsorted(found, wanted), max(0, len(found) - 1))
        hit = found[at] == wanted if len(found) else np.zeros(len(wanted), dtype=bool)
        made.append(np.where(hit, times[at] if len(found) else 0, 0))
        made.append(np.where(hit, (history.until - (last[at] if len(found) else 0)) / DAY, np.nan))
    return made


def learn(chunks: Sequence[Pairs], seed: int) -> State:
    """The ranker that learned from the cases of some pairs. BadSettings as `predictor`."""
    lightgbm = _lightgbm()
    label = np.concatenate([pairs.label for pairs in chunks])
    row = np.concatenate([pairs.case[pairs.row] for pairs in chunks])
    keep = _drawn(label, row, seed)
    label, row = label[keep], row[keep]
    least = int(np.clip(len(label) // 2000, 5, 200))
    sizes = np.unique(row, return_counts=True)[1]
    held: list[tuple[Pairs, np.ndarray]] = []
    masks = np.split(keep, np.cumsum([len(pairs) for pairs in chunks])[:-1])
    x = [_sequence()(pairs, mine, held) for pairs, mine in zip(chunks, masks, strict=True) if mine.any()]
    data = lightgbm.Dataset(x, label.astype(np.int32), group=sizes)
    booster = lightgbm.train(PARAMETERS | {"seed": seed, "min_data_in_leaf": least}, data, ROUNDS)
    return {"booster": np.frombuffer(booster.model_to_string().encode(), dtype=np.uint8)}


@cache
def _sequence() -> Any:
    """The class by which LightGBM reads features: chunk by chunk, in order, so that one chunk's are held at a time."""
    import lightgbm

    class Features(lightgbm.Sequence):
        def __init__(self, pairs: Pairs, keep: np.ndarray, held: list[tuple[Pairs, np.ndarray]]) -> None:
            self.pairs, self.keep, self.held = pairs, keep, held
            self.count = int(keep.sum())

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, at: Any) -> np.ndarray:
            if not self.held or self.held[0][0] is not self.pairs:
                self.held.clear()
                self.held.append((self.pairs, self.pairs.features()[self.keep]))
            return np.asarray(self.held[0][1][at], dtype=np.float64)

    return Features


def missing() -> str | None:
    """Why LightGBM can't be loaded here, if so."""
    try:
        import lightgbm  # noqa: F401
    except OSError as e:
        return f"LightGBM can't be loaded ({e}); install the system's OpenMP library (Debian: apt install libgomp1)"
    return None


def predictor(state: State) -> Any:
    """The LightGBM model of a state. BadSettings where LightGBM can't be loaded."""
    return _lightgbm().Booster(model_str=state["booster"].tobytes().decode())


def _lightgbm() -> Any:
    if why := missing():
        raise BadSettings(why, "Or train again: without it a simpler model serves.")
    import lightgbm

    return lightgbm


def _with_hits(label: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Mask of the pairs of rows that have a hit: the others teach nothing."""
    return np.isin(row, row[label > 0])


def _drawn(label: np.ndarray, row: np.ndarray, seed: int) -> np.ndarray:
    keep = _with_hits(label, row)
    share = MOST_PAIRS / max(1, int(keep.sum()))
    if share < 1:
        keep &= (label > 0) | (np.random.default_rng(seed).random(len(label), np.float32) < share)
    return keep
