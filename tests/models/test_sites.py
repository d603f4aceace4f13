"""Who serves a site: another algorithm than elsewhere, where that is clearly better there; else the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from controltower.models.recommend import choose, ranker
from controltower.models.recommend.algorithms import ALL
from controltower.models.recommend.blend import Blend
from controltower.models.recommend.cases import collect
from controltower.models.recommend.choose import Tried
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.split import split
from controltower.models.recommend.tasks import TASKS
from models.conftest import two_sites

FEW = ("own_count", "markov", "popularity")
FAST = (*FEW, "own_history", "tifu_knn", "next_item", "item_knn", "bm25", "session_knn")
AGAIN = {"own_count", "own_history", "tifu_knn", "fusion", "als"}  # where customers have little else, all find that


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few algorithms, for speed; no ranker, for it tells the two kinds of customers apart by itself."""
    monkeypatch.setattr(ranker, "missing", lambda: "not here")
    monkeypatch.setattr(choose, "ALL", {name: ALL[name] for name in (*sorted(choose.NEEDED), *FAST)})


def tried(data: Interactions, names: tuple[str, ...] = FEW) -> Tried:
    """The choice for `recommend_repeat` among some algorithms."""
    found = split(data)
    assert found is not None
    members = {name: ALL[name]().fit(found.history) for name in names}
    cases = collect(found, members, TASKS[0], np.ones(len(data.product_ids), dtype=bool), 7)
    assert cases is not None
    return choose._try(cases, TASKS[0])[0]


def test_each_site_gets_what_is_right_there_and_is_served_by_it(tmp_path: Path) -> None:
    data = two_sites()
    allowed = np.ones(len(data.product_ids), dtype=bool)
    found, alike = (choose.train(d, allowed)[0] for d in (data, replace(data, segments=None)))
    by_site = found.details["by_site"]
    assert by_site["kr"]["many"] == "markov" and by_site["cn"]["many"] in AGAIN
    assert alike.details["by_site"] == {}
    assert found.metrics["ndcg@10"] > alike.metrics["ndcg@10"] + 0.02
    model = found.model
    assert isinstance(model, Blend)
    model.save(tmp_path)
    ranking = Blend.load(tmp_path).recommend(data, data.customer_ids, 5, repeat=True)
    of_site = data.segments[ranking.customer, 0]  # type: ignore[index]
    for site in ("cn", "kr"):
        served = {**found.details["by_group"], **by_site.get(site, {})}
        assert set(ranking.algorithm[of_site == site]) <= set(served.values())
    board = found.details["leaderboard"]
    assert {row["site"] for row in board} == {"", "cn", "kr"}
    best = next(row for row in board if (row["site"], row["group"]) == ("kr", "many"))
    assert best["algorithm"] == by_site["kr"]["many"]


@pytest.mark.parametrize("kind", ["again", "next"])
def test_sites_that_are_alike_are_served_alike(kind: str) -> None:
    found = [tried(two_sites(seed, kinds=(kind, kind)), FAST) for seed in range(5)]
    assert sum(bool(t.by_site) for t in found) <= 1


def test_names_mean_nothing() -> None:
    """Other names of sites give the same figures; with other ids others choose, but the same."""
    before = tried(two_sites())
    assert set(before.by_site) <= {"cn", "kr"} and before.by_site
    other = {"cn": "west", "kr": "a", "": ""}
    after = tried(two_sites(names=("west", "a")))
    assert after.by_site == {other[site]: own for site, own in before.by_site.items()}
    assert (after.challenger, after.baseline) == (before.challenger, before.baseline)
    rows = [{**row, "site": other[str(row["site"])]} for row in before.leaderboard]
    assert sorted(map(str, after.leaderboard)) == sorted(map(str, rows))
    renamed = tried(two_sites(rename=np.random.default_rng(3)))
    for site, right in (("cn", AGAIN), ("kr", {"markov"})):
        for found in (before, renamed):
            assert {**found.by_group, **found.by_site.get(site, {})}["many"] in right
    assert renamed.challenger == pytest.approx(before.challenger, abs=0.05)


def test_one_site_changes_nothing() -> None:
    data = two_sites()
    assert data.segments is not None
    one, nowhere = data.segments.copy(), np.full_like(data.segments, "")
    one[:, 0] = np.where(one[:, 0] == "cn", "", "kr")
    alone, none = (tried(replace(data, segments=segments)) for segments in (one, None))
    assert alone == none == tried(replace(data, segments=nowhere))
    assert none.by_site == {} and {row["site"] for row in none.leaderboard} == {""}


def test_small_sites_and_those_beyond_the_largest_have_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    data = two_sites()
    before = tried(data)
    monkeypatch.setattr(choose, "MOST_SITES", 1)
    assert len(tried(data).by_site) <= 1 and {row["site"] for row in tried(data).leaderboard} in (
        {"", "cn"},
        {"", "kr"},
    )
    monkeypatch.setattr(choose, "MOST_SITES", 20)
    monkeypatch.setattr(choose, "FEWEST_OF_SITE", before.choosing + before.judging)
    assert tried(data).by_site == {} and {row["site"] for row in tried(data).leaderboard} == {""}


def test_who_ranks_whom(tmp_path: Path) -> None:
    data = two_sites(per_site=3, names=("cn", "tw"))
    members = {name: ALL[name]().fit(data) for name in FEW}
    by_site = {"tw": {"many": "markov"}, "kr": {"many": "fusion"}}
    config = Blend.Config(members=FEW, cold="popularity", few="own_count", many="own_count", by_site=by_site)
    model = Blend.of(config, members, {})
    rows = np.array([0, -1, 4, 3])
    assert model.who_ranks(data, rows).tolist() == ["own_count", "popularity", "markov", "markov"]
    assert (
        model.who_ranks(replace(data, segments=None), rows).tolist() == ["own_count", "popularity"] + ["own_count"] * 2
    )
    nobody = data.where(np.zeros(len(data), dtype=bool))
    nobody = replace(nobody, customer_ids=nobody.customer_ids[:0], segments=np.zeros((0, 2), "<U1"))
    assert model.who_ranks(nobody, np.array([-1, -1])).tolist() == ["popularity"] * 2
    model.save(tmp_path)
    old = json.loads((tmp_path / "config.json").read_text())
    del old["by_site"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert Blend.load(tmp_path).who_ranks(data, rows).tolist() == ["own_count", "popularity"] + ["own_count"] * 2
