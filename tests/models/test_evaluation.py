"""What is told of past lists: figures by hand, and nothing of the future in what is trained or shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
from controltower.models.recommend import algorithms, choose, evaluation, ranker
from controltower.models.recommend.base import Scorer
from controltower.models.recommend.cases import collect
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.evaluation import SERVED, Evaluation, Traits, evaluate, measure, window
from controltower.models.recommend.interactions import ORDER, VIEW, Interactions, from_arrays
from controltower.models.recommend.scores import Scores, Sparse
from controltower.models.recommend.tasks import NEW, REPEAT
from controltower.profiles.portable import DAY
from models.conftest import NOW, planted, two_sites

DAYS = 28
OF_LISTS = ("coverage", "novelty", "diversity", "popularity", "cold_share")
DRAWN = {"als", "bpr"}  # they start from random vectors by position, so other positions give other ones


def entries(*rows: tuple[str, str, int], until: int = 10, kind: int = ORDER) -> Interactions:
    """(customer, product, day) as interactions."""
    who, what, day = (np.array(column) for column in zip(*rows, strict=True))
    return from_arrays(np.unique(who), np.unique(what), who, what, day * DAY, np.full(len(rows), kind), until * DAY)


def until(data: Interactions, days: int = DAYS) -> Interactions:
    cut = data.until - days * DAY
    return data.where(data.second <= cut, until=cut)


def evaluated(data: Interactions) -> Evaluation:
    return evaluate(until(data), data, np.ones(len(data.product_ids), dtype=bool))


def figures(made: Evaluation, *names: str, task: str = REPEAT, group: str = "all") -> dict[str, dict[str, Any]]:
    """By algorithm, the figures of a task's group (all if none is named)."""
    rows = [row for row in made.rows if (row["task"], row["group"]) == (task, group)]
    return {row["algorithm"]: {n: row[n] for n in names or row} for row in rows}


# by hand


def test_accuracy_by_hand() -> None:
    """One hit at rank 2 of two taken; hits at ranks 1 and 3 of one and another; none, in a list of one."""
    past = entries(("a", "p", 1), ("a", "q", 1), ("b", "q", 2), ("b", "r", 2), ("c", "s", 3))
    p, q, r, s = range(4)
    shown = np.array([[p, q, r], [q, r, s], [s, -1, -1]])
    shown = np.hstack([shown, np.full((3, 7), -1)])
    truth = sp.csr_matrix(np.array([[0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]], dtype=np.float32))
    found = measure(shown, truth, Traits.of(past, np.ones(4, dtype=bool)))
    ideal = 1 + 1 / np.log2(3)
    assert found["ndcg@10"] == pytest.approx([1 / np.log2(3) / ideal, (1 + 1 / 2) / ideal, 0])
    assert found["recall@10"] == pytest.approx([1 / 2, 1, 0])
    assert found["mrr@10"] == pytest.approx([1 / 2, 1, 0])


def test_the_kind_of_lists_by_hand() -> None:
    """Three buyers: p sold 6 times to one of them, q to two, r to one, s never; t may not be shown."""
    days = [("a", "p", day) for day in range(1, 7)]
    past = entries(*days, ("a", "q", 1), ("b", "q", 2), ("c", "r", 2), ("c", "t", 3))
    past = replace(
        past, product_ids=np.array(["p", "q", "r", "s", "t"]), product=np.where(past.product == 3, 4, past.product)
    )
    allowed = np.array([True, True, True, True, False])
    traits = Traits.of(past, allowed)
    assert traits.novelty[:4] == pytest.approx(-np.log2([2 / 4, 3 / 4, 2 / 4, 1 / 4]))
    assert traits.popularity[:4] == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4]), "by orders: p 6, q 2, r 1, s 0"
    shown = np.full((2, 10), -1)
    shown[0, :3], shown[1, :1] = [0, 1, 2], [0]
    found = measure(shown, sp.csr_matrix(np.array([[0, 0, 0, 1, 0], [1, 1, 0, 0, 0]], dtype=np.float32)), traits)
    assert found["novelty"] == pytest.approx([(1 - np.log2(3 / 4) + 1) / 3, 1])
    assert found["popularity"] == pytest.approx([3 / 4, 1])
    assert found["popularity_bias"] == pytest.approx([3 / 4 - 1 / 4, 1 - 7 / 8])
    assert found["cold_share"] == pytest.approx([2 / 3, 0]), "p alone has five orders"
    assert traits.features_of == "customers in common"
    alike = 1 / np.sqrt(2)  # p and q by a; r has nobody in common with them
    assert found["diversity"] == pytest.approx([1 - alike / 3, np.nan], nan_ok=True)
    assert evaluation.coverage(shown, allowed) == 3 / 4


