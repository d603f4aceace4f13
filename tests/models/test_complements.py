"""Products bought together, and products looked at instead, kept apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from controltower.models.recommend.algorithms.complements import Complements, baskets, margins
from controltower.models.recommend.algorithms.substitutes import Substitutes
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_arrays
from controltower.models.recommend.item_to_item import ItemToItem
from controltower.profiles.portable import DAY
from models.conftest import NOW

NAMES = sorted("bag bread butter camera cheese ink lamp milk paper phone printer sofa soap towel".split())
KINDS: tuple[type[ItemToItem], ...] = (Complements, Substitutes)
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def history(bags: list[tuple[str, str]], kind: int = ORDER, names: list[str] = NAMES, days: int = 3) -> Interactions:
    """Customers and the products each took in one second; a customer's next ones some days later."""
    seen: dict[str, int] = {}
    rows = []
    for who, products in bags:
        seen[who] = seen.get(who, -1) + 1
        rows += [(who, p, NOW - 100 * DAY + seen[who] * days * DAY) for p in products.split()]
    who, what, when = zip(*rows, strict=True) if rows else ((), (), ())
    return from_arrays(
        np.unique(np.array([w for w, _ in bags], dtype=np.str_)), np.array(names, dtype=np.str_),
        np.array(who, dtype=np.str_), np.array(what, dtype=np.str_), np.array(when, dtype=np.int64),
        np.full(len(rows), kind), NOW,
    )  # fmt: skip


def both(orders: Interactions, views: Interactions) -> Interactions:
    ids = np.union1d(orders.customer_ids, views.customer_ids)
    columns = [
        np.concatenate([getattr(d, ids_)[getattr(d, at)] for d in (orders, views)])
        for ids_, at in (("customer_ids", "customer"), ("product_ids", "product"))
    ]
    rest = [np.concatenate([getattr(d, f) for d in (orders, views)]) for f in ("second", "kind")]
    return from_arrays(ids, orders.product_ids, *columns, *rest, NOW)


def shop(rng: np.random.Generator) -> list[tuple[str, str]]:
    """Printers go with ink; ink and paper sell alone as well; a bag goes into most baskets; the rest is chance."""
    bags = []
    for i in range(600):
        things = set(rng.choice(["butter", "cheese", "lamp", "milk", "phone", "soap", "towel"], rng.integers(1, 3)))
        if i % 6 == 0:
            things |= {"printer", "ink"} if rng.random() < 0.8 else {"printer"}
        elif i % 2 == 0:
            things |= {"ink"} if rng.random() < 0.5 else {"paper"}
        things |= {"bag"} if rng.random() < 0.9 else set()
        bags.append((f"c{i:03}", " ".join(sorted(things))))
    return bags


def goes_with(model: ItemToItem, *seeds: str, names: list[str] = NAMES) -> dict[str, float]:
    asked = history([("x", " ".join(seeds))], names=names)
    score = model.score(asked, np.array([0])).at(np.zeros(len(names), np.int64), np.arange(len(names)))
    return {names[p]: float(score[p]) for p in np.argsort(-score, kind="stable") if score[p] > 0}


def test_what_goes_with_what() -> None:
    model = Complements().fit(history(shop(np.random.default_rng(1))))
    assert next(iter(goes_with(model, "printer"))) == "ink"
    assert goes_with(model, "printer")["ink"] > 1.2 * goes_with(model, "ink")["printer"] > 0
    assert next(iter(goes_with(model, "printer", "soap"))) == "ink"


@pytest.mark.parametrize("others", [1, 3])
def test_what_is_bought_with_everything_is_a_complement_of_nothing(others: int) -> None:
    rng = np.random.default_rng(2)
    rest = [n for n in NAMES if n != "bread"]
    bags = [(f"c{i}", " ".join(["bread", *rng.choice(rest, others, replace=False)])) for i in range(3000)]
    assert not goes_with(Complements().fit(history(bags)), *rest[:5])


def test_chance_makes_no_pairs() -> None:
    names = [f"p{i:03}" for i in range(200)]
    found = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        popular = np.arange(200, 0, -1) / 20100
        sizes = rng.geometric(0.2, 2000)  # some baskets are much larger than others
        bags = [
            (f"c{i}", " ".join(rng.choice(names, min(s, 60), replace=False, p=popular))) for i, s in enumerate(sizes)
        ]
        found += Complements().fit(history(bags, names=names)).similarity.nnz
    assert found <= 0.05 * 5 * 200  # of one product in twenty at most


