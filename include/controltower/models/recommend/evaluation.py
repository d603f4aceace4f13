"""How good the lists would have been: what was known at a past moment trains, what customers did next judges.

Every product is ranked for every case, none is sampled (Krichene and Rendle 2020).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import rankdata

from controltower.models.base import Outcome
from controltower.models.recommend import choose, kernels
from controltower.models.recommend.algorithms import ALL, MEMBERS
from controltower.models.recommend.base import Recommender, Scorer, barred, chunks
from controltower.models.recommend.batch import DEEPEST
from controltower.models.recommend.blend import FUSION, GROUPS, Blend, groups
from controltower.models.recommend.candidates import propose
from controltower.models.recommend.cases import K
from controltower.models.recommend.interactions import ORDER, Interactions, holds, positions
from controltower.models.recommend.split import Split
from controltower.models.recommend.tasks import TASKS, Task

log = logging.getLogger("controltower")

SERVED = "served"
MOST_CASES = 20_000  # of a task; of more, so many are drawn
MOST_LISTS = 2_000  # whose diversity is measured, of the cases of a task
MOST_BUYERS = 20_000  # customers who say which products are alike, where no catalogue does
FEW_ORDERS = 5  # a product with fewer is a cold one
ENOUGH = 500  # cases of a group that is compared with the best algorithm
ALLOWED_REGRET = 0.02  # of that one's NDCG@10
SEED = 7
MEANS = ("recall@10", "mrr@10", "novelty", "diversity", "popularity", "popularity_bias", "cold_share")
Measured = dict[str, np.ndarray]  # a figure by case


@dataclass(frozen=True)
class Evaluation:
    """What came of it, as rows that are JSON.

    rows: one a task, group ("all" and GROUPS) and algorithm ("served" is the one that was chosen; `chosen` names it).
    regret: one a task, site ("" is all) and group with ENOUGH cases. tasks: cases, and how the training chose, by
    the task's name.
    """

    rows: list[dict[str, Any]]
    regret: list[dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    not_tried: dict[str, str]
    diversity_by: str
    unknown_share: float | None  # of the orders to be foretold: products that weren't known at the split


@dataclass(frozen=True)
class Traits:
    """What is known of the products at the split, by position."""

    allowed: np.ndarray
    novelty: np.ndarray  # -log2 of the share of buyers who bought it
    popularity: np.ndarray  # 0..1: percentile of its orders among the allowed products
    cold: np.ndarray  # mask: fewer than FEW_ORDERS orders
    features: sp.csr_matrix  # rows of length 1 (0 where nothing is known), whose products tell how alike two are
    features_of: str

    @classmethod
    def of(cls, past: Interactions, allowed: np.ndarray, seed: int = SEED) -> Traits:
        """The share of buyers counts one more buyer of each product, so that what was never sold has a novelty."""
        products = past.shape[1]
        orders = np.bincount(past.product[past.kind == ORDER], minlength=products)
        buyers = np.bincount(past.ordered.indices, minlength=products)
        everybody = int((np.diff(past.ordered.indptr) > 0).sum())
        percentile = np.zeros(products)
        percentile[allowed] = rankdata(orders[allowed]) / max(1, int(allowed.sum()))
        features, features_of = _features(past, allowed, seed)
        novelty = -np.log2((buyers + 1) / (everybody + 1))
        return cls(allowed, novelty, percentile, orders < FEW_ORDERS, features, features_of)


@dataclass(frozen=True)
class Lists:
    """The lists of a task's cases, by algorithm: cases x K products, -1 where a list is shorter."""

    asked: Split
    rows: np.ndarray  # of the split's history
    people: np.ndarray  # whose each case is, as a position from 0
    group: np.ndarray  # position in GROUPS
    site: np.ndarray  # text, "" where none is told
    truth: sp.csr_matrix  # cases x products
    products: dict[str, np.ndarray]


