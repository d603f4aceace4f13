"""Sites that list products of their own, and lists of collections."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from controltower.models.recommend.history import Allowed
from controltower.models.recommend.published import Published, erase, publish
from controltower.models.recommend.search import Search
from controltower.models.recommend.searches import Collections, searches_from
from controltower.models.recommend.serving import Answer, Request, Serving, answer
from controltower.models.recommend.version import Artefacts
from support.published_shop import AS_OF, IDS, N, artefacts, personal_lists

KR = np.isin(IDS, ["cup", "mug", "tea"])
LISTED = {"kr": Allowed(KR, KR & ~np.isin(IDS, ["cup"])), "cn": Allowed(np.ones(N, bool), np.ones(N, bool))}
SITES = np.array(["kr", "", "cn"])  # of Ann, Bob and the visitor v1


def made(folder: Path, **more: Any) -> Serving:
    return Serving(Published.open(folder / publish(folder, artefacts(**more))))


def ids(found: Answer) -> list[str]:
    return [i.id for i in found.items]


def ask(serving: Serving, placement: str, **more: Any) -> Answer:
    return answer(serving, Request(placement, k=N, **more), AS_OF)


def test_everybody_sees_what_is_listed_at_their_site(tmp_path: Path) -> None:
    serving = made(tmp_path, listed=LISTED, sites=SITES)
    assert ids(ask(serving, "for_you", customer="ann")) == ["tea", "mug"], "her pan isn't listed, the cup is sold out"
    assert len(ids(ask(serving, "for_you", customer="bob"))) == N
    assert ids(ask(serving, "for_you", visitor="v1"))[0] == "lamp"
    assert set(ids(ask(serving, "popular"))) == set(IDS)


def test_the_page_knows_its_site_better(tmp_path: Path) -> None:
    serving = made(tmp_path, listed=LISTED, sites=SITES)
    assert ids(ask(serving, "popular", customer="bob", site="kr")) == ["mug", "tea"]
    assert ids(ask(serving, "for_you", customer="ann", site="cn"))[:2] == ["tea", "pan"]
    assert ids(ask(serving, "for_you", customer="ann", site="us"))[:2] == ["tea", "pan"], "a site that lists nothing"
    assert ids(ask(serving, "similar", product="mug", site="kr")) == ["tea"]


def test_without_listings_a_site_changes_nothing(tmp_path: Path) -> None:
    serving = made(tmp_path, sites=SITES)
    assert ask(serving, "for_you", customer="ann", site="kr").items == ask(serving, "for_you", customer="ann").items


def collections(**more: Any) -> Artefacts:
    ids = ["autumn", "deals", "tea"]
    shown = pa.table({
        "product_id": ids, "title": ["Autumn", None, "茶"], "url": ["https://shop.example/a", None, None],
    })  # fmt: skip
    personal = personal_lists({}, 3, algorithms=["own_history"], codes=["viewed_before"])
    personal.product[0, :2], personal.about[0, :2] = [2, 0], [2, -1]
    given: dict[str, Any] = {
        "products": shown, "sold": np.ones(3, bool), "in_stock": np.ones(3, bool), "popularity": [1, 3, 2], "items": {},
        "personal": {"offer": personal}, "bought": None, "repeats": ["offer"],
    }  # fmt: skip
    return artefacts(**given | more)


def test_offers_are_collections(tmp_path: Path) -> None:
    serving = made(tmp_path, offers=collections())
    serving.warm_up(AS_OF)
    found = ask(serving, "offer", customer="ann", recent=["mug"])
    assert ids(found) == ["tea", "autumn", "deals"], "her own, then the most popular"
    assert (found.placement, found.fallback, found.model_version) == ("offer", None, "b-1")
    assert found.items[0].shown == {"collection_id": "tea", "title": "茶", "url": None, "image_url": None}
    assert (found.items[0].reason_code, found.items[0].reason_value) == ("viewed_before", "茶")
    nobody = ask(serving, "offer")
    assert (ids(nobody), nobody.fallback, nobody.because) == (["deals", "tea", "autumn"], "popular", "nobody")
    only = np.array([True, False, False])
    serving = made(tmp_path, offers=collections(listed={"kr": Allowed(only, only)}, sites=SITES))
    assert ids(ask(serving, "offer", customer="ann")) == ["autumn"]


def test_an_offer_ends_at_its_moment(tmp_path: Path) -> None:
    """Not at the next scoring: also where it fills up, or is of a site."""
    hour, time = timedelta(hours=1), pa.timestamp("us", tz="UTC")
    products = collections().products
    for name, told in (
        ("starts_at", [None, AS_OF + 9 * hour, None]),
        ("ends_at", [AS_OF + 5 * hour, None, AS_OF + hour]),
    ):
        products = products.append_column(name, pa.array(told, time))
    every = np.ones(3, bool)
    serving = made(tmp_path, offers=collections(products=products, listed={"kr": Allowed(every, every)}, sites=SITES))
    serving.warm_up(AS_OF)

    def at(hours: float, **who: str) -> Answer:
        return answer(serving, Request("offer", **who), AS_OF + hours * hour)

    assert [ids(at(h, customer="ann")) for h in (0, 1, 5, 9)] == [["tea", "autumn"], ["autumn"], [], ["deals"]]
    assert [ids(at(h, customer="bob")) for h in (0, 1, 5, 9)] == [["tea", "autumn"], ["autumn"], [], ["deals"]]
    assert (at(5).because, at(1, customer="ann").rules["removed"]) == ("nothing_allowed", {"not_sold": 1})


@pytest.mark.parametrize("listed", [{}, LISTED])
def test_a_search_shows_no_exhibition_of_another_site(tmp_path: Path, listed: dict[str, Allowed]) -> None:
    """Whether or not sites list products of their own; the answer of one site isn't kept for another."""
    names = ["cn", "every", "kr", "kr_over"]
    rows = [{"collection_id": n, "site": {"every": None}.get(n, n[:2]), "kind": "exhibition"} for n in names]
    for row in rows:
        row["starts_at"], row["ends_at"] = None, AS_OF if row["collection_id"] == "kr_over" else None
    time = pa.timestamp("us", tz="UTC")
    texts = [(name, pa.string()) for name in ("collection_id", "site", "kind")]
    table = pa.Table.from_pylist(rows, pa.schema([*texts, ("starts_at", time), ("ends_at", time)]))
    held = Collections(np.array(names), np.full(4, "Tea week", object), np.zeros(0, int), np.zeros(0, "U1"))
    nobody = searches_from((), (), (), np.zeros(0, int), np.zeros(0), int(AS_OF.timestamp()))
    catalogue = made(tmp_path / "bare").published.catalogue
    model = Search().fit(catalogue, nobody, held)
    serving = made(tmp_path, listed=listed, sites=SITES, search=model, exhibitions=table)

    def shown(**who: str) -> list[str]:
        found = ask(serving, "search", query="tea", **who).exhibitions
        assert all("site" not in one for one in found)
        return sorted(one["collection_id"] for one in found)

    for _ in range(2):
        assert shown(customer="ann") == ["every", "kr"], "hers, and what is everywhere; nothing that is over"
        assert shown(visitor="v1") == ["cn", "every"]
        assert shown(customer="bob") == shown() == shown(site="us") == ["every"], "whose site isn't known"
        assert shown(customer="ann", site="cn") == ["cn", "every"], "the page knows better"
    at_kr = table.set_column(1, "site", pa.array(["kr", None, "kr", "kr"]))
    serving = made(tmp_path / "one", sites=np.array(["kr", "", ""]), search=model, exhibitions=at_kr)
    assert shown() == shown(site="KR") == shown(customer="ann") == ["cn", "every", "kr"], "there is one site only"
    serving = made(tmp_path / "two", sites=SITES, search=model, exhibitions=at_kr)
    assert shown() == shown(visitor="v1") == ["every"] != shown(customer="ann"), "some are at another"


