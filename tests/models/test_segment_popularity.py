"""What is popular near a customer: at the site, and among people of the same gender and age."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from controltower.models.recommend.algorithms.segment_popularity import SegmentPopularity
from controltower.models.recommend.interactions import ORDER, Interactions, Weights, from_arrays
from controltower.profiles.portable import DAY
from models.conftest import NOW

PRODUCTS = np.array(["cream", "kimchi", "rice", "tea"])


def shop(buys: list[tuple[str, str, str, int]], ask: list[tuple[str, str]]) -> tuple[Interactions, Interactions]:
    """Orders of (site, closer segment, product) by so many customers; and customers of these segments without any."""
    who, what, segments = [], [], []
    for site, closer, product, count in buys:
        for _ in range(count):
            who.append(f"c{len(who):05}")
            what.append(product)
            segments.append((site, closer))
    ids = np.array(who)
    data = from_arrays(
        ids, PRODUCTS, ids, np.array(what), np.full(len(ids), NOW - DAY), np.full(len(ids), ORDER), NOW
    )  # fmt: skip
    new = np.array([f"n{i}" for i in range(len(ask))])
    asked = from_arrays(new, PRODUCTS, *(np.zeros(0, t) for t in (str, str, int, int)), NOW)
    return replace(data, segments=np.array(segments)), replace(asked, segments=np.array(ask))


def best(data: Interactions, asked: Interactions, *who: str) -> list[str]:
    model = SegmentPopularity().fit(data)
    ranking = model.recommend(asked, np.array(who), 1, repeat=True)
    return PRODUCTS[ranking.product].tolist()


def test_sites_differ_and_so_do_people_of_one() -> None:
    data, asked = shop(
        [("kr", "kr|female|30", "cream", 300), ("kr", "kr|male|30", "kimchi", 400), ("cn", "", "tea", 500)],
        [("kr", "kr|female|30"), ("kr", ""), ("cn", "cn|male|20"), ("", "")],
    )
    assert best(data, asked, "n0", "n1", "n2", "n3", "stranger") == ["cream", "kimchi", "tea", "tea", "tea"]


def test_few_orders_of_a_segment_say_little() -> None:
    data, asked = shop([("kr", "kr|female|30", "cream", 2), ("kr", "", "rice", 500)], [("kr", "kr|female|30")])
    assert best(data, asked, "n0") == ["rice"]


def test_without_segments_it_is_what_is_popular() -> None:
    data, asked = shop([("kr", "", "rice", 3), ("cn", "", "tea", 2)], [("cn", "")])
    assert best(replace(data, segments=None), replace(asked, segments=None), "n0") == ["rice"]


def test_shares_are_those_of_the_definition() -> None:
    """Dense and segment by segment, also of segments whose site isn't among the largest, and of unsold products."""
    rng = np.random.default_rng(5)
    sites = rng.choice(["", "a", "b", "c"], 300)
    closer = np.array([f"{s}|{rng.choice(['f', 'm'])}|30" if rng.random() < 0.7 else "" for s in sites])
    people, products = np.array([f"c{i:03}" for i in range(300)]), np.array([f"p{i:02}" for i in range(40)])
    data = from_arrays(
        people, products, rng.choice(people, 900), rng.choice(products[::2], 900),
        NOW - rng.integers(1, 60, 900) * DAY, np.full(900, ORDER), NOW,
    )  # fmt: skip
    data = replace(data, segments=np.stack([sites, closer], axis=1))
    model = SegmentPopularity(SegmentPopularity.Config(keep=15, most=3)).fit(data)
    weight = data.weight(Weights(order_half_life=14.0))
    known = {"": np.bincount(data.product, weight, len(products)) / weight.sum()}
    for level in range(2):
        of = data.segments[data.customer, level]
        sizes = {key: weight[of == key].sum() for key in set(of.tolist())}
        for key in sorted(sizes, key=lambda key: (-sizes[key], key))[:3]:
            if key:
                own = np.bincount(data.product[of == key], weight[of == key], len(products))
                prior = known.get(key.partition("|")[0], known[""]) if level else known[""]
                known[key] = (own + 50.0 * prior) / (sizes[key] + 50.0)
    assert model.keys.tolist() == sorted(known)
    for key, found in zip(model.keys.tolist(), model.shares.toarray(), strict=True):
        wanted = np.where(known[key] >= np.sort(known[key])[-15], known[key], 0) / known[key].max()
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
