"""A transformer that PyTorch teaches and NumPy asks."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controltower.models.recommend import choose
from controltower.models.recommend.algorithms import sasrec_training
from controltower.models.recommend.algorithms.sasrec import Sasrec, in_order, shapes
from controltower.models.recommend.interactions import CART, ORDER, VIEW, Interactions, from_arrays
from controltower.profiles.portable import DAY
from models.conftest import NOW, planted

SMALL = Sasrec.Config(dim=8, length=6, heads=2, passes=40, dropout=0.1, entry_dropout=0.1, learning_rate=0.01)


def cyclic(customers: int = 60, turns: int = 8) -> Interactions:
    """Everyone buys a, b, c, a, ... on one day after another, each from a place of his own."""
    people, products = np.array([f"c{i:02}" for i in range(customers)]), np.array(["a", "b", "c"])
    who = np.repeat(np.arange(customers), turns)
    turn = np.tile(np.arange(turns), customers)
    return from_arrays(
        people, products, people[who], products[(who + turn) % 3], NOW - (turns - turn) * DAY,
        np.full(len(who), ORDER), NOW,
    )  # fmt: skip


def told(*entries: tuple[str, float, int], products: str = "abc") -> Interactions:
    """One customer's entries: product, days ago, kind."""
    what, days, kind = zip(*entries, strict=True)
    who = np.repeat("c", len(entries))
    when = NOW - (np.array(days) * DAY).astype(int)
    return from_arrays(np.array(["c"]), np.array(list(products)), who, np.array(what), when, np.array(kind), NOW)


def drawn(config: Sasrec.Config, products: int, seed: int = 1) -> Sasrec:
    """A model nobody taught, whose parameters are large enough that each of them matters."""
    rng = np.random.default_rng(seed)
    model = Sasrec(config)
    model.product_ids = np.array([f"p{i}" for i in range(products)])
    model.popularity = np.zeros(products)
    model.parameters = {n: rng.normal(0, 0.5, s).astype(np.float32) for n, s in shapes(config, products).items()}
    return model


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refusing)


def test_one_layer_by_hand() -> None:
    """Two products in one dimension more than needed: what attention, norms and layers make of them, step by step."""
    config = Sasrec.Config(dim=2, length=3, blocks=1, heads=1)
    model = drawn(config, 2)
    p = {name: np.zeros_like(value) for name, value in model.parameters.items()}
    p["products"] = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    p["norms"][:, ::2] = p["last_norm"][0] = 1.0
    p["attend"][0, :, 4:] = np.eye(2)  # nobody is asked for: all that came before count the same
    p["join"][0] = np.eye(2)
    model.parameters = p
    # the norm turns (sqrt 2, 0) into (1, -1); the mean of (1, -1), (-1, 1), (1, -1) is (1/3, -1/3)
    before = np.array([np.sqrt(2) + 1 / 3, -1 / 3])
    wanted = (before - before.mean()) / before.std()
    assert model.vectors(np.array([[0, 1, 0]]))[0] == pytest.approx(wanted, abs=1e-4)
    p["outer_bias"][0] = [0.0, 5.0]
    after = before + np.array([0.0, 5.0])
    assert model.vectors(np.array([[0, 1, 0]]))[0] == pytest.approx((after - after.mean()) / after.std(), abs=1e-4)


def test_no_history_says_nothing_and_only_the_latest_are_looked_at() -> None:
    model = drawn(SMALL, 3)
    long = told(*(("abc"[n % 2], 20 - n, ORDER) for n in range(12)))
    short = told(*(("abc"[n % 2], 20 - n, ORDER) for n in range(12 - SMALL.length, 12)))
    model.product_ids = long.product_ids
    rows = np.array([-1, 0, -1])
    one, two = (model.score(history, rows) for history in (long, short))
    pairs = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    assert not one.at(*pairs)[[0, 1, 2, 6, 7, 8]].any() and one.at(*pairs)[3:6].all()
    assert (one.at(*pairs) == two.at(*pairs)).all()
    empty = long.where(np.zeros(len(long), dtype=bool))
    assert not model.score(empty, np.array([0])).at(np.zeros(3, int), np.arange(3)).any()


def test_many_rows_are_asked_as_one(interactions: Interactions) -> None:
    model = drawn(SMALL, len(interactions.product_ids))
    rows = np.arange(interactions.shape[0])
    products = np.arange(len(interactions.product_ids))
    together = model.score(interactions, rows)
    for row in rows[:10]:
        alone = model.score(interactions, np.array([row])).at(np.zeros(len(products), int), products)
        assert together.at(np.full(len(products), row), products) == pytest.approx(alone, abs=1e-4)


def test_viewed_put_into_the_cart_and_ordered_is_one_step() -> None:
    data = told(("a", 3.5, VIEW), ("a", 3.4, CART), ("a", 3.3, ORDER), ("b", 3.2, VIEW), ("b", 2.2, VIEW))
    entry = in_order(data, np.zeros(len(data)))
    assert data.product[entry].tolist() == [0, 1, 1]
    assert data.kind[entry].tolist() == [ORDER, VIEW, VIEW]
    twice = told(("a", 3, ORDER), ("b", 3, ORDER))
    assert twice.product[in_order(twice, np.array([1.0, 0.0]))].tolist() == [1, 0]


