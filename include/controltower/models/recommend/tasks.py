"""What is asked of recommenders, and the past questions whose answers are known: one task, one model that serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from controltower.models.recommend.interactions import ORDER, VIEW, Interactions
from controltower.models.recommend.split import Split
from controltower.profiles.portable import DAY

MOST_QUESTIONS = 50_000
LAST_VIEWS = 10
SEED = 7


@dataclass(frozen=True)
class Task:
    """A model's name, what it is asked, and who serves as long as nobody was proven better.

    repeat: whether what is in the history may be an answer. members: who is tried (None: all). personal: asked of
    customers' whole histories, so that a ranker can learn from what else is known of them. only_own: nothing but what
    is in the history is an answer.
    """

    name: str
    baseline: str
    repeat: bool
    ask: Callable[[Interactions, Split], Split | None]
    members: tuple[str, ...] | None = None
    personal: bool = False
    only_own: bool = False


def _to_come(interactions: Interactions, found: Split) -> Split:  # noqa: ARG001 - the split itself
    return found


def _again(interactions: Interactions, found: Split) -> Split:  # noqa: ARG001 - the split itself
    """What customers ordered again of what they had ordered."""
    return replace(found, future=found.future.multiply(found.history.ordered).tocsr())


def last_views(history: Interactions) -> Interactions:
    """The customers' latest views, as what is asked with: an entry is never its own answer."""
    views = history.where(history.kind == VIEW)
    left = np.searchsorted(views.customer, views.customer, side="right") - np.arange(len(views))
    views = views.where(left <= LAST_VIEWS)
    return replace(views, kind=np.full(len(views), ORDER))


def _after_views(interactions: Interactions, found: Split) -> Split | None:
    """Customers' last views before the split; what they viewed or ordered after it, and hadn't viewed."""
    asked = last_views(found.history)
    later = interactions.second >= found.start
    customer, product = interactions.customer[later], interactions.product[later]
    known = np.isin(customer, asked.customer)
    ones = np.ones(int(known.sum()), np.float32)
    future = sp.csr_matrix((ones, (customer[known], product[known])), interactions.shape)
    future.data[:] = 1.0
    return Split(asked, future, found.start) if future.nnz else None


def _one_of_a_basket(interactions: Interactions, found: Split) -> Split | None:
    return _of_bags(interactions, found, interactions.kind == ORDER, interactions.second, rest=False)


def _all_but_one_of_a_basket(interactions: Interactions, found: Split) -> Split | None:
    return _of_bags(interactions, found, interactions.kind == ORDER, interactions.second, rest=True)


def _one_of_a_days_views(interactions: Interactions, found: Split) -> Split | None:
    return _of_bags(interactions, found, interactions.kind == VIEW, interactions.second // DAY, rest=False)


def _of_bags(
    interactions: Interactions, found: Split, keep: np.ndarray, bag: np.ndarray, *, rest: bool
) -> Split | None:
    """Bags (baskets, days) after the split: one product is drawn, and the question or, with `rest`, the answer."""
    entries = np.flatnonzero(keep & (interactions.second >= found.start))
    customer, product, bag = interactions.customer[entries], interactions.product[entries], bag[entries]
    order = np.lexsort((product, bag, customer))
    customer, product, bag = customer[order], product[order], bag[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (customer[1:] != customer[:-1]) | (bag[1:] != bag[:-1])
    again = np.zeros(len(order), dtype=bool)
    again[1:] = ~new[1:] & (product[1:] == product[:-1])
    number = new.cumsum() - 1
    number, customer, product = number[~again], customer[~again], product[~again]
    sizes = np.bincount(number)
    kept = (sizes > 1)[number]
    number, customer, product = np.unique(number[kept], return_inverse=True)[1], customer[kept], product[kept]
    if not len(number):
        return None
    starts = np.flatnonzero(np.r_[True, number[1:] != number[:-1]])
    drawn = np.random.default_rng(SEED).random(len(number))
    picked = np.lexsort((drawn, number))[starts]
    one = np.zeros(len(number), dtype=bool)
    one[picked] = True
    asked = ~one if rest else one
    few = number < MOST_QUESTIONS
    return _questions(
        interactions, number[asked & few], product[asked & few], number[~asked & few], product[~asked & few],
        customer[starts][:MOST_QUESTIONS], np.full((asked & few).sum(), found.start - 1), found.start,
    )  # fmt: skip


def _questions(
    interactions: Interactions, asked: np.ndarray, seeds: np.ndarray, answered: np.ndarray, answers: np.ndarray,
    people: np.ndarray, second: np.ndarray, start: int,
) -> Split | None:  # fmt: skip
    """Questions numbered from 0, with their seeds and answers; people: whose each is, as a position."""
    if not len(asked) or not len(answered):
        return None
    names = np.array([f"{n:09}" for n in range(len(people))], dtype=np.str_)
    order = np.lexsort((seeds, second, asked))
    history = Interactions(
        names, interactions.product_ids, asked[order], seeds[order], second[order],
        np.full(len(asked), ORDER), start,
    )  # fmt: skip
    known = np.isin(answered, asked)
    future = sp.csr_matrix(
        (np.ones(int(known.sum()), np.float32), (answered[known], answers[known])), history.shape
    )  # fmt: skip
    future.data[:] = 1.0
    return Split(history, future, start, interactions.customer_ids[people])


REPEAT, NEW = "recommend_repeat", "recommend_new"
AGAIN, VIEWED, NEAR = "recommend_again", "recommend_viewed", "recommend_near"
OFFER = "recommend_offer"
SIMILAR, TOGETHER, CART = "recommend_similar", "recommend_together", "recommend_cart"
ITEMS = ("next_item", "markov", "item_knn", "bm25", "complements", "substitutes", "content", "ease", "popularity")
OWN = ("own_count", "own_history", "replenishment", "tifu_knn", "user_knn")
TASKS = (
    Task(REPEAT, "own_count", True, _to_come, personal=True),
    Task(NEW, "popularity", False, _to_come, personal=True),
    Task(AGAIN, "own_count", True, _again, members=OWN, only_own=True),
    Task(NEAR, "popularity", False, _to_come, members=("segment_popularity", "popularity")),
    Task(VIEWED, "item_knn", False, _after_views, members=ITEMS),
    Task(SIMILAR, "content", False, _one_of_a_days_views, members=ITEMS),
    Task(TOGETHER, "complements", False, _one_of_a_basket, members=ITEMS),
    Task(CART, "complements", False, _all_but_one_of_a_basket, members=ITEMS),
)
# asked of collections instead of products: see offers
OFFERS = ("own_count", "own_history", "popularity", "segment_popularity", "next_item", "item_knn", "als", "user_knn")
OF_COLLECTIONS = (Task(OFFER, "popularity", True, _to_come, members=OFFERS, personal=True),)
