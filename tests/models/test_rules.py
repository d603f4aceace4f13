"""Rules of lists: each alone and together, against lists whose right order is known and a plain re-telling."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import scipy.sparse as sp
import yaml
from controltower.errors import BadSettings
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import CART, ORDER, Interactions, from_arrays
from controltower.models.recommend.placements import OF_PRODUCTS, PLACEMENTS
from controltower.models.recommend.reranking import FATES, Reranked, codes, own_bars, rerank
from controltower.models.recommend.rules import FILTERS, Prepared, Rules, parse, prepare
from controltower.profiles.portable import DAY
from hypothesis import given, settings
from hypothesis import strategies as st

SEOUL = ZoneInfo("Asia/Seoul")
NOW = datetime(2026, 11, 27, 12, tzinfo=SEOUL)
NAN = float("nan")
PAGE = Path(__file__).parents[2] / "docs" / "recommendations.md"
#           id   category                brand    price margin
PRODUCTS = [
    ("a", "Home > Kitchen > Pots", "Acme", 10.0, 0.10),
    ("b", "Home > Kitchen > Pots", "Acme", 20.0, 0.20),
    ("c", "Home > Kitchen > Pans", "Acme", 30.0, 0.30),
    ("d", "home>garden", "acme ", 40.0, 0.40),
    ("e", "Food > Coffee", "Bean", 50.0, 0.50),
    ("f", "Food > Coffee", "Bean", 60.0, 0.60),
    ("g", "Food > Tea", "Leaf", NAN, NAN),
    ("h", "", "", 80.0, 0.80),
]
IDS = "".join(p[0] for p in PRODUCTS)


def catalogue() -> Catalogue:
    ids, category, brand, price, margin = zip(*PRODUCTS, strict=True)
    never = np.full(len(ids), np.datetime64("NaT"), dtype="datetime64[us]")
    texts = [np.array(t, dtype=object) for t in (ids, category, brand)]
    return Catalogue(np.array(ids), *texts, np.array(price), np.array(margin), never)


def prepared(now: datetime = NOW, *, sold: Any = None, stock: Any = None, like: Any = None, **rules: Any) -> Prepared:
    told = Rules.model_validate(rules)
    return prepare(told, catalogue(), now, SEOUL, sold=sold, in_stock=stock, similarity=like)


def mask(*, without: str) -> np.ndarray:
    return np.array([p not in without for p in IDS])


def listed(p: Prepared, lists: list[str], k: int = 8, **more: Any) -> Reranked:
    """The re-ranked lists; candidates are told by their letters, best first."""
    row = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    product = np.array([IDS.index(letter) for one in lists for letter in one], dtype=np.int64)
    score = -np.arange(len(row), dtype=float)  # below 0, as some models' are
    return rerank(p, row, product, score, k, len(lists), **more)


def shown(found: Reranked, row: int = 0) -> str:
    return "".join(IDS[p] for p in found.product[found.row == row])


def order(lists: str = IDS, k: int = 8, now: datetime = NOW, **rules: Any) -> str:
    return shown(listed(prepared(now, **rules), [lists], k))


def who(found: Reranked) -> dict[str, str]:
    return {IDS[p]: text for p, text in zip(found.product, codes(found.rules), strict=True) if text}


def test_without_rules_nothing_changes() -> None:
    found = listed(prepared(), ["cab", "", "hg"], k=2)
    assert [shown(found, r) for r in range(3)] == ["ca", "", "hg"]
    assert found.rank.tolist() == [1, 2, 1, 2]
    assert found.score.tolist() == [0, -1, -3, -4]
    assert found.candidate.tolist() == [0, 1, 3, 4]
    assert not found.acted.any() and not found.removed.any() and not found.rules.any()
    assert found.told(0) == {"acted": [], "removed": {}, "pins": {}}


def test_nothing_at_all_gives_nothing() -> None:
    assert shown(listed(prepared(diversity=0.5, most_per_brand=1), [], k=3)) == ""
    empty = Catalogue(*[np.array([], dtype=t) for t in (np.str_, object, object, object, float, float)], np.zeros(0))
    rules = Rules.model_validate(
        {"margin": 0.5, "diversity": 0.5, "most_per_category": 1, "pins": [{"product": "a"}], "price": {"at_most": 1}}
    )
    found = prepare(rules, empty, NOW, SEOUL)
    assert found.unmatched == ("pins.0",)
    assert not len(rerank(found, np.zeros(0, int), np.zeros(0, int), np.zeros(0), 3, 2).row)


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        listed(prepared(), ["a"], k=0)
    for row in ([1, 0], [0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="sorted by row, from 0 to 1"):
            rerank(prepared(), np.array(row), np.array([0, 1]), np.zeros(2), 3, 2)
    with pytest.raises(ValueError, match="positions in the catalogue"):
        rerank(prepared(), np.zeros(1, int), np.array([8]), np.zeros(1), 3, 1)
    for wrong in ({"own": sp.csr_matrix((2, 8))}, {"own": sp.csr_matrix((1, 7))}, {"seed_price": np.zeros(2)}):
        with pytest.raises(ValueError, match="own must be 1 x 8, and seed_price 1 long"):
            listed(prepared(), ["a"], **wrong)


def test_filters_take_out_and_each_says_how_many() -> None:
    rules = prepared(
        exclusions=[{"brands": ["ACME"], "categories": ["Home > Kitchen"]}], price={"at_least": 15, "at_most": 60},
        sold=mask(without="h"), stock=mask(without="ah"),
    )  # fmt: skip
    assert "".join(np.array(list(IDS))[rules.allowed]) == "def"
    own = sp.csr_matrix(([16, 48], ([0, 0], [4, 5])), (2, 8), dtype=np.uint8)
    found = listed(rules, [IDS, "fed"], own=own)
    assert [shown(found, r) for r in range(2)] == ["d", "fed"]
    assert found.told(0)["removed"] == {"not_sold": 1, "out_of_stock": 1, "excluded": 2, "price": 1, "bought": 2}


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"in_stock": False, "stock": mask(without="a")}, "abcdefgh"),
        ({"in_stock": False, "sold": mask(without="a")}, "bcdefgh"),
        ({"exclusions": [{"products": ["b", "gone"]}]}, "acdefgh"),
        ({"exclusions": [{"categories": ["Home>  kitchen >pots", "Food > Tea"]}]}, "cdefh"),
        ({"exclusions": [{"categories": ["Home > Kit"]}]}, "abcdefgh"),  # levels are whole words
        ({"exclusions": [{"brands": ["Acme"], "products": ["a", "e"]}]}, "bcdefgh"),  # all that is told must fit
        ({"price": {"at_least": 40}}, "defh"),
        ({"price": {"at_most": 40, "or_unknown": True}}, "abcdg"),
    ],
)
def test_filters(rules: dict[str, Any], left: str) -> None:
    assert order(**rules) == left


def test_a_price_band_relative_to_what_it_is_shown_with() -> None:
    rules = prepared(price={"at_least_of_seed": 1.5, "at_most_of_seed": 2, "at_most": 45})
    carts = np.array([20, NAN, NAN, 10])
    found = listed(rules, [IDS] * 4, seed_price=carts)
    assert [shown(found, r) for r in range(4)] == ["cd", "abcd", "abcd", "b"]
    assert found.removed[:, FILTERS.index("price")].tolist() == [6, 4, 4, 7]
    upgrade = prepared(price={"at_least_of_seed": 2, "or_unknown": True})
    assert [shown(listed(upgrade, [IDS], seed_price=np.array([p]))) for p in (40.0, 0.0)] == ["gh", IDS]
    assert shown(listed(upgrade, [IDS])) == IDS


def history() -> Interactions:
    """One customer: a, b, e ordered 10 and 40 days ago, c only put into the cart; another: nothing."""
    now = 1_000 * DAY
    days, kinds = np.array([10, 40, 40, 10, 10]), np.array([ORDER, ORDER, ORDER, ORDER, CART])
    products = np.array(["a", "a", "b", "e", "c"])
    return from_arrays(
        np.array(["x", "y"]), np.array(list(IDS)), np.full(5, "x"), products, now - days * DAY, kinds, now
    )


@pytest.mark.parametrize(
    ("bought", "repeat", "barred"),
    [
        ({}, True, ""),
        ({}, False, "abe"),
        ({"again_after_days": 0}, False, ""),
        ({"again_after_days": "never"}, True, "abe"),
        ({"again_after_days": 11}, True, "ae"),
        ({"again_after_days": 10}, True, ""),  # on the tenth day it may come again
        ({"by_category": {"Home": 41, "Home > Kitchen > Pots": 11}}, True, "a"),
        ({"by_category": {"food > coffee": 0}}, False, "ab"),
        ({"again_after_days": 30, "by_category": {"Food": "never"}}, True, "ae"),
    ],
)
def test_when_a_bought_product_may_come_again(bought: dict[str, Any], repeat: bool, barred: str) -> None:
    bars = own_bars(Rules.model_validate({"bought": bought}), catalogue(), history(), repeat=repeat)
    assert bars.shape == (2, 8) and bars[1].nnz == 0
    assert "".join(IDS[p] for p in np.sort(bars[0].indices)) == barred
    found = listed(prepared(), [IDS, ""], own=bars)
    assert shown(found) == "".join(p for p in IDS if p not in barred)
    assert found.told(0)["removed"] == ({"bought": len(barred)} if barred else {})


def test_what_the_last_messages_showed() -> None:
    ago = sp.csr_matrix(np.array([[0] * 7 + [1], [1, 1, 2, 3, 0, 0, 0, 0]]))  # in the last message, the one before, ...
    for n, left in ((0, IDS), (1, "cdefgh"), (2, "defgh"), (3, "efgh"), (9, "efgh")):
        bars = own_bars(Rules(not_in_last_messages=n), catalogue(), history(), repeat=True, ago=ago)
        found = listed(prepared(), ["", IDS], own=bars)
        assert shown(found, 1) == left
        assert found.removed[1, FILTERS.index("recently_shown")] == 8 - len(left)
    both = own_bars(Rules(not_in_last_messages=3), catalogue(), history(), repeat=False, ago=ago[::-1])
    assert listed(prepared(), [IDS, ""], own=both).told(0)["removed"] == {"bought": 3, "recently_shown": 2}


def test_a_boost_counts_in_places_of_the_list() -> None:
    """Relevance is k / (k + rank - 1): with k = 4 twice that brings rank 5 level with rank 1, and 6 to second."""
    assert order(k=4, boosts=[{"products": ["e"]}]) == "aebc"  # a draw: who was first stays so
    assert order(k=4, boosts=[{"products": ["e"], "factor": 2.01}]) == "eabc"
    assert order(k=4, boosts=[{"products": ["f"]}, {"products": ["g"]}]) == "afbg"
    assert order(k=4, boosts=[{"products": ["h"]}, {"categories": ["Home"], "factor": 1.1}]) == "abch"
    found = listed(prepared(boosts=[{"brands": ["Bean"]}]), [IDS], k=4)
    assert who(found) == {"e": "boosted", "f": "boosted"} and found.told(0)["acted"] == ["boosted"]


def test_boosts_mean_the_same_for_every_scale_and_length_of_scores() -> None:
    rules = prepared(boosts=[{"products": ["e"], "factor": 1.5}])
    row, product = np.zeros(8, int), np.arange(8)
    for score in (np.linspace(1e9, 0, 8), np.linspace(-1, -1e9, 8), 2.0 ** -np.arange(8), np.zeros(8)):
        for n in (5, 8):
            found = rerank(rules, row[:n], product[:n], score[:n], 4, 1)
            assert shown(found) == "abec"
            np.testing.assert_array_equal(found.score, score[[0, 1, 4, 2]])


def test_a_bury_lowers_and_several_factors_multiply() -> None:
    assert order(k=4, buries=[{"products": ["a"]}]) == "bcda"  # level with rank 5, and before it
    found = listed(prepared(buries=[{"products": ["a"], "factor": 0.4}]), [IDS], k=4)
    assert shown(found) == "bcde" and found.told(0)["acted"] == ["buried"] and not who(found)
    twice = {"boosts": [{"products": ["e"]}, {"brands": ["bean"]}], "buries": [{"products": ["e"], "factor": 0.25}]}
    assert order(k=4, **twice) == "afbc"


def test_margin_weighs_against_relevance() -> None:
    assert order(margin=1.0) == "hfedgcba"  # g's is unknown: as d's, which is in the middle
    found = listed(prepared(margin=0.5), [IDS], k=4)
    assert shown(found) == "hfea" and who(found) == {"h": "margin", "f": "margin", "e": "margin"}
    flat = replace(catalogue(), margin_rate=np.full(8, 0.3))
    assert shown(listed(prepare(Rules(margin=0.9), flat, NOW, SEOUL), [IDS])) == IDS


def test_caps() -> None:
    assert order(most_per_brand=1) == "aegh"
    assert order(most_per_category=1) == "acdegh"
    assert order(most_per_category=1, category_levels=1) == "aeh"
    assert order(most_per_category=2, category_levels=2, most_per_brand=3) == "abdefgh"
    found = listed(prepared(most_per_brand=2, most_per_category=1), [IDS], k=4)
    assert shown(found) == "aceg"
    assert who(found) == {"c": "category_cap", "e": "category_cap", "g": "category_cap"}
    assert found.told(0)["acted"] == ["category_cap"]
    short = listed(prepared(most_per_brand=1), ["ab", "ha"], k=2)
    assert [short.told(r)["acted"] for r in (0, 1)] == [["brand_cap"], []]
    unknown = sp.csr_matrix((8, 8))
    assert order(lists="hgba", most_per_brand=1, diversity=0.1, like=unknown) == "hgb"


def test_diversity() -> None:
    assert order(k=8, diversity=1.0)[:4] == "aehg"  # g is tea, e coffee: both are food
    found = listed(prepared(diversity=0.3), [IDS], k=4)
    assert shown(found) == "aebh" and who(found) == {"e": "diversity", "h": "diversity"}
    assert found.told(0)["acted"] == ["diversity"]
    like = sp.csr_matrix(([1.0, 1.0], ([0, 4], [4, 0])), (8, 8))
    assert order(lists="aeg", diversity=0.6) == "aeg"
    assert order(lists="aeg", diversity=0.6, like=like) == "age"


def test_pins() -> None:
    assert order(k=3, pins=[{"product": "h"}]) == "hab"
    assert order(lists="ab", k=5, pins=[{"product": "h", "position": 5}]) == "abh"  # the list closes up
    assert order(lists="", k=5, pins=[{"product": "h", "position": 5}]) == "h"
    both = [{"product": "h", "position": 2}, {"product": "g", "position": 2}]
    assert order(k=4, pins=both) == "ahgb"
    assert order(k=4, pins=[{"product": "h", "position": 3}, {"product": "h"}]) == "habc"
    found = listed(prepared(pins=[{"product": "h"}, {"product": "b", "position": 2}]), ["ab"], k=3)
    assert shown(found) == "hba" and who(found) == {"h": "pinned", "b": "pinned"}
    assert found.candidate.tolist() == [-1, 1, 0] and found.score.tolist() == [0, -1, 0]


def test_a_pin_that_may_not_be_shown_is_not_and_it_is_said() -> None:
    pins = [{"product": p, "position": i + 1} for i, p in enumerate("abcdefgh")] + [{"product": "gone"}]
    rules = prepared(
        pins=pins, sold=mask(without="a"), stock=mask(without="b"), exclusions=[{"products": ["c"]}],
        price={"at_most": 70, "or_unknown": True},
    )  # fmt: skip
    own = sp.csr_matrix(([16, 32], ([0, 0], [3, 4])), (1, 8), dtype=np.uint8)
    found = listed(rules, ["a"], k=6, own=own)
    assert rules.unmatched == ("pins.8",)
    assert shown(found) == "f"
    wanted = ["not_sold", "out_of_stock", "excluded", "bought", "recently_shown", "shown", "no_place", "price"]
    assert [FATES[f] for f in found.fates[0]] == wanted
    assert found.told(0)["pins"] == {w: 1 for w in FATES if w in wanted and w != "shown"}


def test_pins_count_for_caps_and_diversity() -> None:
    found = listed(prepared(pins=[{"product": "b", "position": 3}], most_per_brand=1), [IDS], k=4)
    assert shown(found) == "egbh"
    assert who(found) == {"e": "brand_cap", "g": "brand_cap", "b": "pinned", "h": "brand_cap"}
    two = prepared(pins=[{"product": "b", "position": 3}, {"product": "a"}], most_per_category=1)
    assert [FATES[f] for f in listed(two, [IDS]).fates[0]] == ["shown", "category_cap"]
    assert order(lists="abe", diversity=0.5, pins=[{"product": "b", "position": 3}]) == "eab"


@pytest.mark.parametrize(
    ("dates", "now", "holds"),
    [
        ({"from": "2026-11-27"}, "2026-11-26T23:59:59+09:00", False),
        ({"from": "2026-11-27"}, "2026-11-27T00:00:00+09:00", True),
        ({"until": "2026-11-27"}, "2026-11-27T23:59:59+09:00", True),  # that day still counts
        ({"until": "2026-11-27"}, "2026-11-28T00:00:00+09:00", False),
        ({"until": "2026-11-27"}, "2026-11-27T15:00:00+00:00", False),  # midnight in Seoul
        ({"until": "2026-11-27T18:00"}, "2026-11-27T17:59:59+09:00", True),
        ({"until": "2026-11-27T18:00"}, "2026-11-27T18:00:00+09:00", False),  # that moment doesn't
        ({"from": "2026-11-27 18:00"}, "2026-11-27T18:00:00+09:00", True),
        ({"from": "2026-11-27T18:00:00Z"}, "2026-11-28T03:00:00+09:00", True),
        ({"until": "9999-12-31"}, "2026-11-27T12:00:00+09:00", True),
        ({"from": "2026-11-27", "until": "2026-11-27T00:00:00Z"}, "2026-11-27T08:59:59+09:00", True),
    ],
)
def test_dates_are_the_shops(dates: dict[str, str], now: str, holds: bool) -> None:
    at = datetime.fromisoformat(now)
    rule = {"products": ["a"], **dates}
    assert (order(now=at, exclusions=[rule]) == IDS[1:]) == holds
    assert (order(now=at, buries=[rule | {"factor": 0.1}]) != IDS) == holds
    assert (order(now=at, boosts=[rule | {"products": ["h"], "factor": 100}])[0] == "h") == holds
    assert (order(now=at, pins=[{"product": "h", **dates}])[0] == "h") == holds


def test_prepared_rules_say_until_when_they_hold() -> None:
    boost = {"products": ["a"], "from": "2026-11-28", "until": "2026-11-30"}
    pin = {"product": "a", "until": "2026-11-26"}
    assert prepared(boosts=[boost], pins=[pin]).until == datetime(2026, 11, 28, tzinfo=SEOUL)
    assert prepared(NOW + timedelta(days=1), boosts=[boost]).until == datetime(2026, 12, 1, tzinfo=SEOUL)
    assert prepared(NOW + timedelta(days=9), boosts=[boost]).until is None


def test_rules_that_fit_no_product_are_named_while_they_matter() -> None:
    none = {"brands": ["Acmee"]}
    rules = prepared(
        boosts=[{"products": ["a"]}, none], buries=[none | {"from": "2027-01-01"}],
        exclusions=[none | {"until": "2026-01-01"}, {"brands": ["Bean"], "categories": ["Home"]}],
        pins=[{"product": "z"}, {"product": "z", "until": "2026-01-01"}],
    )  # fmt: skip
    assert rules.unmatched == ("exclusions.1", "boosts.1", "buries.0", "pins.0")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"boost": []}, r"^rules\.yaml: cart\.boost: .*Known are in_stock, bought, price"),
        ({"boosts": [{"brand": "x"}]}, r"cart\.boosts\.0\.brand: .*Known are from, until, products"),
        ({"pins": [{"product": "x", "rank": 1}]}, r"cart\.pins\.0\.rank.*Known are from, until, product, position\."),
        ({"boosts": [{}]}, r"cart\.boosts\.0: it names no products; tell products, categories or brands"),
        ({"boosts": [{"products": [1]}]}, r"products\.0: .* Write it in quotes\."),
        ({"boosts": [{"categories": [" > "]}]}, r"is no category; write its path, such as"),
        ({"boosts": [{"brands": ["a"], "factor": 1}]}, r"boosts\.0\.factor: .*greater than 1"),
        ({"buries": [{"brands": ["a"], "factor": 2}]}, r"buries\.0\.factor: .*less than 1"),
        ({"exclusions": [{"brands": ["a"], "until": "soon"}]}, r"'soon' is no date; write 2026-11-27, or"),
        ({"exclusions": [{"brands": ["a"], "until": 20261127}]}, r"20261127 is no date"),
        ({"pins": [{"product": "a", "from": "2026-11-28", "until": "2026-11-27"}]}, r"must come after from.*correct"),
        ({"bought": {"again_after_days": -1}}, r"bought\.again_after_days: -1 is no number of days; write 30"),
        ({"bought": {"by_category": {"Food": "always"}}}, r"'always' is no number of days.*or never"),
        ({"price": {}}, r"cart\.price: a price band needs at_least, at_most, at_least_of_seed or"),
        ({"price": {"at_least": 2, "at_most": 1}}, r"no price fits: .*swap them"),
        ({"price": {"at_least": float("nan")}}, r"price\.at_least: .*finite"),
        ({"margin": 2, "diversity": -1}, r"cart\.margin: .*less than or equal to 1 \(1 more\)"),
        ([], r"^rules\.yaml: cart: "),
    ],
)
def test_bad_declarations_say_where_and_what_to_write(told: Any, says: str) -> None:
    with pytest.raises(BadSettings, match=says):
        parse({"cart": told}, "rules.yaml", ["for_you", "cart"])


def test_rules_belong_to_placements() -> None:
    with pytest.raises(BadSettings, match=r"no placement 'for_me'\. Known are for_you, cart and everywhere\."):
        parse({"for_me": {}}, "rules.yaml", ["for_you", "cart"])
    with pytest.raises(BadSettings, match=r"holds no rules by placement\. Known placements: cart"):
        parse([], "rules.yaml", ["cart"])  # type: ignore[arg-type]


def test_a_placement_adds_to_the_rules_of_everywhere() -> None:
    given = {
        "everywhere": {"margin": 0.2, "diversity": 0.3, "exclusions": [{"brands": ["x"]}]},
        "cart": {"margin": 0.0, "exclusions": [{"brands": ["y"]}]},
        "similar": None,
    }
    rules = parse(given, "rules.yaml", ["for_you", "cart", "similar"])
    assert (rules["cart"].margin, rules["cart"].diversity) == (0.0, 0.3)
    assert [e.brands for e in rules["cart"].exclusions] == [["x"], ["y"]]
    assert rules["for_you"] == rules["similar"] and rules["for_you"].margin == 0.2
    assert parse(None, "rules.yaml", ["cart"]) == {"cart": Rules()}
    assert Rules.model_validate(rules["cart"].model_dump(mode="json")) == rules["cart"]


def test_the_example_of_the_page_can_be_declared() -> None:
    found = re.search(r"```yaml\n(everywhere:.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    rules = parse(yaml.safe_load(found[1]), PAGE.name, [*PLACEMENTS, *OF_PRODUCTS])
    assert len({r.model_dump_json() for r in rules.values()}) == 3  # everywhere's, and those of two placements
    assert rules["for_you"].not_in_last_messages and rules["upgrade"].price and rules["new_for_you"].exclusions


def plainly(p: Prepared, one: list[int], k: int, own: dict[int, int]) -> list[int]:
    """The list of one row as the docstring of reranking.py says it, without a thought of speed."""
    rules = p.rules
    path = [[level.strip().lower() for level in c.split(">") if level] for _, c, *_ in PRODUCTS]
    brand = [b.strip().lower() for _, _, b, *_ in PRODUCTS]

    def alike(i: int, j: int) -> float:
        a, b = path[i], path[j]
        same = next((d for d, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        by_text = (0.7 * same / max(len(a), len(b)) if same else 0) + 0.3 * (brand[i] == brand[j] != "")
        return max(by_text, p.similarity[i, j] if p.similarity is not None else 0)

    def fits(i: int, chosen: list[int]) -> bool:
        groups, group = [path[c][: rules.category_levels] for c in chosen], path[i][: rules.category_levels]
        brands = [brand[c] for c in chosen]
        one_more = not brand[i] or brands.count(brand[i]) < (rules.most_per_brand or k)
        return one_more and (not group or groups.count(group) < (rules.most_per_category or k))

    def by(value: dict[int, float]) -> dict[int, float]:
        return dict(sorted(value.items(), key=lambda pair: -pair[1]))

    left = [i for i in one if not p.barred[i] and i not in own]
    value = {i: k / (k + r) for r, i in enumerate(left)}
    if rules.margin:
        value = by({i: (1 - rules.margin) * v + rules.margin * p.margin[i] for i, v in value.items()})
    if len(p.factor):
        value = by({i: v * p.factor[i] for i, v in value.items()})
    slots: dict[int, int] = {}
    chosen: list[int] = []
    for i, place in zip(p.pins.tolist(), p.places.tolist(), strict=True):
        free = next((s for s in range(place, k + 1) if s not in slots), None)
        if not p.barred[i] and i not in own and fits(i, chosen) and free:
            slots[free] = i
            chosen.append(i)
    made = []
    for s in range(1, k + 1):
        if s not in slots:
            rest = [i for i in value if i not in chosen and fits(i, chosen)]
            if not rest:
                continue
            near = {i: max([alike(c, i) for c in chosen], default=0.0) for i in rest}
            slots[s] = max(rest, key=lambda i: (1 - rules.diversity) * value[i] - rules.diversity * near[i])
            chosen.append(slots[s])
        made.append(slots[s])
    return made


letters = st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True)
named = [{"brands": ["Acme"]}, {"categories": ["Home"]}, {"categories": ["Food > Coffee", "Home > Kitchen"]}]
conditions = letters.map(lambda products: {"products": products}) | st.sampled_from(named)
pin = st.fixed_dictionaries({"product": st.sampled_from(IDS), "position": st.integers(1, 6)})
weights = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])
few = st.none() | st.integers(1, 3)
declared = st.fixed_dictionaries(
    {
        "margin": weights, "diversity": weights, "most_per_brand": few, "most_per_category": few,
        "category_levels": few, "exclusions": st.lists(conditions, max_size=1),
        "boosts": st.lists(conditions, max_size=2), "buries": st.lists(conditions, max_size=2),
        "pins": st.lists(pin, max_size=3),
    }
)  # fmt: skip
rows = st.lists(st.lists(st.integers(0, 7), max_size=8, unique=True), min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(
    given_rules=declared, lists=rows, k=st.integers(1, 6), stock=st.sets(st.sampled_from(IDS), max_size=3),
    own=st.dictionaries(st.integers(0, 7), st.sampled_from([16, 32, 48]), max_size=3),
    likes=st.none() | st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=4),
)  # fmt: skip
def test_whatever_is_declared(
    given_rules: dict[str, Any], lists: list[list[int]], k: int, stock: set[str], own: dict[int, int],
    likes: list[tuple[int, int]] | None,
) -> None:  # fmt: skip
    dense = np.zeros((8, 8))
    for a, b in likes or []:
        dense[a, b] = dense[b, a] = 0.875
    like = None if likes is None else sp.csr_matrix(dense)
    rules = prepared(**given_rules, stock=mask(without="".join(stock)), like=like)
    bars = sp.lil_matrix((len(lists), 8), dtype=np.uint8)
    for product, bits in own.items():
        bars[0, product] = bits  # the first row only
    row = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    product = np.array([p for one in lists for p in one], dtype=np.int64)
    score = np.arange(len(row), 0, -1.0)
    found = rerank(rules, row, product, score, k, len(lists), own=bars.tocsr())
    for r, one in enumerate(lists):
        here = found.row == r
        made = found.product[here].tolist()
        barred = {p for p in range(8) if rules.barred[p]} | (set(own) if r == 0 else set())
        assert len(set(made)) == len(made) <= k and not set(made) & barred
        assert set(made) <= set(one) | set(rules.pins.tolist())
        assert found.rank[here].tolist() == list(range(1, len(made) + 1))
        assert found.removed[r].sum() == len(set(one) & barred)
        assert made == plainly(rules, one, k, own if r == 0 else {})
        for p, c, s, bits in zip(made, found.candidate[here], found.score[here], found.rules[here], strict=True):
            assert (p, r, s) == ((product[c], row[c], score[c]) if c >= 0 else (p, r, 0)) and (c >= 0) == (p in one)
            assert bool(bits & 1) == any(found.fates[r][rules.pins == p] == FATES.index("shown"))
            assert bits & ~found.acted[r] == 0
    for i, name in enumerate("pins boosts buries margin diversity most_per_brand most_per_category".split()):
        assert given_rules[name] or not (found.acted >> i & 1).any()