def test_a_pair_seen_once_or_by_one_customer_is_none() -> None:
    bags = shop(np.random.default_rng(3))
    once = [*bags, ("z", "camera sofa")]
    often = [*bags, *[("z", "camera sofa")] * 9]
    many = [*bags, *[(f"z{i}", "camera sofa") for i in range(9)]]
    assert "sofa" not in goes_with(Complements().fit(history(once)), "camera")
    assert "sofa" not in goes_with(Complements().fit(history(often)), "camera")
    assert "sofa" in goes_with(Complements().fit(history(many)), "camera")


def test_a_cart_adds_up_to_no_more_than_one() -> None:
    bags = [(f"a{i}", "bread butter") for i in range(60)] + [(f"b{i}", "cheese butter") for i in range(60)]
    bags += [(f"c{i}", "printer ink") for i in range(60)] + [(f"d{i}", "soap towel") for i in range(90)]
    model = Complements().fit(history(bags))
    one, other = goes_with(model, "bread")["butter"], goes_with(model, "cheese")["butter"]
    two = goes_with(model, "bread", "cheese")["butter"]
    assert two == pytest.approx(1 - (1 - one) * (1 - other), rel=1e-3)
    assert max(one, other) < two <= 1


def test_old_baskets_count_less() -> None:
    others = [(f"o{i}", "printer ink") for i in range(50)]
    bags = [(f"c{i}", " ".join(("camera", "bag" if i < 30 else "lamp"))) for i in range(60)]
    data = history(bags + others)
    old = np.isin(data.customer_ids[data.customer], [f"c{i}" for i in range(30)])
    when = np.where(old, data.second - 300 * DAY, data.second)
    assert next(iter(goes_with(Complements().fit(replace(data, second=when)), "camera"))) == "lamp"
    timeless = goes_with(Complements(Complements.Config(half_life=0)).fit(replace(data, second=when)), "camera")
    assert timeless["lamp"] == pytest.approx(timeless["bag"], rel=1e-2)


