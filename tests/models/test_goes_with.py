"""What goes with each product, as it is published: of products that lead somewhere, and no more than is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from controltower.models.recommend.algorithms.als import Als
from controltower.models.recommend.algorithms.complements import Complements
from controltower.models.recommend.algorithms.item_knn import ItemKnn
from controltower.models.recommend.algorithms.next_item import NextItem
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.recommend.artefacts import WIDTH, with_each
from controltower.models.recommend.base import Recommender, barred
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.interactions import ORDER, Interactions
from controltower.models.recommend.version import ItemLists

MODELS = [
    NextItem(), ItemKnn(), Complements(), Popularity(), Als(),
    Blend(Blend.Config(members=("next_item", "complements", "popularity"))),
]  # fmt: skip
each = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def lists(model: Recommender, history: Interactions, most: int = 10**6) -> list[list[tuple[int, float]]]:
    everything = np.ones(len(history.product_ids), bool)
    made = ItemLists(*with_each(model, history, everything, most), algorithm="a", model_version="v")
    found = [made.entries(np.array([p]))[0] for p in range(len(history.product_ids))]
    return [list(zip(made.product[at].tolist(), made.score[at].tolist(), strict=True)) for at in found]


@each
def test_each_product_has_what_the_model_says_when_asked_with_it_alone(
    model: Recommender, interactions: Interactions
) -> None:
    model.fit(interactions)
    count = len(model.product_ids)
    number = np.arange(count)
    alone = Interactions(
        number, model.product_ids, number, number, np.full(count, interactions.until - 1), np.full(count, ORDER),
        interactions.until,
    )  # fmt: skip
    asked = model.rank(alone, number, WIDTH, barred(alone, number, False, np.ones(count, bool)))
    kept = asked.where((asked.part != "popularity") & (asked.score > 0))
    wanted = [
        list(zip(kept.product[mine].tolist(), kept.score[mine].astype(np.float32).tolist(), strict=True))
        for mine in (kept.customer == p for p in range(count))
    ]
    assert lists(model, interactions) == wanted
    assert any(wanted) == (model.name != "popularity")


@each
def test_the_lists_are_cut_where_all_of_them_would_be_too_much(model: Recommender, interactions: Interactions) -> None:
    model.fit(interactions)
    whole, most = lists(model, interactions), 2 * len(model.product_ids) + 1
    cut = lists(model, interactions, most)
    width = most // max(1, int(model.leads().sum()))
    assert cut == [one[: max(map(len, cut))] for one in whole]
    assert sum(map(len, cut)) <= most and all(len(one) <= width for one in cut)
    assert max(map(len, lists(model, interactions, 1))) <= 1, "one of each at least"
