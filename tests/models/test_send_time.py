"""Send times: habits that are there are found, those that are not are left to everyone's; tables, weights, exposure."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controltower.models.send_time import circadian, evidence, training
from controltower.models.send_time.evidence import CLICKED, OPENED, ORDERED, OWN, SENT, VISITED, Hours
from controltower.models.send_time.model import DAYTIME_HOUR, KINDS, EveryonesWeek, OwnWeek, best_hour
from controltower.models.send_time.tables import quantised, shares_of
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders

CHANNELS = (OWN, "email", "push")


def hours_of(customer: Any, slot: Any, *, number: int | None = None, **more: Any) -> Hours:
    """Active hours, by default own visits of today."""
    n = len(customer)
    given = {"channel": 0, "day": 0, "kind": VISITED, "sent": 0, "lag": -1} | more
    types = {"channel": np.int8, "day": np.int16, "kind": np.int8, "sent": np.int16, "lag": np.int16}
    columns = {name: np.broadcast_to(np.asarray(value, types[name]), n).copy() for name, value in given.items()}
    number = number if number is not None else int(np.max(customer, initial=-1)) + 1
    ids = np.array([f"c{i:05}" for i in range(number)])
    return Hours(
        ids, CHANNELS, customer=np.asarray(customer, np.int32), slot=np.asarray(slot, np.uint8) % 168, **columns
    )


def habits(own: bool, customers: int = 400, each: int = 25, seed: int = 1) -> Hours:
    """Over 120 days: around an hour of the customer's own, or around 20 for everyone; a fifth anywhere."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(customers), each)
    centre = (who * 7) % 24 if own else np.full(len(who), 20)
    hour = (centre + rng.integers(-1, 2, len(who))) % 24
    hour = np.where(rng.random(len(who)) < 0.2, rng.integers(0, 24, len(who)), hour)
    return hours_of(who, rng.integers(0, 7, len(who)) * 24 + hour, day=rng.integers(0, 120, len(who)))


def joined(*parts: Hours) -> Hours:
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("customer", "channel", "slot", "day", "kind", "sent", "lag")
    }
    return Hours(max((p.customer_ids for p in parts), key=len), CHANNELS, **columns)


def test_planted_hours_are_found() -> None:
    hours = habits(own=True)
    outcome = training.train(hours, T)
    assert outcome.name == "send_hour" and outcome.published and isinstance(outcome.model, OwnWeek)
    assert outcome.metrics["hits_3h"] > outcome.baseline_metrics["hits_3h"] + 0.3
    assert outcome.metrics["better_low"] > 0
    rows, table = outcome.details["backtest"], outcome.details["calibration"]["table"]
    assert [row["as_of"] for row in rows] == [ago(28 * k).isoformat() for k in (1, 2, 3)]
    assert all(row["hits_3h"] > row["baseline_hits_3h"] + 0.2 for row in rows) and "expected" not in rows[0]
    assert len(table) == 10 and sum(row["customers"] for row in table) == sum(row["customers"] for row in rows)
    assert all(0.4 < row["said"] < row["low"] for row in table), "shrunk to everyone's"
    assert table[0]["said"] + 0.2 < table[-1]["said"] and table[0]["high"] < table[-1]["low"]
    assert 0 < outcome.details["drift"]["score_stability"] < 10
    tables = outcome.model.predict(hours)
    off = (tables.hour - np.arange(400) * 7 + 12) % 24 - 12
    assert (np.abs(off) <= 1).mean() > 0.95
    assert tables.week.shape == (400, 168) and tables.week.dtype == np.uint8
    assert (tables.week.max(axis=1) == 255).all()
    frame = tables.frame()
    assert list(frame) == ["customer_id", "send_hour", "send_hour_weight"]
    assert frame["send_hour"].between(0, 23).all() and frame["send_hour_weight"].between(0.05, 1).all()


def test_nothing_is_claimed_where_there_are_no_habits() -> None:
    outcomes = [training.train(habits(own=False, customers=200, seed=seed), T) for seed in range(6)]
    assert not any(outcome.published for outcome in outcomes)
    assert all(isinstance(outcome.model, EveryonesWeek) for outcome in outcomes)
    assert "isn't better than everyone's best hour for sure" in outcomes[0].why
    assert set(outcomes[0].model.predict(habits(own=False)).hour) == {20}


