"""Versions appear whole or not at all, are found by date, and are refused when they were changed."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import controltower
import pytest
from controltower.errors import BadSettings, NoData
from controltower.models.recommend.algorithms.own_history import OwnHistory
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.recommend.interactions import Interactions
from controltower.models.registry import Card, Registry, in_service
from controltower.settings import Settings
from models.conftest import planted
from support.shop_tables import T

KINDS = (Popularity, OwnHistory)


def card(name: str = "m", days: float = 0, serves: str = "popularity") -> Card:
    return Card(
        name=name, as_of=T + timedelta(days=days), trained_at=T, window=None, challenger="x", serves=serves,
        published=True, why="", metric="ndcg@10", metrics={}, baseline="y", baseline_metrics={}, rows={}, seed=7,
    )  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_the_newest_version_not_later_than_asked(registry: Registry, interactions: Interactions) -> None:
    model = Popularity().fit(interactions)
    stored = [registry.store(model, card(days=d)) for d in (0, 10, 5)]
    assert registry.load("m", T + timedelta(days=7), KINDS)[1].version == stored[2].version
    assert registry.load("m", T + timedelta(days=10), KINDS)[1].version == stored[1].version
    assert registry.load("m", None, KINDS)[1].version == stored[1].version
    assert "20260615T000000Z" in stored[0].version
    with pytest.raises(NoData, match="controltower train"):
        registry.load("m", T - timedelta(seconds=1), KINDS)
    with pytest.raises(NoData, match="no model other"):
        registry.card("other")


def test_training_again_gives_the_same_version_and_other_data_another(registry: Registry) -> None:
    first = registry.store(Popularity().fit(planted()), card())
    again = registry.store(Popularity().fit(planted()), card())
    assert first == again
    other = registry.store(Popularity().fit(planted(seed=2)), card())
    assert other.version != first.version
    assert registry.load("m", T, KINDS)[1].version == other.version
    assert len(list((registry.root / "m").glob("*/card.json"))) == 2


def test_the_same_files_with_another_judgement_are_another_version(
    registry: Registry, interactions: Interactions
) -> None:
    model = Popularity().fit(interactions)
    first = registry.store(model, card())
    assert registry.store(model, card().model_copy(update={"trained_at": T + timedelta(hours=1)})) == first
    other = registry.store(model, card().model_copy(update={"metrics": {"ndcg@10": 0.5}}))
    assert other.version != first.version
    assert registry.card("m").metrics == {"ndcg@10": 0.5}


def test_in_service_tells_the_metrics_of_what_is_stored(registry: Registry, interactions: Interactions) -> None:
    home = Settings(home=registry.root.parent)
    assert in_service(home) == {}
    figures = {"ndcg@10": 0.2, "coverage": 0.9}
    judged = {"metrics": figures, "baseline_metrics": figures}
    registry.store(Popularity().fit(interactions), card().model_copy(update=judged))
    (registry.root / "another").mkdir()  # its first training hasn't come to an end
    told = in_service(home)
    assert set(told) == {"m"}
    assert told["m"]["metrics"] == told["m"]["baseline_metrics"] == figures
    assert told["m"]["serves"] == "popularity"


def test_a_failed_store_leaves_what_was_there(
    registry: Registry, interactions: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = registry.store(Popularity().fit(interactions), card())

    def broken(self: Popularity, folder: Path) -> None:
        (folder / "state.npz").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Popularity, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        registry.store(Popularity().fit(planted(seed=2)), card())
    assert registry.load("m", T, KINDS)[1] == good
    assert {p.name for p in (registry.root / "m").iterdir()} == {good.version, "20260615T000000Z.json"}


def test_what_a_killed_store_left_is_swept_by_the_next(
    registry: Registry, interactions: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Popularity, folder: Path) -> None:
        (folder / "state.npz").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    left = registry.root / ".scratch"
    model = Popularity().fit(interactions)
    with monkeypatch.context() as patched:
        patched.setattr(Popularity, "save", killed)
        child = os.fork()
        if not child:
            registry.store(model, card())
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(left.glob("*/model/state.npz"))) == 1
    assert registry.names() == []
    with pytest.raises(NoData):
        registry.card("m", T)
    kept = registry.store(model, card())
    assert registry.load("m", T, KINDS)[1] == kept
    assert [p.name for p in left.iterdir()] == [".lock"]


def test_changed_files_are_refused(registry: Registry, interactions: Interactions) -> None:
    version = registry.store(Popularity().fit(interactions), card()).version
    state = registry.root / "m" / version / "state.npz"
    state.write_bytes(state.read_bytes()[:-1] + b"!")
    with pytest.raises(BadSettings, match="stored with"):
        registry.load("m", T, KINDS)


def test_an_unknown_kind_is_told(registry: Registry, interactions: Interactions) -> None:
    registry.store(Popularity().fit(interactions), card(serves="oracle"))
    with pytest.raises(BadSettings, match="oracle"):
        registry.load("m", T, KINDS)


def test_the_card_says_which_code_made_it(registry: Registry, interactions: Interactions) -> None:
    written = registry.store(Popularity().fit(interactions), card())
    assert written.code_version.startswith(f"{controltower.__version__}+")
    assert set(written.files) == {"config.json", "state.npz"}