def test_each_entry_but_the_first_is_foretold_once() -> None:
    """Also of histories that are cut into pieces: from what came right before it."""
    people, products = np.array(["a", "b", "c", "d"]), np.array([f"p{i:02}" for i in range(40)])
    counts = {"a": 1, "b": 2, "c": 13, "d": 14}
    who = np.repeat(list(counts), list(counts.values()))
    what = np.concatenate([np.arange(n) for n in counts.values()])
    data = from_arrays(people, products, who, products[what], NOW - (40 - what) * DAY, np.full(len(who), ORDER), NOW)
    weight = np.arange(len(data)) + 1.0
    rng = np.random.default_rng(0)
    found: list[tuple[int, float]] = []
    for taken, target, counted in sasrec_training.batches(data, data.product, weight, SMALL, rng):
        assert taken.shape[1] <= SMALL.length
        there = counted > 0
        assert (target[there] == taken[there] + 1).all()
        assert (np.diff(there.astype(int), axis=1) <= 0).all()  # empty places stand at the end
        found += zip(target[there].tolist(), counted[there].tolist(), strict=True)
    first = np.r_[True, data.customer[1:] != data.customer[:-1]]
    assert sorted(found) == sorted(zip(data.product[~first].tolist(), weight[~first].tolist(), strict=True))


def test_without_pytorch_training_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    data = planted(customers=60)
    fitted, skipped = choose.fit_all(data)
    assert "sasrec" not in fitted and {"als", "substitutes"} <= set(fitted)
    assert skipped == {"sasrec": "PyTorch isn't installed: pip install 'controltower[transformer]'"}


def test_saved_it_serves_where_pytorch_lacks(tmp_path: Path, interactions: Interactions) -> None:
    """In a process of its own, so that what this one has loaded doesn't help."""
    model = drawn(SMALL, len(interactions.product_ids))
    model.product_ids = interactions.product_ids
    model.save(tmp_path)
    code = """
import json, sys, pathlib
sys.modules["torch"] = None
from controltower.models.recommend.algorithms import ALL
from models.conftest import planted
data = planted()
ranking = ALL["sasrec"].load(pathlib.Path(sys.argv[1])).recommend(data, data.customer_ids, 5, repeat=True)
print(json.dumps(ranking.product.tolist()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )  # fmt: skip
    here = model.recommend(interactions, interactions.customer_ids, 5, repeat=True)
    assert json.loads(done.stdout) == here.product.tolist()


def test_it_learns_what_comes_next() -> None:
    pytest.importorskip("torch")
    data = cyclic()
    model = Sasrec(SMALL).fit(data)
    ranking = model.recommend(data, data.customer_ids, 1, repeat=True)
    latest = (np.arange(60) + 7) % 3
    assert (ranking.product == (latest + 1) % 3).all()
    assert set(ranking.part) == {"sasrec"}


def test_numpy_answers_what_pytorch_would() -> None:
    torch = pytest.importorskip("torch")
    model = drawn(SMALL, 9)
    asked = np.random.default_rng(3).integers(0, 9, (20, SMALL.length))
    parameters = {name: torch.from_numpy(value) for name, value in model.parameters.items()}
    for length in (1, 4, SMALL.length):
        places = sasrec_training.forward(parameters, torch.from_numpy(asked), SMALL)
        assert model.vectors(asked[:, :length]) == pytest.approx(places[:, length - 1].numpy(), abs=1e-4)


def test_centred_vectors_change_no_order() -> None:
    config = Sasrec.Config(dim=8, length=6)
    model = drawn(config, 5)
    plain = {name: value.copy() for name, value in model.parameters.items()}
    asked = np.array([[0, 3, 1]])
    before = model.vectors(asked)
    model.parameters = sasrec_training._centred(plain, np.array([0, 1, 3, 4, 6]), 8)
    after = model.vectors(np.array([[0, 4, 1]]))
    assert after == pytest.approx(before, abs=1e-4)
    score, wanted = (after @ model.parameters["products"].T)[0], (before @ plain["products"].T)[0]
    assert score[[2, 5, 7]].tolist() == [0, 0, 0]
    assert score[[0, 1, 3, 4, 6]] == pytest.approx(wanted - wanted.mean(), abs=1e-4)


def test_equal_trainings_and_pytorch_left_as_it_was() -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    one, two = (Sasrec(SMALL).fit(cyclic()).parameters for _ in range(2))
    assert all((one[name] == two[name]).all() for name in one)
    assert torch.rand(1) == wanted and torch.get_num_threads() == 2
    other = Sasrec(SMALL.model_copy(update={"seed": 8})).fit(cyclic()).parameters
    assert (one["attend"] != other["attend"]).any()


def test_the_training_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("torch")
    caplog.set_level("INFO", logger="controltower")
    Sasrec(SMALL.model_copy(update={"entries": 1000})).fit(cyclic())  # 420 a pass
    assert "foretold 1260 entries in 3 passes" in caplog.text
    Sasrec(SMALL.model_copy(update={"seconds": 0.0})).fit(cyclic())
    assert "stopped after 0 CPU-seconds and 420 of 16800 entries" in caplog.text


def test_who_never_took_two_teaches_nothing() -> None:
    pytest.importorskip("torch")
    data = told(("a", 3, ORDER))
    model = Sasrec(SMALL).fit(data)
    assert model.recommend(data, np.array(["c"]), 3, repeat=True).product.tolist() == [0, 1, 2]
