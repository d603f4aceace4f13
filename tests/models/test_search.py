"""Search and content over a small shop whose right answers are plain to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from controltower.data.contract import CONTRACT
from controltower.models.recommend.algorithms.content import Content
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import CART, ORDER, VIEW, Interactions, from_arrays
from controltower.models.recommend.inverted import Index, blended
from controltower.models.recommend.question import Question
from controltower.models.recommend.search import Search
from controltower.models.recommend.searches import (
    ASKED,
    Collections,
    Searches,
    read_collections,
    read_searches,
    searches_from,
)
from controltower.models.recommend.text import clean, key, keys, words
from controltower.profiles.portable import DAY
from models.conftest import NOW

SHOP = [
    ("sony", "소니 무선 이어폰 노이즈캔슬링", "가전 > 음향 > 이어폰", "소니", 329_000),
    ("buds", "삼성 갤럭시 버즈 무선이어폰", "가전 > 음향 > 이어폰", "삼성", 249_000),
    ("qcy", "QCY 블루투스 이어폰", "가전 > 음향 > 이어폰", "QCY", 29_000),
    ("case", "이어폰 실리콘 케이스 투명", "가전 > 음향 > 액세서리", "링케", 9_900),
    ("vacuum", "LG 무선 청소기 코드제로", "가전 > 청소기", "LG", 899_000),
    ("robot", "로봇청소기 물걸레 자동", "가전 > 청소기", "로보락", 599_000),
    ("padding", "여성 겨울 롱패딩 구스다운", "패션 > 여성 > 아우터", "노스페이스", 299_000),
    ("vest", "남성 경량 패딩 조끼", "패션 > 남성 > 아우터", "유니클로", 49_000),
    ("toast", "우유 식빵 대용량", "식품 > 베이커리", "파리바게뜨", 3_900),
    ("coffee", "콜드브루 원두 커피 1kg", "식품 > 커피", "스타벅스", 28_000),
    ("machine", "커피 머신 전자동 에스프레소", "가전 > 주방", "드롱기", 690_000),
    ("airpods", "Apple AirPods Pro 2 wireless earbuds", "Electronics > Audio > Earbuds", "Apple", 359_000),
    ("over-ear", "Noise cancelling headphones over-ear", "Electronics > Audio > Headphones", "Bose", 429_000),
    ("bottle", "Stainless steel water bottle 1L", "Kitchen > Bottles", "Hydro", 32_000),
    ("mug", "Vintage ceramic coffee mug", "Kitchen > Mugs", "Denby", 22_000),
    ("keyboard", "Mechanical keyboard RGB hot swap", "Electronics > Keyboards", "Keychron", 139_000),
    ("tea", "烏龍茶 高山茶葉", "食品 > 茶", "天仁", 18_000),
]
NAMES = [name for name, *_ in SHOP]
AT = int(NOW)


def catalogue(name: Callable[[str], str] = str) -> Catalogue:
    rows = sorted((name(row[0]), *row[1:]) for row in SHOP)
    ids, title, category, brand, price = zip(*rows, strict=True)
    texts = (np.array(column, dtype=object) for column in (title, category, brand))
    nothing = np.full(len(rows), np.nan), np.full(len(rows), np.datetime64("NaT"), "datetime64[us]")
    return Catalogue(np.array(ids), *texts, np.array(price, float), *nothing)


def searches(*done: tuple[str, int, str | None], kind: int = VIEW, name: Callable[[str], str] = str) -> Searches:
    """For each (query, how many people, what they chose) as many entries of different people, and their asking."""
    rows = [(q, f"{q}{i}", p and name(p), kind if p else ASKED) for q, n, p in done for i in range(n)]
    rows += [(q, who, None, ASKED) for q, who, p, _ in rows if p]
    queries, people, products, kinds = zip(*rows, strict=True) if rows else ((), (), (), ())
    return searches_from(queries, people, products, np.array(kinds, int), np.full(len(rows), AT - DAY), AT)


EXHIBITIONS = Collections(
    np.array(["c-coffee", "c-winter"]),
    np.array(["Coffee lovers week", "겨울 아우터 기획전"], dtype=object),
    np.array([0, 0, 0, 1, 1, 1]),
    np.array(["coffee", "machine", "mug", "padding", "vest", "gone"]),
)
POPULARITY = np.array([1.0 if name == "toast" else 0.5 if name == "mug" else 0.0 for name in sorted(NAMES)])


def model(*done: tuple[str, int, str | None], kind: int = VIEW) -> Search:
    return Search().fit(catalogue(), searches(*done, kind=kind), EXHIBITIONS, POPULARITY)


def matches(
    found: Search, query: str | Question, k: int = 5, allowed: np.ndarray | None = None
) -> tuple[list[str], list[str]]:
    """The products and why, the best first. allowed: mask over the products (None: all)."""
    asked = found.question(query) if isinstance(query, str) else query
    product, code = found.matches(asked, k, np.ones(len(found.product_ids), bool) if allowed is None else allowed)
    return found.product_ids[product].tolist(), code.tolist()


def answers(found: Search, query: str, k: int = 5) -> list[str]:
    return matches(found, query, k)[0]


def scores(found: Search, query: str | Question, k: int = 5) -> np.ndarray:
    asked = found.question(query) if isinstance(query, str) else query
    return found._matches(asked, k, np.ones(len(found.product_ids), bool), by_popularity=True)[1]


@pytest.fixture(scope="module")
def fresh() -> Search:
    return model()


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("무선 이어폰", {"sony", "buds"}),
        ("무선이어폰", {"sony", "buds"}),
        ("무선이어픈", {"sony", "buds"}),
        ("antjs dldjvhs", {"sony", "buds"}),  # typed with the keyboard in English
        ("ㅏ됴ㅠㅐㅁㄱㅇ", {"keyboard"}),  # and "keyboard" with it in Korean
        ("식방", {"toast"}),
        ("빵", {"toast"}),
        ("earbds", {"airpods"}),
        ("haedphones", {"over-ear"}),
        ("waterbottle", {"bottle"}),
        ("ＡｉｒＰｏｄｓ", {"airpods"}),
        ("烏龍", {"tea"}),
        ("삼성", {"buds"}),
    ],
)
def test_spacing_spelling_and_keyboards(fresh: Search, query: str, first: set[str]) -> None:
    assert set(answers(fresh, query)[: len(first)]) == first


def test_keys_are_those_of_a_korean_keyboard() -> None:
    assert (keys("무선"), keys("빵"), keys("값"), keys(clean("ㅑㅔ", 9))) == ("antjs", "Qkd", "rkqt", "ip")
    assert key("무선 이어폰") == key("무선이어폰") == key("antjs-dldjvhs")
    assert words(clean("Café 갤럭시S24", 80)) == ["cafe", "갤럭시", "s24"]


def test_a_known_query_prefers_what_people_chose() -> None:
    assert answers(model(), "이어폰")[0] != "buds"
    learned = model(("이어폰", 30, "buds"), ("이어폰", 3, "qcy"))
    products, codes = matches(learned, "이어폰", 3)
    assert (products[:2], codes[0]) == (["buds", "qcy"], "query_clicks")


def test_what_people_chose_needs_no_word_in_common() -> None:
    learned = model(("에어팟", 20, "airpods"))
    assert answers(learned, "에어팟") == ["airpods"]
    assert matches(learned, "에어팟 프로", 1) == (["airpods"], ["alike_clicks"]), "a query like it lends its clicks"


def test_lent_clicks_do_not_drown_own_ones() -> None:
    learned = model(
        ("블루투스 이어폰", 500, "case"),
        ("노이즈캔슬링 블루투스 이어폰", 8, "qcy"),
        ("노이즈캔슬링 블루투스 이어폰", 2, "case"),
    )
    assert answers(learned, "블루투스 이어폰")[0] == "case"
    assert answers(learned, "노이즈캔슬링 블루투스 이어폰")[0] == "qcy"


def test_one_click_decides_nothing_and_an_order_counts_more() -> None:
    assert answers(model(("무선 청소기", 1, "robot")), "무선 청소기")[0] == "vacuum"
    viewed, ordered = (scores(model(("커피", 12, "mug"), kind=kind), "커피", 1) for kind in (VIEW, ORDER))
    assert ordered[0] > viewed[0]


def test_each_person_counts_once() -> None:
    rows = ["이어폰"] * 500
    bot = searches_from(rows, ["bot"] * 500, ["case"] * 500, np.full(500, VIEW), np.full(500, AT), AT)
    many, once = Search().fit(catalogue(), bot, EXHIBITIONS, POPULARITY), model(("이어폰", 1, "case"))
    assert answers(many, "이어폰", 4) == answers(once, "이어폰", 4)
    assert scores(many, "이어폰", 4) == pytest.approx(scores(once, "이어폰", 4), abs=0.01)


@pytest.mark.parametrize(("query", "why"), [("qzxkvq", "no_match"), ("", "no_query"), (" ?!\n", "no_query")])
def test_it_says_why_nothing_is_found(fresh: Search, query: str, why: str) -> None:
    assert (answers(fresh, query, 2), fresh.question(query).unanswered) == ([], why)


def test_filters_are_kept(fresh: Search) -> None:
    found = answers(fresh, "이어폰", 30)
    assert "sony" in found and len(set(found)) == len(found)
    others, codes = matches(fresh, "이어폰", 30, fresh.product_ids != "sony")
    assert others == [name for name in found if name != "sony"] and set(codes) == {"query_text"}
    assert matches(fresh, "이어폰", 3, np.zeros(len(SHOP), bool)) == ([], [])


def test_a_question_asked_once_gives_the_same_answers(fresh: Search) -> None:
    for typed in ("무선 이어폰", "antjs dldjvhs", "커피", "qzxkvq", ""):
        asked = fresh.question(typed)
        for k in (3, len(SHOP)):
            assert matches(fresh, typed, k) == matches(fresh, asked, k)
            assert (scores(fresh, typed, k) == scores(fresh, asked, k)).all()
        assert fresh.keywords(typed, 5) == fresh.keywords(asked, 5)
        assert fresh.exhibitions(typed, 2) == fresh.exhibitions(asked, 2)


def test_the_best_are_those_of_sorting_all() -> None:
    """However few products are looked at."""
    rng = np.random.default_rng(3)
    for trial in range(200):
        n, k = int(rng.integers(1, 2000)), int(rng.integers(1, 20))
        clicked = np.where(rng.random(n) < 0.1, rng.random(n), 0).astype(np.float32)
        trust, allowed = float(rng.random()) * (trial % 3 > 0), rng.random(n) < 0.8
        popular = (rng.integers(0, 4, n) * 0.02 * (trial % 2)).astype(np.float32)
        weight = rng.integers(0, 12, (3, n)) / 36  # products x terms: a rounding apart from the text
        text = weight.sum(axis=0).astype(np.float32)
        index, more = Index(sp.csr_matrix(weight.T)), float(popular.max()) / (1 - trust)
        chosen = np.flatnonzero(clicked).astype(np.int32)
        product, found = index.best(
            np.arange(3), np.ones(3), want=k, least=0.2, near=0.3, more=more, allowed=allowed, chosen=chosen
        )
        assert found == pytest.approx(text[product])
        at, score = blended(product, text[product], clicked[product], trust, popular, allowed, 0.2, 0.3, k)
        product = product[at]
        bound = max(np.float32(0.2), np.float32(0.3) * text[allowed].max(initial=0))
        all_of_them = ((1 - trust) * text + trust * clicked + popular).astype(np.float32)
        fits = np.flatnonzero(((text >= bound) | (clicked > 0)) & allowed)
        wanted = fits[np.lexsort((fits, -all_of_them[fits]))][:k]
        assert score == pytest.approx(all_of_them[wanted])
        assert len(set(product.tolist())) == len(wanted)


def test_of_too_many_products_the_most_popular_are_read(caplog: pytest.LogCaptureFixture) -> None:
    few = Search(Search.Config(most_products=2)).fit(
        catalogue(), searches(("coffee", 30, "machine")), EXHIBITIONS, POPULARITY
    )
    assert "search reads the texts of the 2 most popular of 17 products" in caplog.text
    assert answers(few, "식빵") == ["toast"] and answers(few, "ceramic mug") == ["mug"]
    assert answers(few, "이어폰") == [] and answers(few, "coffee")[0] == "machine", "clicks count for all"


def test_popularity_decides_among_equals() -> None:
    shop = catalogue()
    twins = np.isin(shop.product_ids, ["robot", "vacuum"])
    texts = {f: np.where(twins, "청소기", getattr(shop, f)) for f in ("title", "category", "brand")}
    for name in ("robot", "vacuum"):
        found = Search().fit(replace(shop, **texts), searches(), EXHIBITIONS, (shop.product_ids == name).astype(float))
        assert answers(found, "청소기")[0] == name


def test_what_few_asked_is_never_shown_to_others() -> None:
    learned = model(("무선 이어폰", 3, "sony"), ("무선 김철수 전화번호", 2, "sony"), ("무선 마우스", 9, None))
    assert [w.text for w in learned.keywords("무", 9)] == ["무선 이어폰"]
    assert [w.text for w in learned.keywords("", 9)] == ["무선 이어폰"]
    assert answers(learned, "무선 김철수 전화번호")[0] == "sony", "what was chosen still counts"
    kept = " ".join(str(v) for v in learned._state().values() if v.dtype.kind == "U")
    assert "무선 이어폰" in kept and "김철수" not in kept


def test_a_spelling_needs_three_people_of_its_own() -> None:
    learned = model(("무선 이어폰", 2, "sony"), ("무선이어폰", 2, "sony"))
    assert learned.keywords("무선", 5) == []
    usual = model(("무선 이어폰", 3, "sony"), ("무선이어폰", 4, "sony"))
    assert [w.text for w in usual.keywords("무선", 5)] == ["무선이어폰"]


def test_keywords_complete_and_relate() -> None:
    learned = model(
        ("무선 이어폰", 9, "sony"), ("무선 청소기", 5, "vacuum"), ("노이즈캔슬링", 7, "sony"), ("earbuds", 4, "airpods")
    )
    half = learned.keywords("무선 이엎", 5)  # 이어ㅍ, as it stands while 이어폰 is being typed
    assert [(w.text, w.code) for w in half[:1]] == [("무선 이어폰", "completes")]
    assert [w.text for w in learned.keywords("antjs", 2)] == ["무선 이어폰", "무선 청소기"]
    assert ("노이즈캔슬링", "related") in [(w.text, w.code) for w in learned.keywords("무선 이어폰", 5)]
    assert "무선 이어폰" not in [w.text for w in learned.keywords("무선이어폰", 5)]


def test_exhibitions_by_title_and_by_products(fresh: Search) -> None:
    def shown(query: str) -> list[tuple[str, str]]:
        return [(e.collection_id, str(e.code)) for e in fresh.exhibitions(query, 2)]

    assert shown("아우터")[0] == ("c-winter", "title")
    assert shown("패딩")[0] == ("c-winter", "products")
    assert shown("에스프레소")[0] == ("c-coffee", "products")
    assert shown("qzxkvq") == [("c-coffee", "popular"), ("c-winter", "popular")]
    coffee_runs = np.array([True, False])
    assert [(e.collection_id, str(e.code)) for e in fresh.exhibitions("패딩", 2, allowed=coffee_runs)] == [
        ("c-coffee", "popular")
    ], "what matches doesn't run"


@pytest.mark.parametrize(
    "query",
    [
        "'; DROP TABLE events; --", "<script>alert(1)</script>", "{{ customer.email }}", "%s%s%n", "a" * 1_000_000,
        "무" * 100_000, "\ufdfa" * 10_000, "\x00\x07\u202e이어폰", "\ud800", "👩‍👧", "a\u0300" * 5_000, "..." * 9_999,
    ],
    ids=range(12),
)  # fmt: skip
def test_any_text_is_only_text(fresh: Search, query: str) -> None:
    text = fresh.question(query).text
    assert len(text) <= 80 and text.isprintable()
    assert len(answers(fresh, query, 4)) <= 4
    fresh.keywords(query, 3)
    fresh.exhibitions(query, 3)


def test_hidden_characters_do_not_hide_words(fresh: Search) -> None:
    assert answers(fresh, "무\u200b선\n이어\u202e폰") == answers(fresh, "무선 이어폰")


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    learned = model(("이어폰", 30, "buds"), ("무선 이어폰", 4, "sony"))
    learned.save(tmp_path)
    again = Search.load(tmp_path)
    for query in ("이어폰", "무선이어폰", "earbds", "zzz"):
        assert matches(learned, query, 6) == matches(again, query, 6)
        assert (scores(learned, query, 6) == scores(again, query, 6)).all()
        assert learned.keywords(query, 4) == again.keywords(query, 4)
        assert learned.exhibitions(query, 2) == again.exhibitions(query, 2)


def test_ids_mean_nothing() -> None:
    names = dict(zip(NAMES, np.random.default_rng(5).permutation([f"x{i:02}" for i in range(len(NAMES))]), strict=True))
    done = ("이어폰", 30, "buds"), ("이어폰", 4, "qcy")
    plain = Search().fit(catalogue(), searches(*done), EXHIBITIONS)
    renamed = Search().fit(catalogue(names.__getitem__), searches(*done, name=names.__getitem__), EXHIBITIONS)
    for query in ("이어폰", "무선이어폰", "커피"):
        assert [names[i] for i in answers(plain, query, 3)] == answers(renamed, query, 3)
        assert scores(plain, query, 3) == pytest.approx(scores(renamed, query, 3))


def test_an_empty_shop_and_no_searches() -> None:
    nobody = Search().fit(catalogue(), searches(), Collections(*(np.array([], dtype=t) for t in "UOlU")))
    assert answers(nobody, "무선이어폰")[0] in {"buds", "sony"}
    assert (nobody.keywords("무선", 3), nobody.exhibitions("무선", 3)) == ([], [])
    empty = Catalogue(*(getattr(catalogue(), f)[:0] for f in Catalogue.__dataclass_fields__))
    bare = Search().fit(empty, searches(("a", 3, "gone")), EXHIBITIONS)
    assert answers(bare, "a", 3) == answers(bare, "", 3) == []


# What follows a search


def at(minute: float) -> datetime:
    return datetime.fromtimestamp(AT + minute * 60, UTC)


def event(name: str, minute: float, **columns: object) -> dict[str, object]:
    made = {"event_id": f"{name}{minute}{columns}", "event_name": name, "occurred_at": at(minute), "customer_id": "ann"}
    return made | {"received_at": at(minute), "session_id": "s"} | columns


def tables(
    events: list[dict[str, object]], lines: list[dict[str, object]] | None = None
) -> Callable[[str], ibis.Table]:
    rows = {"events": events, "order_lines": lines or []}
    return lambda name: ibis.memtable(pa.Table.from_pylist(rows.get(name, []), schema=CONTRACT[name].schema))


def seen(found: Searches) -> list[tuple[str, str, int]]:
    return sorted(
        (str(found.texts[q]), str(found.product_ids[p]), int(k))
        for q, p, k in zip(found.query, found.product, found.kind, strict=True)
        if p >= 0
    )


def test_what_follows_a_search_until_the_next_one() -> None:
    events = [
        event("view_item", -5, product_id="before"),
        event("search", 0, query="이어폰"),
        event("view_item", 1, product_id="sony"),
        event("add_to_cart", 2, product_id="sony"),
        event("view_item", 2, product_id="other", session_id="t"),
        event("view_item", 2, product_id="theirs", customer_id="bob"),
        event("search", 3, query="커피"),
        event("view_item", 4, product_id="mug"),
        event("purchase", 5, order_id="o1"),
        event("view_item", 40, product_id="late"),
        event("search", 50, query="머그", customer_id=None, visitor_id="v1", session_id=None),
        event("select_item", 51, product_id="mug", customer_id=None, visitor_id="v1", session_id=None),
        event("search", 60, query="later"),
    ]
    line = {"order_id": "o1", "line_no": 1, "product_id": "coffee", "quantity": 1.0, "unit_price": None}
    found = read_searches(tables(events, [line, line | {"line_no": 2, "product_id": "x", "quantity": -1.0}]), at(59))
    assert seen(found) == [
        ("머그", "mug", VIEW),
        ("이어폰", "sony", CART),
        ("커피", "coffee", ORDER),
        ("커피", "mug", VIEW),
    ]
    asked = sorted(str(found.texts[q]) for q in found.query[found.kind == ASKED])
    assert asked == ["머그", "이어폰", "커피"]
    assert found.until == AT + 59 * 60
    assert "ann" not in str(found)


def test_no_events_and_no_collections() -> None:
    assert len(read_searches(tables([]), at(0)).query) == 0
    assert len(read_collections(tables([]), at(0)).collection_ids) == 0


def test_searches_that_nobody_went_on_from() -> None:
    """Not one product was chosen after any: the text alone finds."""
    assert matches(model(("mug", 5, None), ("커피", 4, None)), "mug", 1) == (["mug"], ["query_text"])


def test_collections_that_run() -> None:
    rows = [("now", at(-9), at(9)), ("always", None, None), ("over", at(-9), at(-1)), ("soon", at(1), None)]
    named = [{"collection_id": c, "title": c, "starts_at": s, "ends_at": e} for c, s, e in rows]
    pairs = [{"collection_id": c, "product_id": "mug"} for c in ("now", "over")]
    by_name = {"collections": named, "collection_products": pairs}

    def read(name: str) -> ibis.expr.types.Table:
        return ibis.memtable(pa.Table.from_pylist(by_name[name], schema=CONTRACT[name].schema))

    found = read_collections(read, at(0))
    assert found.collection_ids.tolist() == ["always", "now"]
    assert (found.collection.tolist(), found.product_ids.tolist()) == ([1], ["mug"])
    assert read_collections(read, at(0), at(1) - at(0)).collection_ids.tolist() == ["always", "now", "soon"]


# Content


def bought(name: str | None, text: Catalogue | None) -> Interactions:
    people = np.array(["ann"])
    who, what = (people, np.array([name])) if name else (people[:0], people[:0])
    made = from_arrays(people, catalogue().product_ids, who, what, np.full(len(who), AT), np.zeros(len(who), int), AT)
    return replace(made, catalogue=text)


@pytest.mark.parametrize(
    ("own", "like"), [("sony", "buds"), ("vacuum", "robot"), ("padding", "vest"), ("buds", "sony")]
)
def test_new_products_are_found_by_what_is_written(own: str, like: str) -> None:
    fitted = Content().fit(bought(None, catalogue()))
    ranking = fitted.recommend(bought(own, None), np.array(["ann"]), 1, repeat=False)
    assert (fitted.product_ids[ranking.product].tolist(), ranking.part.tolist()) == ([like], ["content"])


def test_content_says_nothing_without_text() -> None:
    assert Content().fit(bought("sony", None)).similarity.nnz == 0
    blank = replace(catalogue(), **{f: np.full(len(SHOP), "", object) for f in ("title", "category", "brand")})
    assert Content().fit(bought("sony", blank)).similarity.nnz == 0


def test_nearer_prices_are_more_alike() -> None:
    def like(price: float) -> float:
        prices = np.where(catalogue().product_ids == "buds", price, catalogue().price)
        fitted = Content().fit(bought(None, replace(catalogue(), price=prices)))
        ids = fitted.product_ids.tolist()
        return float(fitted.similarity[ids.index("sony"), ids.index("buds")])

    assert like(329_000) > like(100_000) > like(10_000) > 0
    assert like(np.nan) == pytest.approx(like(329_000))