def test_equal_data_give_equal_models() -> None:
    one, two = (training.train(habits(own=True, customers=150), T) for _ in range(2))
    assert one.metrics == two.metrics and one.details == two.details
    for name, state in one.model._state().items():
        assert np.array_equal(state, two.model._state()[name])


def test_who_is_cold_gets_exactly_everyones_hours() -> None:
    hours = habits(own=True, customers=300)
    model, everyone = OwnWeek().fit(hours), EveryonesWeek().fit(hours)
    strangers = hours_of([], [], number=5)
    ours, theirs = model.predict(strangers), everyone.predict(strangers)
    assert np.array_equal(ours.week, theirs.week) and np.array_equal(ours.hour, theirs.hour)
    assert ours.weight.tolist() == [0.0] * 5


def test_few_own_hours_count_less_than_many() -> None:
    model = OwnWeek(OwnWeek.Config(strength=20)).fit(habits(own=False))
    once, often = hours_of([0], [3]), hours_of([0] * 100, [3 + 24 * (n % 7) for n in range(100)])
    assert model.predict(once).hour.tolist() == [20]
    assert model.predict(often).hour.tolist() == [3]
    assert model.predict(often).weight[0] == pytest.approx(100 / 120)


def test_an_empty_shop_gets_a_daytime_hour() -> None:
    outcome = training.train(hours_of([], [], number=3), T)
    assert isinstance(outcome.model, EveryonesWeek) and not outcome.published and outcome.window is None
    assert "Of 0 customers who were ever active" in outcome.why
    assert outcome.model.predict(hours_of([], [], number=3)).hour.tolist() == [DAYTIME_HOUR] * 3


def test_few_customers_get_everyones_hour_and_a_plain_reason() -> None:
    outcome = training.train(habits(own=True, customers=30), T)
    assert isinstance(outcome.model, EveryonesWeek) and not outcome.metrics
    assert outcome.why.endswith("everyone's best hour serves.")


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    hours = habits(own=True, customers=120)
    for kind in KINDS:
        model = kind().fit(hours)
        (tmp_path / kind.name).mkdir()
        model.save(tmp_path / kind.name)
        found, again = model.predict(hours), kind.load(tmp_path / kind.name).predict(hours)
        assert np.array_equal(found.week, again.week) and np.array_equal(found.hour, again.hour)


def test_shares_sum_to_one_and_survive_a_byte() -> None:
    hours = habits(own=True, customers=100)
    for days in circadian.DAYS:
        model = OwnWeek(OwnWeek.Config(days=days)).fit(hours)
        shares = model.shares(model.dense(model.counts(hours)))
        assert shares.sum(axis=1) == pytest.approx(np.ones(100), abs=1e-4)
        near = shares_of(quantised(shares))
        assert np.abs(near - shares).max() < shares.max() / 100
        assert best_hour(near).tolist() == best_hour(shares).tolist()


def test_midnight_is_next_to_eleven() -> None:
    hours = hours_of([0] * 175, [23] * 40 + [0] * 45 + [1] * 40 + [12] * 50)
    assert OwnWeek().fit(hours).predict(hours).hour.tolist() == [0]


def test_days_that_differ_keep_their_hours() -> None:
    """Workdays at 8, weekends at 14: told apart where the weekend has hours of its own, mixed where it hasn't."""
    slots = [day * 24 + (8 if day < 5 else 14) for day in range(7)] * 40
    hours = hours_of([0] * len(slots), slots)
    week = {}
    for days in circadian.DAYS:
        week[days] = OwnWeek(OwnWeek.Config(days=days, strength=1)).fit(hours).predict(hours).week.reshape(7, 24)
    for days in ("weekend", "each_day"):
        assert week[days].argmax(axis=1).tolist() == [8] * 5 + [14] * 2
    assert set(week["every_day"].argmax(axis=1)) == {8}


def test_old_hours_fade() -> None:
    hours = joined(hours_of([0] * 30, [9] * 30, day=200), hours_of([0] * 20, [18] * 20, day=1))
    for half_life, hour in ((0.0, 9), (30.0, 18)):
        model = OwnWeek(OwnWeek.Config(half_life_days=half_life, strength=1)).fit(hours)
        assert abs(model.predict(hours).hour[0] - hour) <= 1


