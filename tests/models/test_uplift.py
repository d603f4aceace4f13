"""Uplift: what is planted in a drawn experiment is found, and nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from controltower.models.publication import Serving
from controltower.models.uplift import qini, training
from controltower.models.uplift.learners import (
    KINDS,
    DoublyRobust,
    Expected,
    TLearner,
    TreatAll,
    TreatNone,
    Uplift,
    XLearner,
)
from controltower.models.uplift.training import TARGET, TREAT_ALL, TREAT_NONE, train
from controltower.models.uplift.trials import Experiment, experiment, prepared, read_trials, starts
from controltower.profiles.facts.messages import nothing_sent
from models.test_registry import card
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders


def drawn(
    seed: int, count: int, changes: str, share: float = 0.5, columns: int = 6, by: float = 0.05
) -> tuple[Experiment, np.ndarray]:
    """An experiment, and the true uplift of each row. `changes`: some (f3 decides), all, or none, `by` on average."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, columns))
    x[rng.random(count) < 0.2, 2] = np.nan
    names = [f"f{i}" for i in range(columns)]
    features = pd.DataFrame(x, columns=names, index=[f"c{i}" for i in range(count)])
    some = np.where(x[:, min(3, columns - 1)] > 0.3, 0.12, -0.02)
    true = {"some": some, "all": np.full(count, by), "none": np.zeros(count)}[changes]
    treated = (rng.random(count) < share).astype(int)
    p = 0.1 + 0.06 * (x[:, 0] > 0) + treated * true
    return Experiment(features, treated, np.full(count, share), (rng.random(count) < p).astype(float)), true


@pytest.fixture(scope="module")
def some() -> tuple[Experiment, np.ndarray]:
    return drawn(1, 6000, "some", share=0.7)


def test_whom_a_message_changes_is_found(some: tuple[Experiment, np.ndarray]) -> None:
    began = int(T.timestamp()) - np.arange(6000) % 4 * 20 * 86_400  # four campaigns, 20 days apart
    today = some[0].features + 9.0
    usual = DoublyRobust().fit(some[0].take(np.arange(800)), Expected(np.full(800, 0.13), np.full(800, 0.17)))
    outcome = train(
        replace(some[0], began=began), T, today=today, in_service=lambda _: Serving(card("uplift", -99), usual)
    )
    assert outcome.published and outcome.details["recommend"] == TARGET
    assert outcome.metrics["qini_low"] > 0 == outcome.baseline_metrics["qini"]
    assert isinstance(outcome.model, Uplift)
    fresh, true = drawn(2, 4000, "some")
    said = outcome.model.predict(fresh.features)
    assert true[said > np.median(said)].mean() > 2 * true.mean() - 0.01
    assert said.mean() == pytest.approx(true.mean(), abs=0.03)
    by_fresh = qini.coefficient(said, qini.gains(fresh, np.full(4000, 0.13), np.full(4000, 0.17)))
    assert by_fresh.low > 0
    points = outcome.details["curve"]
    assert points[-1]["over_random"] == pytest.approx(0) and points[-1]["gain"] == pytest.approx(points[-1]["random"])
    assert max(p["low"] for p in points) > 0 and len(outcome.details["ranked_by"]) == training.PARTS - 1
    rows, table = outcome.details["backtest"], outcome.details["calibration"]["table"]
    assert [(row["as_of"][:10], row["customers"]) for row in rows] == [
        ((T - timedelta(days=20 * k)).date().isoformat(), 1500) for k in range(3)
    ], "nothing was known before the first campaign"
    assert rows[0]["qini_low"] > 0 == rows[0]["baseline_qini"] and rows[0]["in_service_qini"] != 0
    assert all(row["effect_low"] < true.mean() < row["effect_high"] for row in rows)
    assert len(table) == 5 and table[0]["said"] < table[-1]["said"] and table[0]["high"] < table[-1]["low"]
    assert outcome.details["drift"]["score_stability"] > 0.25, "who was written to last, is other now"
    assert outcome.details["in_service"]["dates"] == 3 and outcome.details["in_service"]["stays"] is False


def test_nothing_to_choose_by_means_treat_all() -> None:
    outcome = train(drawn(1, 3000, "all")[0], T)
    assert (outcome.published, outcome.model.name) == (False, TreatAll.name)
    assert outcome.details["recommend"] == TREAT_ALL and outcome.details["effect_shown"]
    assert "gains nothing for sure" in outcome.why and "Write to all" in outcome.why
    assert outcome.baseline_metrics["effect_low"] < 0.05 < outcome.baseline_metrics["effect_high"]