def evaluate(past: Interactions, later: Interactions, allowed: np.ndarray, seed: int = SEED) -> Evaluation:
    """Train on `past` as always, then ask every task's questions of what `later` knows of the time since.

    past: as known at the split. later: as known afterwards; only its entries of after past.until are looked at.
    allowed: mask over past.product_ids of the products that may be shown.
    """
    outcomes = choose.train(past, allowed)
    members = fit_rest(outcomes, past)
    traits = Traits.of(past, allowed, seed)
    everything, found = window(past, later)
    evaluation = Evaluation(
        [], [], {}, outcomes[0].details["not_tried"], traits.features_of, _unknown_share(past, later)
    )
    served = {outcome.name: outcome for outcome in outcomes}
    known = found.history.entries
    for task in TASKS:
        asked, model = task.ask(everything, found), served[task.name].model
        assert isinstance(model, Recommender)
        mine = {n: m for n, m in members.items() if n in (task.members or MEMBERS)}
        lists = lists_of(task, asked, mine, model, allowed, seed) if asked else None
        about = {"published": served[task.name].published, "why": served[task.name].why}
        if not lists:
            evaluation.tasks[task.name] = {"cases": 0} | about
            continue
        names = _chosen(model, sites_of(lists))
        draw = np.random.default_rng(seed).permutation(len(lists.rows))[:MOST_LISTS]
        measured = {name: measure(shown, lists.truth, traits, draw) for name, shown in lists.products.items()}
        rows = figures(lists, measured, allowed, names[""])
        evaluation.rows.extend({"task": task.name} | row for row in rows)
        evaluation.regret.extend({"task": task.name} | row for row in regret(lists, measured, names))
        owners = positions(found.history.customer_ids, lists.asked.owners[lists.rows])
        evaluation.tasks[task.name] = {
            "cases": len(lists.rows),
            "customers": int(lists.people.max()) + 1,
            "cold_customers": round(float((known[owners] == 0).mean()), 5),
        } | about
        log.info("%s: %d cases, NDCG@10 %.4f", task.name, len(lists.rows), measured[SERVED]["ndcg@10"].mean())
    return evaluation


def fit_rest(outcomes: list[Outcome], past: Interactions) -> dict[str, Scorer]:
    """Every algorithm that the training tried, fitted on the same interactions; those that serve are there already."""
    ready: dict[str, Scorer] = {}
    for outcome in outcomes:
        model = outcome.model
        assert isinstance(model, Blend | Scorer)
        ready |= model.members if isinstance(model, Blend) else {model.name: model}
    for name, kind in ALL.items():
        fits = kind.most_products is None or past.shape[1] <= kind.most_products
        if name not in ready and fits and name not in outcomes[0].details["not_tried"]:
            ready[name] = kind().fit(past)
    return {name: ready[name] for name in ALL if name in ready}


def window(past: Interactions, later: Interactions) -> tuple[Interactions, Split]:
    """What was done until and after the split over the customers of both and the products of `past`; and the split."""
    people = np.union1d(past.customer_ids, later.customer_ids)
    at = positions(past.product_ids, later.product_ids)
    of = positions(people, past.customer_ids)
    segments = None
    if past.segments is not None:
        segments = np.full((len(people), 2), "", dtype=past.segments.dtype)  # who came later told nothing yet
        segments[of] = past.segments
    history = replace(past, customer_ids=people, customer=of[past.customer], segments=segments, _matrices={})
    keep = later.second > past.until
    keep[keep] = at[later.product[keep]] >= 0
    since = replace(
        history, customer=positions(people, later.customer_ids)[later.customer[keep]], product=at[later.product[keep]],
        second=later.second[keep], kind=later.kind[keep], until=later.until, _matrices={},
    )  # fmt: skip
    customer, product = np.r_[history.customer, since.customer], np.r_[history.product, since.product]
    second, kind = np.r_[history.second, since.second], np.r_[history.kind, since.kind]
    order = np.lexsort((kind, product, second, customer))
    everything = replace(
        since, customer=customer[order], product=product[order], second=second[order], kind=kind[order], _matrices={}
    )
    return everything, Split(history, since.ordered, past.until + 1)