def test_orders_and_clicks_weigh_more_than_openings() -> None:
    config = OwnWeek.Config()
    assert config.ordered >= config.visited > config.opened and config.clicked > config.opened
    rows = hours_of([0, 1, 2], [5, 5, 5], kind=[ORDERED, CLICKED, OPENED], channel=[0, 1, 1])
    model = OwnWeek().fit(rows)
    assert model.dense(model.counts(rows)).sum(axis=1).tolist() == [config.ordered, config.clicked, config.opened]


def test_clicks_at_the_hour_we_write_at_say_little() -> None:
    """Written to at 20 every day, she clicks at once; by herself she comes at 12, a third as often."""
    sends = hours_of([0] * 60, [20 + 24 * (n % 7) for n in range(60)], channel=1, kind=SENT, sent=1)
    clicks = hours_of([0] * 60, [20 + 24 * (n % 7) for n in range(60)], channel=1, kind=CLICKED, lag=0)
    own = hours_of([0] * 20, [12 + 24 * (n % 7) for n in range(20)])
    hours = joined(sends, clicks, own)
    model = OwnWeek(OwnWeek.Config(strength=1)).fit(hours)
    assert model.predict(hours).hour.tolist() == [12]
    unasked = joined(clicks, own)  # nothing tells that we chose the hour
    assert OwnWeek(OwnWeek.Config(strength=1)).fit(unasked).predict(unasked).hour.tolist() == [20]


def test_answers_spread_over_hours_are_learned_without_the_bias_of_sending() -> None:
    """All answer alike at any hour; we send mostly at 9. Divided by exposure, no hour stands out."""
    rng = np.random.default_rng(2)
    sent = np.where(rng.random(40_000) < 0.6, 9, rng.integers(0, 24, 40_000))
    lag = rng.integers(0, 3, 40_000)
    slot, who = rng.integers(0, 7, 40_000) * 24, rng.integers(0, 200, 40_000)
    answered = rng.random(40_000) < 0.2
    hours = joined(
        hours_of(who, slot + sent, channel=1, kind=SENT, sent=1, number=200),
        hours_of(
            who[answered], (slot + (sent + lag) % 24)[answered], channel=1, kind=CLICKED, lag=lag[answered], number=200
        ),
    )
    by_hour = OwnWeek().fit(hours).everyone.reshape(7, 24).sum(axis=0)
    naive = np.bincount((sent + lag)[answered] % 24, minlength=24) / answered.sum()
    assert naive.max() > 4 / 24 and by_hour.max() < 1.3 / 24


def test_a_channel_has_a_table_of_its_own_where_something_tells_of_it() -> None:
    own = hours_of([0] * 30 + [1] * 30, [20] * 60)
    taps = hours_of([0] * 40, [8] * 40, channel=2, kind=CLICKED, lag=0)
    hours = joined(own, taps)
    tables = OwnWeek(OwnWeek.Config(strength=5)).fit(hours).predict(hours)
    assert set(tables.channels) == {"push"}
    rows, theirs = tables.channels["push"]
    assert rows.tolist() == [0] and theirs.shape == (1, 168)
    push, mail = tables.of("push"), tables.of("email")
    assert np.array_equal(mail, tables.week) and np.array_equal(push[1], tables.week[1])
    ratio = [shares_of(week)[0].reshape(7, 24).sum(axis=0)[8] for week in (push, mail)]
    assert ratio[0] > ratio[1]


def test_the_number_of_rhythms_follows_the_data() -> None:
    rng = np.random.default_rng(3)
    kinds = np.stack([np.roll(np.r_[0.4, 0.3, 0.2, np.full(21, 0.1 / 21)], shift) for shift in (7, 13, 21)])
    of_three = np.stack([rng.multinomial(12, kinds[n % 3]) for n in range(900)]).astype(float)
    alike = rng.multinomial(12, kinds.mean(axis=0), 900).astype(float)
    found = circadian.learn(of_three, of_three @ circadian.circle(1.0), 7)
    assert len(found.usual) >= 3
    assert len(circadian.learn(alike, alike @ circadian.circle(1.0), 7).usual) <= 2
    member = found.member(of_three).argmax(axis=1)
    assert all(np.bincount(member[n::3]).max() > 150 for n in range(3))