def test_forty_experiments_without_anything_to_choose_by() -> None:
    """A light version: one linear learner. An interval of 95 % leaves out 0 upwards in 1 of 40."""
    found = [
        train(drawn(seed, 500, ("all", "none")[seed % 2], columns=3)[0], T, learners=(DoublyRobust,), base="linear")
        for seed in range(40)
    ]
    assert all("gains nothing for sure" in o.why or o.published for o in found)
    assert [o.details["recommend"] for o in found].count(TARGET) <= 4


def test_a_message_that_does_harm_or_less_than_it_costs_goes_to_nobody() -> None:
    light = {"learners": (DoublyRobust,), "base": "linear"}
    rows, _ = drawn(3, 3000, "all", by=-0.08)
    ranks = DoublyRobust().fit(rows.take(np.arange(800)), Expected(np.full(800, 0.13), np.full(800, 0.05)))
    rows = replace(rows, began=int(T.timestamp()) - np.arange(3000) % 2 * 20 * 86_400)
    harm = train(rows, T, in_service=lambda _: Serving(card("uplift", -99), ranks), **light)  # type: ignore[arg-type]
    assert harm.details["backtest"] and harm.details["in_service"].keys() == {"why"}, "no ranking makes it better"
    dear = train(drawn(3, 3000, "all")[0], T, cost=0.2, **light)  # type: ignore[arg-type]
    assert [o.details["recommend"] for o in (harm, dear)] == [TREAT_NONE] * 2
    assert isinstance(harm.model, TreatNone) and harm.model.effect < 0


def test_few_rows_give_a_plain_sentence() -> None:
    small = drawn(1, 150, "some")[0]
    outcome = train(small, T)
    assert isinstance(outcome.model, TreatAll) and "too few to learn from" in outcome.why and not outcome.metrics
    nobody = train(Experiment(pd.DataFrame(), *(np.zeros(0, dtype=int),) * 3), T)
    assert nobody.details["recommend"] == TREAT_ALL
    assert len(nobody.model.predict(small.features)) == 150  # type: ignore[attr-defined]


def test_amounts_are_learned_too() -> None:
    rows, true = drawn(5, 6000, "some")
    spent = rows.outcome * np.random.default_rng(1).lognormal(3, 0.5, len(rows))
    outcome = train(Experiment(rows.features, rows.treated, rows.propensity, spent), T, "spent")
    assert outcome.details["recommend"] == TARGET
    assert np.corrcoef(outcome.model.predict(rows.features), true)[0, 1] > 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_saved_and_loaded_it_says_the_same(
    kind: type[Uplift], some: tuple[Experiment, np.ndarray], tmp_path: Path
) -> None:
    model = kind().fit(some[0])
    for name in "ab":
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    assert (tmp_path / "a/state.npz").read_bytes() == (tmp_path / "b/state.npz").read_bytes()
    again = kind.load(tmp_path / "a")
    turned = some[0].features[some[0].features.columns[::-1]]
    assert (again.predict(turned) == model.predict(some[0].features)).all()
    assert again.effect == model.effect and len(model.predict(turned.iloc[:0])) == 0
    if kind in (DoublyRobust, XLearner, TLearner):
        assert np.corrcoef(model.predict(some[0].features), some[1])[0, 1] > 0.5


def test_the_coefficient_is_the_area_between_the_curve_and_the_line() -> None:
    rng = np.random.default_rng(1)
    gain, score = rng.normal(size=400), rng.normal(size=400)
    v = np.cumsum(gain[np.argsort(-score)]) / 400
    line = (np.arange(400) + 1) / 400 * v[-1]
    area = (v - line).sum() / 400
    assert qini.coefficient(score, gain).value == pytest.approx(area, abs=1e-3)
    assert qini.coefficient(-score, gain).value == pytest.approx(-qini.coefficient(score, gain).value)
    assert qini.coefficient(np.zeros(400), gain).value == pytest.approx(0)


