"""Send hours: habits that are there are found, those that are not are left to everyone's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from controltower.models import timing
from controltower.models.timing import BestHour, OwnHour
from controltower.profiles.portable import DAY
from support.shop_tables import SHOP, T, ago, event, lake_with, order, orders

NOW = int(T.timestamp())


def habits(own: bool, customers: int = 300, each: int = 30) -> pd.DataFrame:
    """Active hours over 120 days: around an hour of the customer's own, or around 20 for everyone; a fifth anywhere."""
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(customers), each)
    centre = (who * 7) % 24 if own else np.full(len(who), 20)
    hour = (centre + rng.integers(-1, 2, len(who))) % 24
    hour = np.where(rng.random(len(who)) < 0.2, rng.integers(0, 24, len(who)), hour)
    second = NOW - rng.integers(1, 120, len(who)) * DAY
    return pd.DataFrame({"customer_id": [f"c{i}" for i in who], "hour": hour, "second": second, "by_click": False})


def test_planted_hours_are_found() -> None:
    outcome = timing.train(habits(own=True), T)
    assert outcome.published and isinstance(outcome.model, OwnHour)
    assert outcome.metrics["hits_3h"] > outcome.baseline_metrics["hits_3h"] + 0.3
    people = np.array([f"c{i}" for i in range(300)])
    found = outcome.model.predict(people, habits(own=True))
    off = (found["send_hour"] - np.arange(300) * 7 + 12) % 24 - 12
    assert (off.abs() <= 1).mean() > 0.95
    assert found["send_hour_weight"].between(0.2, 1).all()


def test_everyones_hour_serves_where_there_are_no_habits() -> None:
    outcome = timing.train(habits(own=False), T)
    assert not outcome.published and isinstance(outcome.model, BestHour)
    chosen = outcome.model.predict(np.array(["c1", "stranger"]), habits(own=False))
    assert chosen["send_hour"].tolist() == [20, 20]
    assert chosen["send_hour_weight"].tolist() == [0, 0]


def test_few_own_hours_hardly_count() -> None:
    model = OwnHour().fit(habits(own=False))
    once = pd.DataFrame({"customer_id": ["a"], "hour": [3], "second": [NOW], "by_click": False})
    often = pd.concat([once] * 60)
    assert model.predict(np.array(["a"]), once)["send_hour"].tolist() == [20]
    assert model.predict(np.array(["a"]), often)["send_hour"].tolist() == [3]


def test_midnight_is_next_to_eleven() -> None:
    hours = pd.DataFrame({"customer_id": "a", "hour": [23] * 40 + [0] * 45 + [1] * 40 + [12] * 50})
    hours = hours.assign(second=NOW, by_click=False)
    model = OwnHour().fit(hours)
    assert model.predict(np.array(["a"]), hours)["send_hour"].tolist() == [0]


def test_an_empty_shop_gets_a_daytime_hour() -> None:
    none = habits(own=True).iloc[:0]
    outcome = timing.train(none, T)
    assert isinstance(outcome.model, BestHour) and "Only 0 customers" in outcome.why
    assert outcome.model.predict(np.array(["a"]), none)["send_hour"].tolist() == [timing.DAYTIME_HOUR]


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    hours = habits(own=True)
    for kind in timing.KINDS:
        model = kind().fit(hours)
        (tmp_path / kind.name).mkdir()
        model.save(tmp_path / kind.name)
        people = hours["customer_id"].unique()
        assert kind.load(tmp_path / kind.name).predict(people, hours).equals(model.predict(people, hours))


def test_a_click_counts_but_less_than_an_hour_of_ones_own() -> None:
    """We wrote at 21 for two weeks and got a click each time; she comes by herself at 12, half as often."""
    clicked = pd.DataFrame({"customer_id": "a", "hour": [21] * 14, "second": NOW, "by_click": True})
    own = pd.DataFrame({"customer_id": "a", "hour": [12] * 7, "second": NOW, "by_click": False})
    everyone = habits(own=False)
    who = np.array(["a"])
    both = pd.concat([clicked, own])
    for weight, hour in ((0.3, 12), (1.0, 21)):
        model = OwnHour(OwnHour.Config(strength=2, click_weight=weight)).fit(everyone)
        assert abs(model.predict(who, both)["send_hour"][0] - hour) <= 1
    model = OwnHour(OwnHour.Config(strength=2)).fit(habits(own=True))
    alone = model.predict(who, clicked)
    assert abs(alone["send_hour"][0] - 21) <= 1, "where nothing else is known, clicks do tell"
    assert alone["send_hour_weight"].tolist() == pytest.approx([14 * 0.3 / (14 * 0.3 + 2)])


def test_active_hours_are_local_and_count_once(tmp_path: Path) -> None:
    night = datetime(2026, 6, 1, 22, 10, tzinfo=UTC)
    lake = lake_with(
        tmp_path,
        {
            "customers": [{"customer_id": "a", "timezone": "Asia/Seoul"}],
            "events": [
                event("1", "a", night, "view_item"),
                event("2", "a", night.replace(minute=50), "view_item"),
                event("3", "a", ago(300), "view_item"),
                event("4", "b", night, "search"),
            ],
            **orders(order("1", "a", ago(3), ("p", 1, 5))),
        },
    )
    with lake.read(T) as reading:
        rows = reading.frame(timing.active_hours(reading.table, T, SHOP))
    assert rows[["customer_id", "hour"]].to_numpy().tolist() == [["a", 7], ["a", 9], ["b", 22]]
    assert not rows["by_click"].any()


def test_hours_that_only_our_own_messages_show_are_marked(tmp_path: Path) -> None:
    def sent(message_id: str, customer: str) -> dict[str, object]:
        return {"message_id": message_id, "customer_id": customer, "channel": "email", "sent_at": ago(3)}

    def came(message_id: str, event: str, hours: float, **more: object) -> dict[str, object]:
        at = ago(2, hours=-hours)
        return {
            "event_id": f"{message_id}{event}{hours}",
            "message_id": message_id,
            "event": event,
            "occurred_at": at,
        } | more

    lake = lake_with(
        tmp_path,
        {
            "messages_history": [sent("m", "a"), sent("n", "b")],
            "message_events": [
                came("m", "clicked", 9.1),
                came("m", "clicked", 9.5),
                came("m", "opened", 15),
                came("m", "clicked", 18, attributes='{"machine": true}'),
                came("n", "clicked", 20),
            ],
            "events": [
                event("1", "a", ago(2, hours=-10), "view_item", click_id="m"),
                event("2", "b", ago(2, hours=-20.5), "view_item"),
            ],
        },
    )
    with lake.read(T) as reading:
        rows = reading.frame(timing.active_hours(reading.table, T, SHOP))
    assert rows[["customer_id", "hour", "by_click"]].to_numpy().tolist() == [
        ["a", 9, True], ["a", 10, True], ["b", 20, False]
    ]  # fmt: skip