def test_one_customer_counts_once_in_the_interval() -> None:
    own, theirs, who = np.array([0.6, 0.2, 0.5, 0.1] * 50), np.array([0.3, 0.2, 0.4, 0.2] * 50), np.arange(200)
    once = training.compare(own, theirs, who)
    twice = training.compare(np.tile(own, 2), np.tile(theirs, 2), np.tile(who, 2))
    assert once == twice and once.low < once.better < once.high
    assert once.better == pytest.approx(own.mean() / theirs.mean() - 1)


def read(tmp_path: Path, tables: dict[str, Any]) -> list[dict[str, Any]]:
    lake = lake_with(tmp_path, tables)
    with lake.read(T) as reading:
        rows = reading.arrow(evidence.active_hours(reading.table, T, SHOP))
    return sorted(rows.to_pylist(), key=lambda row: (row["customer_id"], row["channel"], row["hour"]))


def test_active_hours_are_local_and_count_once(tmp_path: Path) -> None:
    night = datetime(2026, 6, 1, 22, 10, tzinfo=UTC)  # a Monday
    rows = read(
        tmp_path,
        {
            "customers": [{"customer_id": "a", "timezone": "Asia/Seoul"}],
            "events": [
                event("1", "a", night, "view_item"),
                event("2", "a", night.replace(minute=50), "view_item"),
                event("3", "a", ago(400), "view_item"),
                event("4", "b", night, "search", channel="store"),
                event("5", None, night, "search"),
            ],
            **orders(order("1", "a", night.replace(minute=55), ("p", 1, 5))),
        },
    )
    found = [(row["customer_id"], int(evidence.slot_of(np.array(row["hour"]))), row["kind"]) for row in rows]
    assert found == [("a", 24 + 7, ORDERED), ("b", 22, evidence.IN_STORE)]
    assert all(row["channel"] == OWN and row["sent"] == 0 and row["lag"] == -1 for row in rows)


def test_openings_by_machines_are_left_out(tmp_path: Path) -> None:
    def came(message_id: str, what: str, seconds: float, **more: Any) -> dict[str, Any]:
        at = ago(2, seconds=-seconds)
        return {"event_id": f"{message_id}{what}{seconds}", "message_id": message_id, "event": what,
                "occurred_at": at} | more  # fmt: skip

    rows = read(
        tmp_path,
        {
            "messages_history": [
                {"message_id": m, "customer_id": m, "channel": "push" if m == "p" else "email", "sent_at": ago(2)}
                for m in "mnop"
            ],
            "message_events": [
                came("m", "delivered", 3600), came("m", "opened", 3604),  # four seconds after the delivery
                came("n", "opened", 7200, attributes='{"machine": true}'),
                came("o", "delivered", 5), came("o", "opened", 7300), came("o", "clicked", 7400),
                came("p", "clicked", 4),
            ],
            "events": [event("1", "o", ago(2, seconds=-7410), "view_item", click_id="o")],
        },
    )  # fmt: skip
    by_kind = {(row["customer_id"], row["channel"], row["kind"]): row for row in rows}
    answered = [key for key in by_kind if key[2] not in (SENT,)]
    assert answered == [("o", OWN, evidence.FOLLOWED), ("o", "email", CLICKED), ("p", "push", CLICKED)]
    assert by_kind["o", "email", CLICKED]["lag"] == 2 and by_kind["p", "push", CLICKED]["sent"] == 1
    assert sum(row["sent"] for row in rows) == 4


def test_rows_become_arrays_of_the_customers_asked_for(tmp_path: Path) -> None:
    lake = lake_with(tmp_path, {"events": [event(f"{n}", f"c{n}", ago(n), "search") for n in range(1, 4)]})
    with lake.read(T) as reading:
        rows = reading.arrow(evidence.active_hours(reading.table, T, SHOP))
    everybody = Hours.of(rows.to_batches(), T)
    assert everybody.customer_ids.tolist() == ["c1", "c2", "c3"] and len(everybody) == 3
    some = Hours.of(rows.to_batches(), T, np.array(["c3", "other"]))
    assert some.customer.tolist() == [0] and some.day.tolist() == [3]
    assert len(Hours.of([], T)) == 0