def test_gains_are_unbiased_whatever_was_expected_and_rows_of_one_customer_count_together() -> None:
    rows, true = drawn(8, 40_000, "some", share=0.3)
    wrong = qini.gains(rows, np.full(len(rows), 0.9), np.full(len(rows), 0.1))
    assert wrong.mean() == pytest.approx(true.mean(), abs=0.02)
    one = qini.Estimate.of(wrong, np.arange(len(wrong)))
    twice = qini.Estimate.of(np.tile(wrong, 2), np.tile(np.arange(len(wrong)), 2))
    assert twice.high - twice.low == pytest.approx(one.high - one.low)


def test_an_experiment_has_probabilities() -> None:
    with pytest.raises(ValueError, match="strictly between"):
        Experiment(pd.DataFrame(index=range(2)), np.array([0, 1]), np.array([1.0, 0.5]), np.zeros(2))
    with pytest.raises(ValueError, match="differ in length"):
        Experiment(pd.DataFrame(index=range(3)), np.array([0, 1]), np.array([0.5, 0.5]), np.zeros(2))


def history(**more: float | str | None) -> dict[str, object]:
    return {"channel": "email", "campaign": "spring", "variant": "a", "treatment": "message", **more}


def test_trials_are_read_from_the_lake(tmp_path: Path) -> None:
    """Orders within 14 days count for both groups; what is too new, or without controls on its day, is no trial."""
    sent = [
        history(message_id="m1", customer_id="c1", propensity=0.8, sent_at=ago(30)),
        history(message_id="m2", customer_id="c2", propensity=0.2, sent_at=ago(30), treatment="No e-mail"),
        history(message_id="m3", customer_id="c3", propensity=0.8, sent_at=ago(30)),
        history(message_id="m4", customer_id="c1", propensity=0.8, sent_at=ago(3), campaign="new"),
        history(message_id="m5", customer_id="c1", propensity=0.8, sent_at=ago(30), campaign="all"),
        history(message_id="m6", customer_id="c2", propensity=0.8, sent_at=ago(28), campaign="all"),
        history(message_id="m7", customer_id="c4", propensity=0.8, sent_at=ago(28)),
    ]
    bought = orders(
        order("o1", "c1", ago(20), ("p", 2, 5.0)), order("o2", "c2", ago(29), ("p", 1, 3.0)),
        order("o3", "c3", ago(15), ("p", 1, 9.0)), order("o4", "c2", ago(31), ("p", 1, 7.0)),
    )  # fmt: skip
    came = [
        {"event_id": "e1", "message_id": "m1", "event": "clicked", "occurred_at": ago(29)},
        {"event_id": "e3", "message_id": "m6", "event": "clicked", "occurred_at": ago(27)},
        {"event_id": "e2", "message_id": "m3", "event": "visited", "occurred_at": ago(28)},
    ]
    known = [{"customer_id": f"c{n}", "updated_at": ago(400)} for n in range(1, 4)]
    tables = {"customers": known, "messages_history": sent, "message_events": came, **bought}
    lake = lake_with(tmp_path, {**tables, "events": [event("v1", "c2", ago(25), "view_item")]})
    with lake.read(T) as reading:
        read = reading.frame(read_trials(reading.table, T, SHOP))
    rows = prepared(read).set_index("customer_id")
    assert set(read["campaign"]) == {"spring"} and set(read["treatment"]) == {"message", "No e-mail"}
    assert set(read["customer_id"]) == {"c1", "c2", "c3"}, "on the day of m7 all were written to"
    assert rows["clicked"].to_dict() == {"c1": 1, "c2": 0, "c3": 0}, "a click in another campaign is none in this one"
    shown = rows[["treated", "propensity", "visited", "converted", "spent"]]
    assert shown.loc["c1"].tolist() == pytest.approx([1, 0.8, 0, 1, 10.0])
    assert shown.loc["c2"].tolist() == pytest.approx([0, 0.8, 1, 1, 3.0])
    assert shown.loc["c3"].tolist() == pytest.approx([1, 0.8, 1, 0, 0.0]), "the order came after 15 days"
    made = experiment(prepared(read), {"spring": pd.DataFrame({"f": [1.0, 2.0]}, index=["c2", "c1"])}, "spent")
    assert made.features["f"].tolist() == [2.0, 1.0] and made.outcome.tolist() == [10.0, 3.0]
    assert starts(prepared(read))["spring"] < ago(30)
    assert len(experiment(prepared(read), {})) == 0