def test_offers_of_two_sites_are_kept_apart(tmp_path: Path) -> None:
    everywhere, kr, cn = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1]], bool)
    listed = {"kr": Allowed(kr, kr), "cn": Allowed(cn, cn)}
    offers = collections(listed=listed, sites=SITES, sold=everywhere, in_stock=everywhere)
    serving = made(tmp_path, offers=offers)
    assert ids(ask(serving, "offer", customer="ann")) == ["tea", "autumn"]
    assert ids(ask(serving, "offer", visitor="v1")) == ["deals", "tea"]
    assert ids(ask(serving, "offer", customer="bob")) == ids(ask(serving, "offer", site="us")) == ["tea"]
    assert ids(ask(serving, "offer", customer="ann", site="cn")) == ["tea", "deals"]


def test_without_running_collections_there_is_no_offer(tmp_path: Path) -> None:
    found = ask(made(tmp_path), "offer", customer="ann")
    assert (found.items, found.fallback, found.because) == ((), None, "no_list"), "no products instead"


def test_who_is_erased_has_no_site_and_no_offers(tmp_path: Path) -> None:
    serving = made(tmp_path, listed=LISTED, sites=SITES, offers=collections())
    assert erase(tmp_path, ["ann"]) == 2, "her products, and her offers"
    again = Serving(Published.open(tmp_path / serving.published.version))
    assert ask(again, "offer", customer="ann").because == "no_list"
    assert not again.published.site(again.published.row(customer="ann"))


@pytest.mark.parametrize(
    "more", [{"listed": {"kr": Allowed(KR[:2], KR[:2])}}, {"sites": SITES[:1]}, {"listed": dict.fromkeys(range(65536))}]
)
def test_what_does_not_fit_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="site"):
        publish(tmp_path, artefacts(**more))