def test_baskets_of_one_product_are_those_of_a_day() -> None:
    data = history([(f"c{i}", products) for i in range(20) for products in ("printer", "ink")], days=0)
    data = replace(data, second=data.second + data.product * 60)
    product, second, customer, start = baskets(data, 100, 7)
    assert np.diff(start).tolist() == [2] * 20 and customer.tolist() == list(range(20))
    assert product.tolist() == [5, 10] * 20 and (second // DAY == NOW // DAY - 100).all()


def test_products_count_once_a_basket_and_large_ones_are_cut() -> None:
    data = history([("x", "ink ink paper"), ("x", " ".join(NAMES)), ("y", "soap")])
    product, _, customer, start = baskets(data, 5, 7)
    assert np.diff(start).tolist() == [2, 5, 1] and customer.tolist() == [0, 0, 1]
    assert all(len(set(p)) == len(p) for p in np.split(product, start[1:-1]))


def test_margins_are_those_of_pairs_at_random() -> None:
    ends = np.array([5.0, 4.0, 3.0, 2.0, 0.0])
    u = margins(ends)
    assert u * (u.sum() - u) == pytest.approx(ends, rel=1e-3)


@each
def test_the_seed_is_never_recommended(kind: type[ItemToItem]) -> None:
    orders = history(shop(np.random.default_rng(4)))
    data = both(orders, replace(orders, kind=np.full(len(orders), VIEW)))
    model = kind().fit(data)
    asked = history([("x", "printer soap"), ("y", "ink"), ("y", "lamp")])
    ranking = model.recommend(asked, asked.customer_ids, len(NAMES), repeat=False)
    got = [{NAMES[p] for p in ranking.product[ranking.customer == c]} for c in (0, 1)]
    assert got == [set(NAMES) - {"printer", "soap"}, set(NAMES) - {"ink", "lamp"}]
    scores = model.score(asked, np.arange(2))
    assert scores.at(np.array([0, 0, 1]), np.array([NAMES.index(n) for n in ("printer", "soap", "lamp")])).max() == 0
    assert not {"printer", "soap"} & set(goes_with(model, "printer", "soap"))


def viewers() -> Interactions:
    """Who looks for a camera compares phones; cameras are bought with a bag, and bags are looked at with them, too."""
    rng = np.random.default_rng(5)
    looks, buys = [], []
    for i in range(300):
        other = rng.choice(["lamp", "milk", "soap"])
        looks.append((f"c{i}", "camera phone bag" if i % 3 == 0 else f"{other} towel" if i % 3 == 1 else f"{other}"))
        buys.append((f"c{i}", "camera bag" if i % 3 == 0 else f"{other} cheese"))
    return both(history(buys), history(looks, VIEW))


def test_substitutes_and_complements_are_apart() -> None:
    data = viewers()
    complements, substitutes = Complements().fit(data), Substitutes().fit(data)
    assert list(goes_with(complements, "camera")) == ["bag"]
    assert list(goes_with(substitutes, "camera")) == ["phone"]
    both_ = complements.similarity.multiply(substitutes.similarity)
    assert both_.nnz == 0 and complements.similarity.nnz and substitutes.similarity.nnz


def catalogue(**categories: str) -> Catalogue:
    n, unknown = len(NAMES), np.full(len(NAMES), np.nan)
    category = np.array([categories.get(name, "") for name in NAMES], dtype=object)
    blank = np.full(n, "", dtype=object)
    since = np.full(n, np.datetime64("NaT"), dtype="datetime64[us]")
    return Catalogue(np.array(NAMES), blank, category, blank, unknown, unknown, since)


def test_content_speaks_where_there_are_few_views_and_the_category_always() -> None:
    data = both(history([]), history([(f"c{i}", "camera phone soap") for i in range(200)], VIEW))
    known = catalogue(camera="a > b", phone="a > b", soap="c", printer="d > e", ink="d > e")
    model = Substitutes().fit(replace(data, catalogue=known))
    assert list(goes_with(model, "camera")) == ["phone", "soap"]
    assert list(goes_with(model, "printer")) == ["ink"]
    assert not goes_with(Substitutes().fit(data), "printer")


def test_views_of_neighbouring_days_count_half_and_later_ones_nothing() -> None:
    lines = [(f"c{i}", day) for i in range(50) for day in ("camera lamp", "phone", "soap")]
    found = goes_with(Substitutes().fit(both(history([]), history(lines, VIEW))), "camera")
    assert list(found) == ["lamp", "phone"] and found["phone"] == pytest.approx(found["lamp"] / 2, rel=0.01)


@each
def test_ids_mean_nothing_and_chunks_change_nothing(kind: type[ItemToItem]) -> None:
    data, rng = viewers(), np.random.default_rng(6)
    model = kind().fit(data)
    rows = np.arange(300)
    whole = model.score(data, rows).matrix.toarray()  # type: ignore[attr-defined]
    single = np.vstack([model.score(data, rows[i : i + 1]).matrix.toarray() for i in rows])  # type: ignore[attr-defined]
    assert (whole == single).all() and whole.any()
    assert not model.score(data, np.array([-1])).matrix.nnz  # type: ignore[attr-defined]
    names, people = rng.permutation(len(NAMES)), rng.permutation(300)
    other = from_arrays(
        np.array([f"n{i:03}" for i in range(300)]), np.array([f"n{i:02}" for i in range(len(NAMES))]),
        np.array([f"n{people[c]:03}" for c in data.customer]), np.array([f"n{names[p]:02}" for p in data.product]),
        data.second, data.kind, NOW,
    )  # fmt: skip
    renamed = kind().fit(other).similarity.toarray()[np.ix_(names, names)]
    assert renamed == pytest.approx(model.similarity.toarray(), abs=1e-5)


@each
def test_it_comes_back_from_its_files(kind: type[ItemToItem], tmp_path: Path) -> None:
    data = viewers()
    model = kind().fit(data)
    model.save(tmp_path)
    assert (kind.load(tmp_path).similarity != model.similarity).nnz == 0


@each
@pytest.mark.parametrize(
    "bags",
    [[], [("x", "")], [("x", "ink")], [("x", "ink paper soap")], [(f"c{i}", "ink paper soap") for i in range(99)]],
    ids=["nobody", "empty", "one product", "one basket", "all identical"],
)
@pytest.mark.parametrize("events", [ORDER, VIEW], ids=["orders", "views"])
def test_the_small_and_the_same(kind: type[ItemToItem], bags: list[tuple[str, str]], events: int) -> None:
    data = history(bags, events)
    model = kind().fit(data)
    assert np.isfinite(model.similarity.data).all()
    if kind is Complements:
        assert not model.similarity.nnz  # nothing that chance doesn't explain
    ranking = model.recommend(data, data.customer_ids, 3, repeat=True)
    assert len(ranking.rank) == 3 * len(data.customer_ids)


@each
@pytest.mark.parametrize("names", [[], ["only"]], ids=["no product", "only one"])
def test_no_or_one_product(kind: type[ItemToItem], names: list[str]) -> None:
    data = history([("x", " ".join(names)), ("y", " ".join(names))], names=names)
    assert not len(kind().fit(data).recommend(data, data.customer_ids, 5, repeat=False).rank)


@each
def test_ten_thousand_products_with_one_event_each(kind: type[ItemToItem]) -> None:
    names = [f"p{i:05}" for i in range(10_000)]
    data = history([(f"c{i % 50}", " ".join(names[i * 10 : i * 10 + 10])) for i in range(1000)], names=names)
    data = both(data, replace(data, kind=np.full(len(data), VIEW)))
    model = kind().fit(data)
    assert len(model.recommend(data, data.customer_ids, 3, repeat=False).rank) == 150
    assert kind is Substitutes or not model.similarity.nnz
