"""Which list answers a request: the placement's own, the session's, what is popular; none only with a reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from controltower.models.recommend.published import Published, publish
from controltower.models.recommend.running import DATES
from controltower.models.recommend.search import Search
from controltower.models.recommend.searches import Collections, searches_from
from controltower.models.recommend.serving import Answer, Request, Serving, answer
from controltower.models.recommend.version import EXHIBITION
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models.conftest import NOW
from support.published_shop import AS_OF, IDS, N, artefacts, bought, item_lists, personal_lists

Make = Callable[..., Serving]
TIME = pa.timestamp("us", tz="UTC")
NO_IDS, NO_ONE = np.zeros(0, "U1"), np.zeros(0, int)


@pytest.fixture
def made(tmp_path: Path) -> Make:
    def make(**more: Any) -> Serving:
        root = tmp_path / "serving"
        return Serving(Published.open(root / publish(root, artefacts(**more))))

    return make


@pytest.fixture
def serving(made: Make) -> Serving:
    return made()


def ids(found: Answer) -> list[str]:
    return [i.shown["product_id"] for i in found.items]


def ask(serving: Serving, placement: str, **more: Any) -> Answer:
    return answer(serving, Request(placement, **more), AS_OF)


def test_item_lists_follow_the_product_and_popular_ones_fill_up(serving: Serving) -> None:
    found = ask(serving, "similar", product="mug", k=4)
    assert ids(found) == ["cup", "tea", "kettle", "pan"]  # its own, then its category by popularity
    assert [i.algorithm for i in found.items] == ["substitutes"] * 2 + ["popularity"] * 2
    assert [(i.reason_code, i.reason_value) for i in found.items[1:3]] == [
        ("because_you_viewed", "Mug <b>"), ("popular", "Kitchen"),
    ]  # fmt: skip
    assert (found.fallback, found.because, found.model_version) == (None, None, "s-1")


def test_a_session_adds_up_and_the_latest_click_is_strongest(serving: Serving) -> None:
    first = ask(serving, "recently_viewed_related", recent=["lamp", "mug"], k=3)
    assert ids(first) == ["sofa", "cup", "tea"] and first.items[0].reason_value == "Desk lamp"  # 1, .8, .4 + .32
    both = ask(serving, "recently_viewed_related", recent=["mug", "lamp"], k=3)
    assert ids(both) == ["cup", "sofa", "tea"]


def test_a_cart_is_completed_as_a_whole_and_not_with_itself(serving: Serving) -> None:
    found = ask(serving, "cart", cart=["kettle", "cup"], k=2)
    assert ids(found) == ["mug", "tea"]  # .4 + 1 before 1
    assert not {"kettle", "cup"} & set(ids(ask(serving, "cart", cart=["kettle", "cup"], k=N)))


def test_a_click_of_this_session_joins_the_customers_own_list(serving: Serving) -> None:
    alone = ask(serving, "for_you", customer="ann", k=2)
    assert (ids(alone), alone.fallback) == (["tea", "pan"], None)
    assert alone.items[0].reason_code == "because_you_bought"
    clicked = ask(serving, "for_you", customer="ann", recent=["mug"], k=3)
    assert ids(clicked) == ["tea", "cup", "pan"]  # in both lists; first of the session's, second of the own
    assert clicked.items[0].reason_code == "because_you_viewed"
    assert ids(ask(serving, "for_you", visitor="v1", k=1)) == ["lamp"]


CHAIN: list[tuple[Request, str | None, str | None]] = [
    (Request("for_you", customer="zoe", recent=["lamp"]), "session", "unknown_person"),
    (Request("for_you", customer="zoe", recent=["pan"]), "category", "unknown_person"),
    (Request("for_you", customer="bob"), "popular", "no_list"),
    (Request("for_you"), "popular", "nobody"),
    (Request("for_you", customer="zoe", visitor="v1"), None, None),
    (Request("similar", product="gone", customer="ann"), "for_you", "unknown_product"),
    (Request("similar", product="gone"), "popular", "unknown_product"),
    (Request("similar"), "popular", "no_product"),
    (Request("similar", product="pan"), "category", "no_list"),
    (Request("similar", product="sofa"), "popular", "no_list"),  # of no category
    (Request("search", query="mug"), "popular", "no_search"),
    (Request("nonsense"), "popular", "unknown_placement"),
    (Request("everywhere"), "popular", "unknown_placement"),
    (Request("popular"), None, None),
]


@pytest.mark.parametrize(("request_", "fallback", "because"), CHAIN)
def test_the_next_source_answers_and_says_why(
    serving: Serving, request_: Request, fallback: str | None, because: str | None
) -> None:
    found = answer(serving, request_, AS_OF)
    assert (found.fallback, found.because) == (fallback, because)
    assert len(found.items) >= N - 2 and len(set(ids(found))) == len(found.items)
    assert [i.rank for i in found.items] == list(range(1, len(found.items) + 1))


def test_what_was_bought_comes_again_only_where_the_placement_says_so(made: Make) -> None:
    serving = made(bought=bought({0: {"tea": 9}}, 3))
    assert "tea" not in ids(ask(serving, "for_you", customer="ann"))
    assert "tea" not in ids(ask(serving, "similar", customer="ann", product="mug"))
    assert ask(serving, "replenish", customer="ann").items[0].shown["product_id"] == "tea"
    assert ids(ask(serving, "for_you", customer="bob"))[-1] == "tea"


def test_a_placement_that_is_never_filled_up_is_empty_with_its_reason_and_no_source(made: Make) -> None:
    lists = personal_lists({0: ["tea"]}, 3, algorithms=["replenishment"], codes=["buy_again"], fill=False)
    serving = made(personal={"replenish": lists}, rules={"replenish": {"exclusions": [{"products": ["lamp"]}]}})
    found = ask(serving, "replenish", customer="ann")
    assert (ids(found), found.fallback, found.because) == (["tea"], None, None)
    for told, why in (
        ({"customer": "bob"}, "no_list"),
        ({"customer": "zoe", "recent": ["mug"]}, "unknown_person"),
        ({}, "nobody"),
    ):
        empty = ask(serving, "replenish", **told)
        assert (empty.items, empty.fallback, empty.because) == ((), None, why)
    sold_out = made(personal={"replenish": lists}, in_stock=np.array([i != "tea" for i in IDS]))
    empty = ask(sold_out, "replenish", customer="ann")
    assert (empty.items, empty.fallback, empty.because) == ((), None, "all_filtered")
    assert empty.rules["removed"] == {"out_of_stock": 1}


def test_rules_hold_for_lists_and_for_what_fills_them_up(made: Make) -> None:
    serving = made(
        sold=np.array([i != "lamp" for i in IDS]),
        in_stock=np.array([i != "cup" for i in IDS]),
        rules={
            "everywhere": {"exclusions": [{"brands": ["Bosch"]}]},
            "similar": {"pins": [{"product": "pan", "position": 1, "until": "2026-06-20"}]},
            "offer": {"diversity": 0.5},  # nothing is published for it
        },
    )
    found = ask(serving, "similar", product="mug", k=N)
    assert ids(found) == ["pan", "tea", "sofa"]
    assert (found.items[0].rules, found.items[0].algorithm) == (("pinned",), "popularity")
    assert found.rules["removed"] == {"out_of_stock": 1, "excluded": 1}  # of its own list and category
    later = answer(serving, Request("similar", product="mug", k=N), AS_OF + timedelta(days=6))
    assert ids(later) == ["tea", "pan", "sofa"]  # the pin has ended: the rules are prepared again
    assert ids(ask(serving, "similar", product="pan", k=1)) != ["pan"]  # not beside itself


def test_a_price_band_by_the_seed_looks_further_than_the_first_popular_ones(made: Make) -> None:
    serving = made(rules={"similar": {"price": {"at_least_of_seed": 10}}})
    found = ask(serving, "similar", product="mug", k=1)
    assert ids(found) == ["sofa"]
    nothing = ask(serving, "similar", product="sofa")
    assert (nothing.items, nothing.fallback, nothing.because) == ((), None, "nothing_allowed")
    capped = ask(made(rules={"everywhere": {"most_per_brand": 1}}), "popular", k=N)
    assert ids(capped) == ["cup", "kettle", "lamp", "pan", "sofa"] and "brand_cap" in capped.rules["acted"]


def test_search_answers_with_products_keywords_and_says_when_it_found_nothing(made: Make, serving: Serving) -> None:
    serving = made(search=search(serving), search_version="q-1", sold=np.array([i != "cup" for i in IDS]))
    found = ask(serving, "search", query="Desk lamp", k=2)
    assert ids(found)[0] == "lamp" and (found.fallback, found.model_version) == (None, "q-1")
    assert (found.items[0].reason_code, found.items[0].reason_value) == ("query_text", "Desk lamp")
    for query, why in (("zzzz", "no_match"), ("", "no_query"), (None, "no_query"), ("\x00", "no_query")):
        missed = ask(serving, "search", query=query)
        assert (missed.fallback, missed.because, len(missed.items)) == ("popular", why, N - 1)


def test_exhibitions_of_a_search_come_with_what_a_page_shows(made: Make, serving: Serving) -> None:
    model = search(
        serving, Collections(np.array(["light", "tea"]), np.array(["Light fair", "Tea week"], object), NO_ONE, NO_IDS)
    )
    known = {"collection_id": "tea", "title": "Tea week", "url": "/tea", "image_url": None, "kind": "exhibition"}
    table = pa.Table.from_pylist([known | {"badge": "new"}, known | {"collection_id": "other"}])
    (found,) = ask(made(search=model, exhibitions=table), "search", query="tea week").exhibitions
    assert found == known
    nothing = dict.fromkeys(EXHIBITION)
    (found,) = ask(made(search=model, exhibitions=table), "search", query="light").exhibitions
    assert found == nothing | {"collection_id": "light"}
    (found,) = ask(made(search=model), "search", query="tea week").exhibitions  # published by an earlier Control Tower
    assert found == nothing | {"collection_id": "tea"}


def test_an_exhibition_is_found_while_it_runs(made: Make, serving: Serving) -> None:
    names = ["begun", "light", "tea"]
    model = search(
        serving, Collections(np.array(names), np.array(["Tea day", "Light", "Tea week"], object), NO_ONE, NO_IDS)
    )
    hour = timedelta(hours=1)
    dated = {"tea": {"ends_at": AS_OF + 2 * hour}, "begun": {"starts_at": AS_OF + hour}, "light": {}}
    rows = [{"collection_id": name, **dates} for name, dates in dated.items()]
    table = pa.Table.from_pylist(rows, pa.schema([("collection_id", pa.string()), *((n, TIME) for n in DATES)]))
    serving = made(search=model, exhibitions=table)

    def shown(hours: float) -> set[str]:
        found = answer(serving, Request("search", query="tea"), AS_OF + hours * hour)
        return {e["collection_id"] for e in found.exhibitions}

    for hours, those in ((0, {"tea"}), (1, {"tea", "begun"}), (1.99, {"tea", "begun"}), (2, {"begun"}), (0, {"tea"})):
        assert shown(hours) == those, hours
    told = answer(serving, Request("search", query="tea"), AS_OF).exhibitions[0]
    assert told == dict.fromkeys(EXHIBITION) | {"collection_id": "tea"}, "its dates are for us"


def search(serving: Serving, collections: Collections | None = None) -> Search:
    """Over the products of a version, as if nobody had searched."""
    nobody = searches_from((), (), (), np.zeros(0, int), np.zeros(0), NOW)
    catalogue = serving.published.catalogue
    titles = np.array([serving.published.title(p) for p in range(N)], object)
    none = Collections(NO_IDS, np.zeros(0, object), NO_ONE, NO_IDS)
    return Search().fit(type(catalogue)(**vars(catalogue) | {"title": titles}), nobody, collections or none)


WORDS = st.one_of(st.sampled_from([*IDS, "ann", "v1", ""]), st.text(max_size=8))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    placement=st.sampled_from(["for_you", "similar", "cart", "replenish", "search", "x", ""]),
    k=st.integers(1, 60), customer=st.none() | WORDS, visitor=st.none() | WORDS, product=st.none() | WORDS,
    cart=st.lists(WORDS, max_size=6), recent=st.lists(WORDS, max_size=6), query=st.none() | WORDS,
)  # fmt: skip
def test_whatever_is_asked_there_is_a_list_of_distinct_products(serving: Serving, **told: Any) -> None:
    found = answer(serving, Request(**told), AS_OF)
    shown = ids(found)
    here = {told["product"], *told["cart"]}
    assert len(set(shown)) == len(shown) <= told["k"]
    assert not here & set(shown)
    assert len(shown) >= min(told["k"], N - len(here & set(IDS)) - 1)  # Ann's one barred product
    assert (found.fallback is None) == (found.because is None)


def test_item_lists_of_one_product_do_not_name_it_beside_itself(made: Make) -> None:
    serving = made(items={"similar": item_lists({"mug": ["mug", "cup"]})}, personal={})
    assert ids(ask(serving, "similar", product="mug", k=1)) == ["cup"]