@pytest.mark.parametrize(("attributes", "hour"), [(None, 0), ('{"run_id": 1, "occurrence": "2026-05"}', 18)])
def test_a_message_without_effect_has_none_however_late_it_left(
    attributes: str | None, hour: int, tmp_path: Path
) -> None:
    """Half of each group orders, most of them soon, while messages leave for a day: what came before counts, too."""
    began, count = ago(30).replace(hour=hour, minute=0, second=0, microsecond=0), 220
    sent, bought = [], []
    for who, n in ((f"{group}{n}", n) for group in ("held", "sent") for n in range(count)):
        held = who.startswith("held")
        late = timedelta(hours=0 if held else 7 * n % 24)
        how = "holdout" if held else "message"
        row = history(message_id=who, customer_id=who, treatment=how, attributes=attributes)
        sent.append(row | {"sent_at": began + late})
        if n % 2:  # after a day and a half on average, the more the sooner
            bought.append(order(who, who, began - timedelta(days=1.5 * np.log((n + 0.5) / count)), ("p", 1, 5.0)))
    known = [{"customer_id": row["customer_id"], "updated_at": ago(400)} for row in sent]
    lake = lake_with(tmp_path, {"customers": known, "messages_history": sent, **orders(*bought)})
    with lake.read(T) as reading:
        rows = prepared(reading.frame(read_trials(reading.table, T, SHOP)))
    assert set(rows["second"]) == {int(began.timestamp())}
    shares = rows.groupby("treated")[["converted", "spent"]].mean()
    assert shares.loc[0].tolist() == shares.loc[1].tolist() == [0.5, 2.5]
    flat = pd.DataFrame({"f": np.arange(len(rows)) % 7.0}, index=rows["customer_id"])
    outcome = train(experiment(rows, {"spring": flat}), T, learners=(DoublyRobust,), base="linear")
    assert not outcome.details["effect_shown"] and not outcome.published


def members(arms: dict[str, tuple[int, float | None]]) -> pd.DataFrame:
    rows = [
        {"customer_id": f"{arm}{n}", "campaign": "one", "variant": arm, "treatment": None, "propensity": p,
         "treated": int(arm not in ("control", "holdout", "none")),
         "second": 0, "clicked": 0, "visited": 0, "converted": 0, "spent": 0.0}
        for arm, (count, p) in arms.items() for n in range(count)
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"propensity": float})


@pytest.mark.parametrize(
    ("arms", "arm", "wanted"),
    [
        ({"mail": (90, 0.9), "control": (10, 0.1)}, None, 0.9),  # of what was done
        ({"mail": (90, 0.9), "control": (10, 0.9)}, None, 0.9),  # of being written to, in all rows
        ({"mail": (75, None), "holdout": (25, None)}, None, 0.75),
        ({"a": (40, 1 / 3), "b": (40, 1 / 3), "none": (40, 1 / 3)}, "a", 0.5),
        ({"a": (40, 1 / 3), "b": (40, 1 / 3), "none": (40, 1 / 3)}, None, 2 / 3),
    ],
)
def test_what_a_propensity_says(arms: dict[str, tuple[int, float | None]], arm: str | None, wanted: float) -> None:
    for told, empty in (("variant", "treatment"), ("treatment", "variant")):
        frame = members(arms)
        named = frame.assign(**{told: frame["variant"], empty: None})
        rows = prepared(named, arm)
        assert rows["propensity"].to_numpy() == pytest.approx(wanted)
        assert set(rows["treated"]) == {0, 1}


def test_words_for_nothing_sent() -> None:
    """A variant called control may be a creative; only what says outright that nothing was sent counts there."""
    words = ["Control", "global_holdout", "No E-Mail", "none", "message", None, "Womens E-Mail", "0", "sent"]
    variants = ["hold-out", "No E-Mail", None, "control", "Control Group", "none", "0"]
    rows = pa.table({
        "treatment": pa.array([*words, *[None] * len(variants)]),
        "variant": pa.array([*["b"] * (len(words) - 1), "holdout", *variants]),
    })  # fmt: skip
    told = ibis.memtable(rows)
    assert told.select(said=nothing_sent(told)).to_pyarrow()["said"].to_pylist() == [
        True, True, True, True, False, False, False, True, False, True, True, False, False, False, False, False
    ]  # fmt: skip


def test_people_who_are_in_both_groups_are_left_out() -> None:
    both = members({"mail": (5, None), "control": (5, None)})
    both.loc[9, "customer_id"] = "mail0"
    assert "mail0" not in set(prepared(both)["customer_id"])
    assert len(prepared(members({"mail": (5, None)}))) == 0