def lists_of(
    task: Task, asked: Split, members: Mapping[str, Scorer], served: Recommender, allowed: np.ndarray, seed: int
) -> Lists | None:
    """What each member alone, their fusion and who serves would have shown those who took something; None: nobody."""
    truth = asked.truth(task.repeat, allowed)
    rows = np.flatnonzero(np.diff(truth.indptr))
    if not len(rows):
        return None
    if len(rows) > MOST_CASES:
        log.info("%s: %d of %d cases are drawn", task.name, MOST_CASES, len(rows))
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_CASES, replace=False))
    shown = {name: np.full((len(rows), K), -1) for name in (*members, FUSION, SERVED)}
    popularity = next(iter(members.values())).popularity
    for start, chunk in chunks(rows):
        bars = barred(asked.history, chunk, task.repeat, allowed)
        c = propose(members, asked.history, chunk, bars)
        own = holds(asked.history.ordered, chunk[c.row], c.product) if task.only_own else None
        for name in (*members, FUSION):
            score = c.fused() if name == FUSION else c.by(name, popularity)
            pair, rank = c.top(score if own is None else np.where(own, score, -np.inf), K)
            kept = np.isfinite(score[pair]) if own is None else own[pair]
            shown[name][start + c.row[pair[kept]], rank[kept]] = c.product[pair[kept]]
        ranking = served.rank(asked.history, chunk, DEEPEST if task.only_own else K, bars)
        if task.only_own:
            ranking = ranking.where(holds(asked.history.ordered, chunk[ranking.customer], ranking.product))
            ranking = ranking.where(ranking.rank <= K)
        shown[SERVED][start + ranking.customer, ranking.rank - 1] = ranking.product
    people = np.unique(asked.owners[rows], return_inverse=True)[1]
    group, site = groups(asked.history, rows), asked.history.sites_of(rows)
    return Lists(asked, rows, people, group, site, truth[rows], shown)