def test_diversity_by_the_catalogue() -> None:
    past = entries(("a", "p", 1), ("a", "q", 1), ("a", "r", 1))
    words = [np.array(column, dtype=object) for column in (["", "", ""], ["tea > green", "tea > black", "cups"])]
    nothing = np.full(3, np.nan)
    catalogue = Catalogue(
        past.product_ids, words[0], words[1], np.array(["x", "x", ""], dtype=object), nothing, nothing,
        np.full(3, np.datetime64("NaT"), dtype="datetime64[us]"),
    )  # fmt: skip
    traits = Traits.of(replace(past, catalogue=catalogue), np.ones(3, dtype=bool))
    shown = np.full((2, 10), -1)
    shown[0, :2], shown[1, :2] = [0, 1], [0, 2]
    assert traits.features_of == "category and brand"
    found = evaluation.diversity(shown, traits.features, np.arange(2))
    assert found == pytest.approx([1 - 2 / 3, 1]), "tea and x of three words in common; nothing"
    assert np.isnan(evaluation.diversity(shown, traits.features, np.array([1]))[0])


def test_the_interval_is_over_customers() -> None:
    values = np.array([0.0, 1.0, 0.5, 0.25])
    own = evaluation.interval(values, np.arange(4))
    assert own == pytest.approx(1.96 * values.std(ddof=1) / 2)
    twice = evaluation.interval(np.repeat(values, 2), np.repeat(np.arange(4), 2))
    assert twice == pytest.approx(own), "a customer's second case of the same kind tells nothing new"
    assert evaluation.interval(values, np.zeros(4)) is None


