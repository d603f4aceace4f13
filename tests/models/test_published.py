"""A published version appears whole, names nobody, is swapped by its pointer, and is refused when damaged."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from controltower.errors import BadSettings, NoData
from controltower.models.recommend.published import SPARE, Published, current, erase, publish
from controltower.models.recommend.serving import Request, Serving, answer
from controltower.models.recommend.version import ItemLists
from support.published_shop import AS_OF, IDS, POSITION, N, artefacts, bought, item_lists, personal_lists


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "serving"


def opened(root: Path) -> Published:
    return Published.open(root / str(current(root)))


def test_what_is_read_is_what_was_published_and_mapped(root: Path) -> None:
    assert current(root) is None
    version = publish(root, artefacts())
    found = opened(root)
    assert (found.version, found.as_of, len(found)) == (version, AS_OF, N)
    mapped = (found.people, found.product_ids, found.items["similar"].product)
    assert all(isinstance(array.base, np.memmap) for array in mapped)
    ann, v1 = found.row(customer="ann"), found.row(visitor="v1")
    assert found.personal["for_you"].product[ann].tolist() == [POSITION["tea"], POSITION["pan"], -1]
    assert found.personal["for_you"].product[v1].tolist() == [POSITION["lamp"], -1, -1]
    assert found.row(customer="v1") == found.row(visitor="ann") == found.row(customer="") == -1
    assert found.shown([POSITION["pan"]]) == [
        {"product_id": "pan", "title": "Pan, 28 cm", "url": "https://shop.example/pan", "image_url": None,
         "price": None, "currency": "EUR"}
    ]  # fmt: skip
    assert [found.title(p) for p in (POSITION["sofa"], -1, POSITION["tea"])] == ["sofa", None, "차 茶"]


def test_ids_of_any_length_are_found_or_not(root: Path) -> None:
    publish(root, artefacts())
    told = ["cup", "cupboard" * 40, "", "te", "tea", "kettle1", "\x00"]
    assert opened(root).positions(told).tolist() == [0, -1, -1, -1, POSITION["tea"], -1, -1]


def test_no_file_names_a_person(root: Path) -> None:
    publish(root, artefacts(customers=["ann.the.customer", "bob.the.customer"], visitors=["v1.the.visitor"]))
    for path in (p for p in root.rglob("*") if p.is_file()):
        assert b".the." not in path.read_bytes(), path
    assert (root / str(current(root))).stat().st_mode & 0o077 == 0
    first = opened(root).people.tolist()
    publish(root, artefacts(customers=["ann.the.customer", "bob.the.customer"], visitors=["v1.the.visitor"]))
    assert not set(first) & set(opened(root).people.tolist())  # a key of its own: versions can't be joined


def test_an_erased_person_has_no_lists_in_any_version_also_where_it_is_open(root: Path) -> None:
    publish(root, artefacts())
    before = opened(root)
    publish(root, artefacts())
    serving = Serving(opened(root))
    assert answer(serving, Request("for_you", customer="ann"), AS_OF).fallback is None
    assert erase(root, ["ann", "nobody"]) == 2
    assert answer(serving, Request("for_you", customer="ann"), AS_OF).because == "no_list"
    for found in (before, opened(root)):
        row = found.row(customer="ann")
        assert found.personal["for_you"].product[row].max() == -1 and not len(found.bought_by(row)[0])
        for part in ("product", "second"):
            assert np.load(root / found.version / f"bought.{part}.npy").tolist() == [-1], "nor when she bought it"
        assert found.personal["for_you"].product[found.row(visitor="v1")].max() == POSITION["lamp"]


def test_a_version_of_another_form_is_emptied_for_who_has_it_open_and_removed(root: Path) -> None:
    folder = root / publish(root, artefacts())
    before = Published.open(folder)
    told = json.loads((folder / "placements.json").read_text())
    (folder / "placements.json").write_text(json.dumps(told | {"format": 2}))
    assert erase(root, ["ann"]) == 0 and not folder.exists()
    assert before.personal["for_you"].product.max() == -1, "whose lists are in it can't be told"


def test_versions_that_serve_no_more_are_removed_after_a_while(root: Path) -> None:
    first, second = (publish(root, artefacts()) for _ in range(2))
    kept = Published.open(root / first)
    assert current(root) == second
    then = (root / first).stat().st_mtime - SPARE - 60
    os.utime(root / first, (then, then))
    (root / ".fresh-left").mkdir()
    os.utime(root / ".fresh-left", (then, then))
    third = publish(root, artefacts())
    assert sorted(p.name for p in root.iterdir()) == sorted([second, third, "current.json"])
    entry, _ = kept.items["similar"].entries(np.array([POSITION["mug"]]))
    assert kept.items["similar"].product[entry].tolist() == [0, POSITION["tea"]], "who has it open keeps it"
    with pytest.raises(NoData, match="no published version"):
        Published.open(root / first)


def test_what_fails_leaves_nothing_and_the_old_version_serves(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = publish(root, artefacts())
    with pytest.raises(BadSettings, match="exclusions"):
        publish(root, artefacts(rules={"for_you": {"exclusions": [{}]}}))
    assert current(root) == version
    assert sorted(p.name for p in root.iterdir()) == sorted([version, "current.json"])


def test_damage_is_told(root: Path) -> None:
    folder = root / publish(root, artefacts())
    (folder / "items/similar.product.npy").write_bytes(b"x" * 500)
    with pytest.raises(BadSettings, match="damaged"):
        Published.open(folder)
    (folder / "placements.json").write_text("{")
    with pytest.raises(BadSettings, match="damaged"):
        Published.open(folder)
    (root / "current.json").write_text("")
    with pytest.raises(BadSettings, match="damaged"):
        current(root)


SHAPES = {
    "sorted": {"products": pa.table({"product_id": IDS[::-1]})},
    "an entry": {"sold": np.ones(N - 1, bool)},
    "people x": {"bought": bought({}, 2)},
    "one shape": {"personal": {"for_you": personal_lists({}, 2)}},
    "positions": {"items": {"similar": ItemLists(np.arange(N + 1), np.full(N, N), np.ones(N), "a", "v")}},
    "begin and end": {"items": {"similar": ItemLists(np.arange(N + 1), np.zeros(N - 1), np.ones(N - 1), "a", "v")}},
    "can't be the name": {"items": {"../similar": item_lists({})}},
    "not both": {"items": {"for_you": item_lists({})}, "personal": {"for_you": personal_lists({}, 3)}},
    "what they name": {"personal": {"for_you": personal_lists({}, 3, codes=[])}},
    "no item lists": {"personal": {"for_you": personal_lists({}, 3, session="nothing")}},
}  # fmt: skip


@pytest.mark.parametrize("mistake", SHAPES)
def test_arrays_that_do_not_fit_are_refused(root: Path, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        publish(root, artefacts(**SHAPES[mistake]))
    assert not root.exists()


def test_an_empty_shop_and_odd_ids_can_be_published(root: Path) -> None:
    none = np.zeros(0, bool)
    publish(root, artefacts(
        products=pa.table({"product_id": pa.array([], pa.string())}), sold=none, in_stock=none,
        popularity=np.zeros(0), items={}, personal={}, customers=[], visitors=[], bought=None, repeats=[],
    ))  # fmt: skip
    found = answer(Serving(opened(root)), Request("for_you", customer="c", product="p", recent=["q"]), AS_OF)
    assert (found.items, found.because) == ((), "nothing_allowed")
    odd = sorted(['"', "../x", "a,b", "é\u200b", "x" * 300, "상품"])
    publish(root, artefacts(
        products=pa.table({"product_id": odd}), sold=np.ones(6, bool), in_stock=np.ones(6, bool),
        popularity=np.zeros(6), items={}, personal={}, customers=["", "é"], visitors=[], bought=None,
    ))  # fmt: skip
    shown = answer(Serving(opened(root)), Request("popular", product="a,b"), AS_OF + timedelta(days=1)).items
    assert sorted(i.shown["product_id"] for i in shown) == [i for i in odd if i != "a,b"]