def figures(
    lists: Lists, measured: Mapping[str, Measured], allowed: np.ndarray, chosen: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A row a group and algorithm, the best NDCG@10 first."""
    made = []
    for group, mine in _groups(lists):
        rows = []
        for name, by_case in measured.items():
            gain = by_case["ndcg@10"][mine]
            ndcg, error = float(gain.mean()), interval(gain, lists.people[mine])
            row: dict[str, Any] = {"group": group, "algorithm": name, "chosen": chosen[group] if name == SERVED else ""}
            row |= {"cases": int(mine.sum()), "ndcg@10": round(ndcg, 5)}
            row["low"] = None if error is None else round(max(0.0, ndcg - error), 5)
            row["high"] = None if error is None else round(min(1.0, ndcg + error), 5)
            row |= {figure: _mean(by_case[figure][mine]) for figure in MEANS}
            rows.append(row | {"coverage": round(coverage(lists.products[name][mine], allowed), 5)})
        made += sorted(rows, key=lambda row: -row["ndcg@10"])
    return made


def measure(shown: np.ndarray, truth: sp.csr_matrix, traits: Traits, draw: np.ndarray | None = None) -> Measured:
    """NDCG@10 and each figure of MEANS by case; NaN where a list has none, or its diversity wasn't drawn.

    shown: cases x K products, the best first, -1 where fewer. truth: cases x products, 1 where taken.
    """
    cases = len(shown)
    there, product = shown >= 0, np.maximum(shown, 0)
    pairs = np.repeat(np.arange(cases), shown.shape[1]), product.ravel()
    hit = there & (kernels.at(truth.indptr, truth.indices, truth.data, truth.shape[1], *pairs) > 0).reshape(shown.shape)
    taken = np.diff(truth.indptr)
    discount = 1 / np.log2(np.arange(2, K + 2))
    ideal = np.r_[0.0, discount.cumsum()][np.minimum(taken, K)]
    count = there.sum(axis=1)
    case = np.repeat(np.arange(cases), taken)
    by_taken = np.bincount(case, traits.popularity[truth.indices], minlength=cases)

    def mean(values: np.ndarray) -> np.ndarray:
        return _divide(np.where(there, values[product], 0).sum(axis=1), count)

    popularity = mean(traits.popularity)
    return {
        "ndcg@10": _divide(hit @ discount, ideal),
        "recall@10": _divide(hit.sum(axis=1), taken),
        "mrr@10": (hit / np.arange(1, K + 1)).max(axis=1, initial=0.0),
        "novelty": mean(traits.novelty),
        "diversity": diversity(shown, traits.features, np.arange(cases) if draw is None else draw),
        "popularity": popularity,
        "popularity_bias": popularity - _divide(by_taken, taken),
        "cold_share": mean(traits.cold.astype(float)),
    }


def diversity(shown: np.ndarray, features: sp.csr_matrix, draw: np.ndarray) -> np.ndarray:
    """Of each list drawn, 1 - the mean cosine of its pairs (Ziegler et al. 2005); NaN for others and lists of one."""
    there = shown[draw] >= 0
    count = there.sum(axis=1)
    row = np.repeat(np.arange(len(draw)), count)
    listed = sp.csr_matrix((np.ones(len(row)), (row, shown[draw][there])), (len(draw), features.shape[0]))
    known = np.asarray(features.multiply(features).sum(axis=1)).ravel()
    together = np.zeros(len(draw))
    for start in range(0, len(draw), 256):
        summed = listed[start : start + 256] @ features
        together[start : start + 256] = np.asarray(summed.multiply(summed).sum(axis=1)).ravel()
    made = np.full(len(shown), np.nan)
    made[draw] = 1 - _divide(together - listed @ known, count * (count - 1))  # all ordered pairs of two
    return made


def coverage(shown: np.ndarray, allowed: np.ndarray) -> float:
    """The share of the allowed products that somebody was shown."""
    return len(np.unique(shown[shown >= 0])) / max(1, int(allowed.sum()))


def interval(values: np.ndarray, people: np.ndarray) -> float | None:
    """Half the width of a mean's 95 % interval: normal, over customers, whose cases aren't independent of each other.

    None for less than two customers.
    """
    person = np.unique(people, return_inverse=True)[1]
    count = int(person.max(initial=-1)) + 1
    if count < 2:
        return None
    off = np.bincount(person, values - values.mean())
    return float(1.96 * np.sqrt((off**2).sum() * count / (count - 1)) / len(values))


def regret(
    lists: Lists, measured: Mapping[str, Measured], chosen: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """NDCG@10 of who serves relative to the best of all, for groups of ENOUGH cases; `ok`: short of it by at most 2 %.

    Of all sites together ("") and, where there are several, of each. The interval is that of the paired difference.
    chosen: by site and group.
    """
    gain = {name: by_case["ndcg@10"] for name, by_case in measured.items()}
    made = []
    of_sites = {"": np.ones(len(lists.rows), dtype=bool)} | {site: lists.site == site for site in sites_of(lists)}
    groups_of_sites = [(s, g, of_site & mine) for s, of_site in of_sites.items() for g, mine in _groups(lists)]
    for site, group, mine in groups_of_sites:
        if mine.sum() < ENOUGH:
            continue
        mean = {name: float(of_case[mine].mean()) for name, of_case in gain.items()}
        best = max((name for name in mean if name != SERVED), key=mean.__getitem__)
        top, served = mean[best], mean[SERVED]
        error = interval(gain[SERVED][mine] - gain[best][mine], lists.people[mine])
        relative = served / top if top else 1.0
        row: dict[str, Any] = {"site": site, "group": group, "cases": int(mine.sum()), "chosen": chosen[site][group]}
        row |= {"ndcg@10": round(served, 5), "best": best, "best_ndcg@10": round(top, 5)}
        row |= {"relative": round(relative, 4), "low": None, "high": None}
        if error is not None and top:
            row |= {"low": round(relative - error / top, 4), "high": round(relative + error / top, 4)}
        made.append(row | {"ok": relative >= 1 - ALLOWED_REGRET})
    return made


def _features(past: Interactions, allowed: np.ndarray, seed: int) -> tuple[sp.csr_matrix, str]:
    """Category levels and brand, where half of the allowed products have a category; else who took the product."""
    catalogue = past.catalogue
    if catalogue is not None and 2 * (catalogue.category[allowed] != "").sum() >= max(1, allowed.sum()):
        told_of, words = [], []
        for position, (category, brand) in enumerate(zip(catalogue.category, catalogue.brand, strict=True)):
            levels = [level.strip() for level in category.split(">")] if category else []
            told = [" > ".join(levels[: depth + 1]) for depth in range(len(levels))] + [f"brand {brand}"] * bool(brand)
            told_of += [position] * len(told)
            words += told
        names, feature = np.unique(np.array(words, dtype=np.str_), return_inverse=True)
        product = np.array(told_of, dtype=np.int64)
        shape, by = (past.shape[1], len(names)), "category and brand"
    else:
        customers = np.unique(past.customer)
        if len(customers) > MOST_BUYERS:
            customers = np.sort(np.random.default_rng(seed).choice(customers, MOST_BUYERS, replace=False))
        keep = np.isin(past.customer, customers)
        product, feature = past.product[keep], past.customer[keep]
        shape, by = past.shape[::-1], "customers in common"
    ones = sp.csr_matrix((np.ones(len(product)), (product, feature)), shape)
    ones.data[:] = 1.0
    length = np.sqrt(np.diff(ones.indptr))
    return (sp.diags(_divide(np.ones(len(length)), length, empty=0.0)) @ ones).tocsr(), by


def _unknown_share(past: Interactions, later: Interactions) -> float | None:
    foretold = later.product[(later.kind == ORDER) & (later.second > past.until)]
    unknown = positions(past.product_ids, later.product_ids)[foretold] < 0
    return round(float(unknown.mean()), 5) if len(unknown) else None


def _chosen(model: Recommender, sites: list[str]) -> dict[str, dict[str, str]]:
    """Who ranks for each group, by site; "" is all, "blend" where several do."""

    def together(names: set[str]) -> str:
        return names.pop() if len(names) == 1 else model.name

    usual = {g: getattr(model.config, g) if isinstance(model, Blend) else model.name for g in GROUPS}
    own = model.config.by_site if isinstance(model, Blend) else {}
    by_site = {site: usual | own.get(site, {}) for site in sites}
    by_site[""] = {g: together({usual[g], *(names[g] for names in by_site.values())}) for g in GROUPS}
    return {site: {"all": together(set(names.values()))} | names for site, names in by_site.items()}


def sites_of(lists: Lists) -> list[str]:
    """The sites of the cases, by name; none where there is only one."""
    sites = np.unique(lists.site[lists.site != ""]).tolist()
    return sites if len(sites) > 1 else []


def _groups(lists: Lists) -> list[tuple[str, np.ndarray]]:
    """Masks of the cases of each group that has some."""
    masks = [("all", np.ones(len(lists.rows), dtype=bool)), *((g, lists.group == i) for i, g in enumerate(GROUPS))]
    return [(name, mask) for name, mask in masks if mask.any()]


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 5) if len(known) else None


def _divide(a: np.ndarray, b: np.ndarray, empty: float = np.nan) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(a), empty), where=b > 0)