def test_the_window_holds_what_was_known_then_and_what_was_done_since() -> None:
    past = entries(("a", "p", 1), ("b", "q", 2), until=5)
    later = entries(("a", "p", 1), ("a", "q", 3), ("a", "q", 6), ("c", "p", 7), ("c", "new", 7), until=9)
    everything, found = window(past, later)
    assert found.history.customer_ids.tolist() == ["a", "b", "c"] and found.history.product_ids.tolist() == ["p", "q"]
    assert (found.history.customer.tolist(), found.history.product.tolist()) == ([0, 1], [0, 1])
    assert found.future.toarray().tolist() == [[0, 1], [0, 0], [1, 0]], "what was told late of before isn't the future"
    assert (everything.second // DAY).tolist() == [1, 6, 2, 7]
    assert found.start == past.until + 1


def test_regret_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ENOUGH", 3)
    truth = sp.csr_matrix(np.ones((4, 1), dtype=np.float32))
    told = np.array([1, 1, 1, 2]), np.array(["", "cn", "cn", "kr"])
    lists = evaluation.Lists(None, np.arange(4), np.arange(4), *told, truth, {})  # type: ignore[arg-type]
    gains = {"one": [1.0, 0.5, 0.0, 0.0], "other": [0.5, 0.5, 0.25, 0.0], SERVED: [1.0, 0.5, 0.0, 0.0]}
    measured = {name: {"ndcg@10": np.array(gain)} for name, gain in gains.items()}
    chosen = {site: {"all": "blend", "few": "one", "many": "other"} for site in ("", "cn", "kr")}
    found = {row["group"]: row for row in evaluation.regret(lists, measured, chosen)}
    assert found.keys() == {"all", "few"}, "many has one case only"
    assert (found["few"]["best"], found["few"]["relative"], found["few"]["ok"]) == ("one", 1.0, True)
    measured[SERVED]["ndcg@10"] = np.array([0.9, 0.5, 0.0, 0.0])
    found = {row["group"]: row for row in evaluation.regret(lists, measured, chosen)}
    assert (found["few"]["relative"], found["few"]["ok"]) == (round(1.4 / 1.5, 4), False)
    assert found["few"]["low"] < found["few"]["relative"] < found["few"]["high"]
    monkeypatch.setattr(evaluation, "ENOUGH", 2)
    found = {(row["site"], row["group"]): row for row in evaluation.regret(lists, measured, chosen)}
    assert found.keys() == {("", "all"), ("", "few"), ("cn", "all"), ("cn", "few")}
    assert found["cn", "few"]["ndcg@10"] == 0.25 and found["cn", "few"]["best_ndcg@10"] == 0.375
    one_site = replace(lists, site=np.array(["", "cn", "cn", "cn"]))
    assert {row["site"] for row in evaluation.regret(one_site, measured, chosen)} == {""}


def test_sites_stay_with_their_customers_and_are_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ENOUGH", 100)
    monkeypatch.setattr(ranker, "missing", lambda: "not here")
    few = {
        name: kind for name, kind in algorithms.ALL.items() if name in {"segment_popularity", "markov", *choose.NEEDED}
    }
    for module in (choose, evaluation):
        monkeypatch.setattr(module, "ALL", few)
    data = two_sites(per_site=2000)
    later = data.second > data.until - DAYS * DAY
    past = until(data.where((data.customer >= 10) | later))
    keep = np.unique(past.customer)
    past = replace(
        past, customer_ids=past.customer_ids[keep], customer=np.searchsorted(keep, past.customer),
        segments=past.segments[keep], _matrices={},
    )  # fmt: skip
    history = window(past, data)[1].history
    site = dict(zip(data.customer_ids, data.segments[:, 0], strict=True))
    told = dict(zip(history.customer_ids, history.segments[:, 0], strict=True))
    assert {told.pop(c) for c in set(told) - set(past.customer_ids)} == {""}, "who came later had told nothing"
    assert told == {c: site[c] for c in told}
    made = evaluate(past, data, np.ones(len(data.product_ids), dtype=bool))
    rows = {(row["site"], row["group"]): row for row in made.regret if row["task"] == REPEAT}
    assert rows.keys() >= {("", "many"), ("cn", "many"), ("kr", "many")}
    assert rows["", "many"]["chosen"] == "blend" and rows["cn", "many"]["chosen"] != rows["kr", "many"]["chosen"]
    assert all(rows[site, "many"]["ok"] for site in ("", "cn", "kr")), rows


# against the training's own validation


def test_a_figure_is_that_of_the_validation() -> None:
    """NDCG@10 of each algorithm on the same split, as `collect` has it."""
    data = planted(customers=300)
    found = window(until(data), data)[1]
    allowed = np.ones(len(data.product_ids), dtype=bool)
    members, _ = choose.fit_all(found.history)
    task = next(t for t in evaluation.TASKS if t.name == NEW)
    cases = collect(found, members, task, allowed, 7)
    lists = evaluation.lists_of(task, found, members, members["popularity"], allowed, 7)
    assert cases and lists and (lists.rows == cases.customer).all()
    traits = Traits.of(found.history, allowed)
    for name, gain in zip(cases.names, cases.gain, strict=True):
        assert measure(lists.products[name], lists.truth, traits)["ndcg@10"] == pytest.approx(gain), name
    assert (lists.products[SERVED] == lists.products["popularity"]).all()


def test_more_cases_than_enough_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted()
    whole = evaluated(data)
    monkeypatch.setattr(evaluation, "MOST_CASES", 30)
    assert whole.tasks[REPEAT]["cases"] > 60 and evaluated(data).tasks[REPEAT]["cases"] == 30


def test_a_newcomer_is_a_cold_case() -> None:
    data = planted()
    new = data.customer % 4 == 0
    fresh = data.where(~new | (data.second > data.until - DAYS * DAY))
    made = evaluated(fresh)
    cold = figures(made, group="cold")
    assert 0.2 < made.tasks[REPEAT]["cold_customers"] < 0.3
    assert cold[SERVED]["cases"] == round(made.tasks[REPEAT]["cold_customers"] * made.tasks[REPEAT]["cases"])


def test_questions_of_views_and_baskets_are_asked_too() -> None:
    """Each customer views and buys of one taste: baskets of two, and views before and after the split."""
    data = planted(customers=300)
    views = replace(data, kind=np.full(len(data), VIEW), second=data.second - DAY)
    both = {n: np.concatenate([getattr(data, n), getattr(views, n)]) for n in ("customer", "product", "second", "kind")}
    both["second"] = np.where(both["kind"] == ORDER, both["second"] // (14 * DAY) * 14 * DAY, both["second"])
    everything = from_arrays(
        data.customer_ids, data.product_ids, data.customer_ids[both["customer"]], data.product_ids[both["product"]],
        both["second"], both["kind"], NOW,
    )  # fmt: skip
    made = evaluated(everything)
    asked = {name for name, about in made.tasks.items() if about["cases"]}
    assert asked >= {REPEAT, NEW, "recommend_viewed", "recommend_together", "recommend_cart"}
    for task in asked:
        assert figures(made, task=task).keys() >= {"fusion", SERVED}


# nothing leaks


@pytest.fixture(scope="module")
def told() -> tuple[Interactions, Evaluation]:
    data = planted(customers=300)
    return data, evaluated(data)


def test_permuted_rows_give_the_same_figures(told: tuple[Interactions, Evaluation]) -> None:
    data, before = told
    order = np.random.default_rng(3).permutation(len(data))
    shuffled = from_arrays(
        data.customer_ids, data.product_ids, data.customer_ids[data.customer[order]],
        data.product_ids[data.product[order]], data.second[order], data.kind[order], data.until,
    )  # fmt: skip
    assert evaluated(shuffled) == before


def test_permuted_ids_give_the_same_figures(told: tuple[Interactions, Evaluation]) -> None:
    """But for ties and draws, which go by position: .02 of NDCG@10; .05 where all starts from drawn vectors or other
    customers choose."""
    _, before = told
    after = evaluated(planted(customers=300, rename=np.random.default_rng(4)))
    for task in (REPEAT, NEW):
        old, new = (figures(made, "ndcg@10", "recall@10", "cases", task=task) for made in (before, after))
        assert old.keys() == new.keys()
        for name in old:
            assert new[name]["cases"] == old[name]["cases"]
            most = 0.05 if name in {SERVED, *DRAWN} else 0.02
            assert new[name]["ndcg@10"] == pytest.approx(old[name]["ndcg@10"], abs=most), (task, name)
            assert new[name]["recall@10"] == pytest.approx(old[name]["recall@10"], abs=most), (task, name)


def shuffled_future(data: Interactions) -> Interactions:
    """After the split the same customers buy as often, but each what another one did."""
    later = np.flatnonzero(data.second > data.until - DAYS * DAY)
    product = data.product.copy()
    product[later] = product[np.random.default_rng(5).permutation(later)]
    return replace(data, product=product, _matrices={})


def check_no_leak(evaluated: Callable[[Interactions], Evaluation], data: Interactions, before: Evaluation) -> None:
    """Where customers take something else, who is chosen and all lists stay; only how good they were differs."""
    after = evaluated(shuffled_future(data))
    old, new = (figures(made, "chosen", "cases", *OF_LISTS) for made in (before, after))
    assert new == old, "other lists are shown"
    assert {t: about["why"] for t, about in after.tasks.items()} == {
        t: about["why"] for t, about in before.tasks.items()
    }
    old, new = (figures(made, "ndcg@10") for made in (before, after))
    personal = old.keys() - {"popularity", "segment_popularity", "content"}
    assert all(new[name]["ndcg@10"] < 0.8 * old[name]["ndcg@10"] for name in personal)


def test_a_shuffled_future_changes_nothing(told: tuple[Interactions, Evaluation]) -> None:
    check_no_leak(evaluated, *told)


@dataclass
class Future:
    matrix: sp.csr_matrix


FUTURE = Future(sp.csr_matrix((0, 0)))


class Peeking(Scorer):
    """Knows what each customer will take."""

    name: ClassVar[str] = "peeking"

    def _fit(self, interactions: Interactions) -> None:
        pass

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        return Sparse(FUTURE.matrix[np.maximum(rows, 0)])


def test_the_leak_test_finds_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    def peeked(data: Interactions) -> Evaluation:
        FUTURE.matrix = window(until(data), data)[1].future
        return evaluated(data)

    for known in (algorithms.ALL, algorithms.MEMBERS):
        monkeypatch.setitem(known, "peeking", Peeking)
    data = planted(customers=300)
    before = peeked(data)
    assert figures(before)["peeking"]["ndcg@10"] == 1.0
    with pytest.raises(AssertionError, match="other lists are shown"):
        check_no_leak(peeked, data, before)
