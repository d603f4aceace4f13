"""Versions appear whole or not at all, are found by date, and are refused when they were changed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from controltower.errors import BadSettings, NoData
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.own_history import OwnHistory
from controltower.models.recommend.popularity import Popularity
from controltower.models.registry import Card, Registry
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
    published = [registry.publish(model, card(days=d)) for d in (0, 10, 5)]
    assert registry.load("m", T + timedelta(days=7), KINDS)[1].version == published[2].version
    assert registry.load("m", T + timedelta(days=10), KINDS)[1].version == published[1].version
    assert registry.load("m", None, KINDS)[1].version == published[1].version
    assert "20260615T000000Z" in published[0].version
    with pytest.raises(NoData, match="controltower train"):
        registry.load("m", T - timedelta(seconds=1), KINDS)
    with pytest.raises(NoData, match="no model other"):
        registry.card("other")


def test_training_again_gives_the_same_version_and_other_data_another(registry: Registry) -> None:
    first = registry.publish(Popularity().fit(planted()), card())
    again = registry.publish(Popularity().fit(planted()), card())
    assert first == again
    other = registry.publish(Popularity().fit(planted(seed=2)), card())
    assert other.version != first.version
    assert registry.load("m", T, KINDS)[1].version == other.version
    assert len(list((registry.root / "m").glob("*/card.json"))) == 2


def test_a_failed_publish_leaves_what_was_there(
    registry: Registry, interactions: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = registry.publish(Popularity().fit(interactions), card())

    def broken(self: Popularity, folder: Path) -> None:
        (folder / "state.npz").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Popularity, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        registry.publish(Popularity().fit(planted(seed=2)), card())
    assert registry.load("m", T, KINDS)[1] == good
    assert {p.name for p in (registry.root / "m").iterdir()} == {good.version, "20260615T000000Z.json"}


def test_changed_files_are_refused(registry: Registry, interactions: Interactions) -> None:
    version = registry.publish(Popularity().fit(interactions), card()).version
    state = registry.root / "m" / version / "state.npz"
    state.write_bytes(state.read_bytes()[:-1] + b"!")
    with pytest.raises(BadSettings, match="published with"):
        registry.load("m", T, KINDS)


def test_an_unknown_kind_is_told(registry: Registry, interactions: Interactions) -> None:
    registry.publish(Popularity().fit(interactions), card(serves="oracle"))
    with pytest.raises(BadSettings, match="oracle"):
        registry.load("m", T, KINDS)


def test_the_card_says_which_code_made_it(registry: Registry, interactions: Interactions) -> None:
    written = registry.publish(Popularity().fit(interactions), card())
    assert "+" in written.code_version
    assert set(written.files) == {"config.json", "state.npz"}
