"""Who serves: whoever was best on what customers bought next; nobody unproven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from controltower.errors import BadSettings
from controltower.models.recommend import cases as cases_module
from controltower.models.recommend import choose, ranker
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.recommend.base import Recommender
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.cases import CHOOSE, JUDGE, LEARN, Cases, collect, part_of
from controltower.models.recommend.interactions import ORDER, Interactions, from_arrays
from controltower.models.recommend.split import Split, split
from controltower.profiles.portable import DAY
from models.conftest import GROUPS, NOW, PER_GROUP, planted


def everything(data: Interactions) -> np.ndarray:
    return np.ones(len(data.product_ids), dtype=bool)


def test_taste_beats_popularity_where_there_is_taste() -> None:
    data = planted(customers=600)
    repeat, new, *_ = choose.train(data, everything(data))
    assert (repeat.name, new.name) == (choose.REPEAT, choose.NEW)
    assert new.published and new.metrics["ndcg@10"] > new.baseline_metrics["ndcg@10"]
    assert new.model.name != "popularity"
    assert repeat.details["repeat_helps"]


def test_who_judges_has_no_say_in_the_choice() -> None:
    """The judging half buys other things after the split: the same candidates are best, only the judgement differs."""
    data = planted(customers=600)
    found = split(data)
    assert found is not None
    judge = part_of(data.customer_ids) == JUDGE
    assert 80 < judge.sum() < 160
    other = (data.second >= found.start) & judge[data.customer]
    moved = replace(data, product=np.where(other, (data.product + 11) % len(data.product_ids), data.product))
    for before, after in zip(*(choose.train(d, everything(d))[:2] for d in (data, moved)), strict=True):
        assert after.details["by_group"] == before.details["by_group"]
        assert after.metrics["ndcg@10"] < before.metrics["ndcg@10"]
        assert after.rows["customers_choosing"] + after.rows["customers_judging"] <= 300


def test_only_who_serves_says_whether_repeats_help(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = choose._repeat_helps

    def listening(found: Split, before: Mapping[bool, Recommender], allowed: np.ndarray) -> bool:
        asked.extend(model.name for model in before.values())
        return real(found, before, allowed)

    monkeypatch.setattr(choose, "_repeat_helps", listening)
    few = planted(customers=25)  # a best candidate is found, but by too few customers for it to serve
    outcomes = choose.train(few, everything(few))[:2]
    assert all(o.details["by_group"] and not o.published for o in outcomes)
    assert asked == [o.model.name for o in outcomes] == ["own_count", "popularity"]


def test_noise_is_served_by_the_baseline() -> None:
    """Each customer buys drawn products once: where a candidate is no better than chance, popularity serves."""
    rng = np.random.default_rng(2)
    people, products = np.array([f"c{i:04}" for i in range(40)]), np.array([f"p{i}" for i in range(30)])
    data = from_arrays(
        people, products, rng.choice(people[:4], 40), rng.choice(products, 40), NOW - rng.integers(1, 99, 40) * DAY,
        np.full(40, ORDER), NOW,
    )  # fmt: skip
    _, new, *_ = choose.train(data, everything(data))
    assert not new.published
    assert isinstance(new.model, Popularity)
    assert "too few to choose and to judge" in new.why


def test_nothing_to_learn_from_still_serves(interactions: Interactions) -> None:
    empty = interactions.where(np.zeros(len(interactions), dtype=bool))
    for outcome in choose.train(empty, everything(empty)):
        assert not outcome.published
        assert outcome.window is None


def test_validation_sees_nothing_of_the_truth(interactions: Interactions) -> None:
    found = split(interactions)
    assert found is not None
    assert found.history.second.max() < found.start <= interactions.second.max()
    assert found.future.nnz <= (interactions.second >= found.start).sum()


def test_the_gain_of_known_lists() -> None:
    """NDCG@10 by hand: a hit at rank 1 of two wanted, one at rank 3 of one, none."""
    row, label = np.repeat([0, 1, 2], 3), np.array([1, 0, 1, 0, 0, 1, 0, 0, 0]) > 0
    score = np.tile([3.0, 2.0, 1.0], 3).astype(np.float32)[None, :]
    ideal = np.array([1 + 1 / np.log2(3), 1.0, 0.0])
    nobody = np.zeros(3), np.zeros(3), np.full(3, "")
    data = planted(customers=5)
    facts = ranker.Facts.of(data, np.zeros(data.shape[1]))
    pairs = ranker.Pairs(facts, np.full(3, -1), np.arange(3), row, np.tile([0, 1, 2], 3), score, label)
    cases = Cases(np.arange(3), *nobody, [], np.zeros((0, 3)), ideal, [pairs])
    wanted = [(1 + 1 / 2) / (1 + 1 / np.log2(3)), 1 / 2, 0.0]
    assert cases.gain_of(lambda x: x[:, 0], LEARN) == pytest.approx(wanted)


def test_a_members_gain_is_that_of_its_own_list() -> None:
    """The lists compared are the lists served: from the common candidates as from the algorithm alone."""
    data, k = planted(customers=300), 10
    found = split(data)
    assert found is not None
    members, _ = choose.fit_all(found.history)
    for task in choose.TASKS[:2]:
        repeat = task.repeat
        cases = collect(found, members, task, everything(data), 7)
        assert cases is not None
        truth = found.truth(repeat, everything(data))
        who = data.customer_ids[cases.customer]
        for name, model in members.items():
            ranking = model.recommend(found.history, who, k, repeat=repeat)
            hit = np.asarray(truth[cases.customer[ranking.customer], ranking.product]).ravel() > 0
            gain = np.bincount(ranking.customer[hit], 1 / np.log2(ranking.rank[hit] + 1), minlength=len(who))
            assert cases.gain[cases.names.index(name)] == pytest.approx(gain / cases.ideal), (name, repeat)


def test_how_many_are_asked_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it that LightGBM reads the features chunk by chunk: the ranker is the one that whole arrays give."""
    import lightgbm

    data = planted(customers=600)
    found = split(data)
    assert found is not None
    members = {name: kind().fit(found.history) for name, kind in list(choose.ALL.items())[:8]}
    monkeypatch.setattr(ranker, "MOST_PAIRS", 2000)
    made = []
    for together in (10_000, 37):
        monkeypatch.setattr(cases_module, "TOGETHER", together)
        cases = collect(found, members, choose.TASKS[0], everything(data), 7)
        assert cases is not None and len(cases.pairs) == -(-len(cases.customer) // together)
        made.append((cases, ranker.learn(cases.pairs, 7)["booster"]))
    (whole, one), (parts, other) = made
    assert (whole.gain == parts.gain).all() and (one == other).all()
    (pairs,) = whole.pairs
    row = pairs.case[pairs.row]
    keep = ranker._drawn(pairs.label, row, 7)
    assert 1000 < keep.sum() < 4000 < len(keep)
    matrix = lightgbm.Dataset(
        pairs.features()[keep], pairs.label[keep].astype(np.int32), group=np.unique(row[keep], return_counts=True)[1]
    )
    booster = lightgbm.train(ranker.PARAMETERS | {"seed": 7, "min_data_in_leaf": 5}, matrix, ranker.ROUNDS)
    assert booster.model_to_string().encode() == one.tobytes()


def test_the_ranker_serves_and_is_kept(tmp_path: Path) -> None:
    data = planted(customers=600)
    found = split(data)
    assert found is not None
    members, _ = choose.fit_all(found.history)
    cases = collect(found, members, choose.TASKS[0], everything(data), 7)
    assert cases is not None
    booster = ranker.learn(cases.pairs_of(LEARN, CHOOSE, JUDGE), 7)
    config = Blend.Config(members=tuple(members), cold="popularity", few=ranker.NAME, many=ranker.NAME)
    model = Blend.of(config, members, booster)
    model.save(tmp_path)
    asked = np.array([*data.customer_ids[:50], "nobody"])
    one, two = (m.recommend(data, asked, 5, repeat=True) for m in (model, Blend.load(tmp_path)))
    assert (one.product == two.product).all() and (one.score == two.score).all()
    assert set(one.algorithm[one.customer < 50]) == {ranker.NAME} and set(one.algorithm[one.customer == 50]) == {
        "popularity"
    }
    assert (one.product[one.rank == 1] // PER_GROUP == one.customer[one.rank == 1] % GROUPS)[:50].mean() > 0.9


def test_without_lightgbm_the_fusion_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted(customers=600)
    monkeypatch.setattr(ranker, "missing", lambda: "libgomp.so.1 isn't there")
    _, new, *_ = choose.train(data, everything(data))
    assert new.published and new.model.name != "popularity"
    assert ranker.NAME not in {row["algorithm"] for row in new.details["leaderboard"]}
    assert new.details["not_tried"][ranker.NAME] == "libgomp.so.1 isn't there"
    with pytest.raises(BadSettings, match="train again"):
        ranker.predictor({})


def test_a_large_catalogue_and_a_spent_budget_leave_algorithms_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted(customers=60)
    for name in ("ease", "content"):
        monkeypatch.setattr(choose.MEMBERS[name], "most_products", 5)
    monkeypatch.setattr(choose, "BUDGET", 0.0)
    fitted, skipped = choose.fit_all(data)
    assert {"own_count", "popularity"} <= set(fitted)
    assert skipped["ease"] == "24 products, it takes 5 at most"
    assert "content" in fitted and "as a baseline it says nothing" in skipped["content"]
    assert skipped["als"] == "the budget of 0 CPU-seconds was spent"
