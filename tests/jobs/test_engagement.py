"""What was sent and what came back reaches the lake: known when it was, once, beside what a shop delivers itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import yaml
from controltower import clock
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.jobs.engagement import publish_engagement
from controltower.jobs.privacy import erase_person
from controltower.jobs.profiles import build_profiles
from controltower.ledger import plans
from controltower.ledger.database import begin
from controltower.models.channel.sends import read_recent, read_sends
from controltower.models.send_time.evidence import active_hours
from controltower.models.uplift.trials import prepared, read_trials
from controltower.profiles.features import features
from controltower.settings import Settings
from support.sent_messages import answer, message_ids, plan, send
from support.shop_tables import SHOP, lake_with

MONDAY = datetime(2026, 6, 15, 3, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

# What the lake and its rules decide, whatever the database of the ledger.
ON_ONE_DATABASE = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)


@pytest.fixture
def shop(ledger_settings: Settings) -> Settings:
    (ledger_settings.home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    clock.set_clock(ledger_settings, MONDAY + 20 * DAY, speed=0)
    return ledger_settings


def rows(settings: Settings, table: str, as_of: datetime | None = None) -> list[dict[str, Any]]:
    with Lake(settings).read(as_of) as reading:
        found = reading.table(table)
        return reading.arrow(found.order_by(found.message_id)).to_pylist()


def supersede(settings: Settings, occurrence: str, at: datetime) -> None:
    with begin(settings) as ledger:
        occurrence_id = plans.lock_occurrence(ledger, "spring", occurrence, at)
        plans.cancel_unsent(ledger, occurrence_id, reason="replanned", now=at, superseded=True)


def files(settings: Settings) -> dict[str, set[str]]:
    """The files of each interval."""
    manifest = json.loads((settings.home / "lake" / "manifest.json").read_text())
    found: dict[str, set[str]] = {}
    for loads in manifest["tables"].values():
        for interval, load in loads.items():
            found.setdefault(interval, set()).update(part[0] for part in load["parts"])
    return found


def test_sends_and_answers_are_known_when_they_were(shop: Settings) -> None:
    run_id = plan(shop, MONDAY, ["a", "b", "a", "b"])
    send(shop, MONDAY + HOUR, ["sent", "rejected", "unknown"])
    ids = message_ids(shop, run_id)
    answer(shop, ids["c0"], "opened", MONDAY + 2 * HOUR, machine=True, provider="sendgrid")
    answer(shop, ids["c0"], "clicked", MONDAY + DAY, happened=MONDAY + 3 * HOUR, detail={"product_id": "p1", "ip": "x"})
    answer(shop, "f" * 32, "clicked", MONDAY + DAY)  # of a message that is not ours
    report = publish_engagement()
    assert (report["messages"], report["events"], report["days"]) == (2, 2, ["2026-06-15", "2026-06-16"])

    messages = {r["customer_id"]: r for r in rows(shop, "messages_history")}
    assert set(messages) == {"c0", "c3"}, "neither what was refused nor what is unknown"
    assert {k: messages["c0"][k] for k in ("message_id", "campaign", "channel", "variant", "propensity")} == {
        "message_id": ids["c0"], "campaign": "spring", "channel": "email", "variant": "a", "propensity": 0.45
    }  # fmt: skip
    assert messages["c0"]["sent_at"] == MONDAY + HOUR
    assert rows(shop, "messages_history", MONDAY) == []

    opened, clicked = sorted(rows(shop, "message_events"), key=lambda r: r["received_at"])
    assert json.loads(opened["attributes"]) == {"provider": "sendgrid", "machine": True}
    assert json.loads(clicked["attributes"]) == {"provider": "controltower", "machine": False, "product_id": "p1"}
    assert (clicked["occurred_at"], clicked["received_at"]) == (MONDAY + 3 * HOUR, MONDAY + DAY)
    assert [r["event"] for r in rows(shop, "message_events", MONDAY + 4 * HOUR)] == ["opened"]


def test_running_again_writes_only_days_with_news(shop: Settings) -> None:
    run_id = plan(shop, MONDAY, ["a", "b"])
    send(shop, MONDAY + HOUR, ["sent", "unknown"])
    ids = message_ids(shop, run_id)
    answer(shop, ids["c0"], "clicked", MONDAY + HOUR)
    answer(shop, ids["c0"], "clicked", MONDAY + DAY)
    publish_engagement()
    before = files(shop)
    assert publish_engagement()["days"] == [] and files(shop) == before

    answer(shop, ids["c0"], "unsubscribed", MONDAY + DAY + HOUR)
    assert publish_engagement()["days"] == ["2026-06-16"]
    after = files(shop)
    assert after["ledger/2026-06-15"] == before["ledger/2026-06-15"]
    assert after["ledger/2026-06-16"] != before["ledger/2026-06-16"]

    answer(shop, ids["c1"], "delivered", MONDAY + 3 * DAY)  # so it had left, on Monday
    report = publish_engagement()
    assert (report["days"], report["messages"]) == (["2026-06-15", "2026-06-18"], 2)
    assert [r["sent_at"] for r in rows(shop, "messages_history")] == [MONDAY + HOUR] * 2
    assert len({r["event_id"] for r in rows(shop, "message_events")}) == len(rows(shop, "message_events")) == 4


def test_a_past_day_can_be_published_and_the_rest_later(shop: Settings) -> None:
    for day in range(12):
        run_id = plan(shop, MONDAY + day * DAY, ["a"])
        send(shop, MONDAY + day * DAY)
        answer(shop, message_ids(shop, run_id)["c0"], "clicked", MONDAY + day * DAY + HOUR)
    assert len(publish_engagement(as_of=(MONDAY + 2 * DAY).isoformat())["days"]) == 3
    assert len(publish_engagement()["days"]) == 9
    assert len(rows(shop, "messages_history")) == len(rows(shop, "message_events")) == 12
    clock.set_clock(shop, MONDAY + DAY, speed=0)  # a clock that was set back loses nothing
    answer(shop, message_ids(shop, run_id)["c0"], "opened", MONDAY + DAY)
    assert publish_engagement()["days"] == ["2026-06-16"]


def test_what_a_shop_delivers_of_another_system_stays(shop: Settings) -> None:
    past = {"message_id": "old", "customer_id": "c0", "channel": "email", "sent_at": MONDAY - DAY}
    reported = {"event_id": "e", "message_id": "old", "event": "clicked", "occurred_at": MONDAY}
    run_id = plan(shop, MONDAY, ["a"])
    send(shop, MONDAY)
    answer(shop, message_ids(shop, run_id)["c0"], "clicked", MONDAY)
    publish_engagement()
    for _ in range(2):
        lake_with(shop.home, {"messages_history": [past], "message_events": [reported]}, "../2026-06-16T00:00:00Z")
        publish_engagement()
        assert len(rows(shop, "messages_history")) == len(rows(shop, "message_events")) == 2


def test_who_was_held_out_is_a_control_once_something_was_sent(shop: Settings) -> None:
    """Under an id of its own, which doesn't change; and no run that sent nothing has controls."""
    held = [("h1", "holdout"), ("h2", "global_holdout")]
    plan(shop, MONDAY, ["a", "a"], held=held)
    plan(shop, MONDAY + DAY, ["a"], campaign="unsent", held=held, hold="approval")
    assert publish_engagement()["days"] == []
    send(shop, MONDAY + HOUR)
    assert publish_engagement()["messages"] == 4
    before = files(shop)
    assert publish_engagement()["days"] == [] and files(shop) == before
    controls = [r for r in rows(shop, "messages_history") if r["treatment"] == "holdout"]
    assert {r["customer_id"] for r in controls} == {"h1", "h2"} and len({r["message_id"] for r in controls}) == 2
    for row in controls:
        assert (row["campaign"], row["channel"], row["sent_at"]) == ("spring", "email", MONDAY)
        assert row["propensity"] == pytest.approx(0.05 + 0.95 * 0.1), "of nothing being sent, by either holdout"
    plan(shop, MONDAY + DAY, ["a"], held=held)
    send(shop, MONDAY + DAY + HOUR)
    assert publish_engagement()["days"] == ["2026-06-16"]
    assert len(rows(shop, "messages_history")) == 4 + 3


def test_a_later_version_of_an_occurrence_moves_nobody(shop: Settings) -> None:
    """Who was held out counts from when the first one began that called a provider, however long ago that is."""
    plan(shop, MONDAY - DAY, ["a"], occurrence="sale", held=[("h0", "holdout")], hold="approval")
    supersede(shop, "sale", MONDAY)
    plan(shop, MONDAY, ["a"], occurrence="sale", held=[("h1", "holdout")])
    send(shop, MONDAY + HOUR)
    plan(shop, MONDAY + 9 * DAY, ["a"], campaign="other")
    send(shop, MONDAY + 9 * DAY)
    assert publish_engagement()["messages"] == 3
    before = rows(shop, "messages_history")
    supersede(shop, "sale", MONDAY + 10 * DAY)
    plan(shop, MONDAY + 10 * DAY, ["", "a"], occurrence="sale", held=[("h1", "holdout"), ("h2", "holdout")])
    send(shop, MONDAY + 10 * DAY)
    assert publish_engagement()["days"] == ["2026-06-15", "2026-06-25"]
    after = rows(shop, "messages_history")
    assert [r for r in after if r["customer_id"] not in ("h2", "c1")] == before
    controls = {r["customer_id"]: r["sent_at"] for r in after if r["treatment"] == "holdout"}
    assert controls == {"h1": MONDAY, "h2": MONDAY} and len(after) == 5
    assert publish_engagement()["days"] == []


@ON_ONE_DATABASE
def test_a_lake_without_holdouts_gets_those_of_all_times(shop: Settings) -> None:
    """As one has that was filled before holdouts were brought into it."""
    for day in range(0, 20, 9):
        plan(shop, MONDAY + day * DAY, ["a"], held=[("h1", "holdout")])
        send(shop, MONDAY + day * DAY)
    publish_engagement()
    whole = rows(shop, "messages_history")
    lake, made = Lake(shop), CONTRACT["messages_history"].schema
    for interval in lake.intervals("messages_history"):
        sends = [r for r in whole if interval.endswith(str(r["sent_at"].date())) and r["treatment"] == "message"]
        written = lake.write("messages_history", pa.Table.from_pylist(sends, schema=made))
        lake.commit(interval, {"messages_history": written})
    assert len(rows(shop, "messages_history")) == 3
    assert len(publish_engagement()["days"]) == 3
    assert rows(shop, "messages_history") == whole and len(whole) == 6


def test_who_was_held_out_was_sent_nothing(shop: Settings) -> None:
    """Neither features, nor send times, nor channels take controls for sends; uplift is learned from them."""
    plan(shop, MONDAY, ["a"], held=[("h1", "holdout")])
    send(shop, MONDAY)
    known = [{"customer_id": c, "signed_up_at": MONDAY} for c in ("c0", "h1")]
    lake = lake_with(shop.home, {"customers": known})
    publish_engagement()
    at = MONDAY + 15 * DAY
    with lake.read(at) as reading:
        counted = reading.arrow(features(reading.table, at, SHOP)).to_pylist()
        assert {r["customer_id"]: r["messages_30d"] for r in counted} == {"c0": 1, "h1": 0}
        assert reading.frame(read_sends(reading.table, at, SHOP))["customer_id"].tolist() == ["c0"]
        assert reading.frame(read_recent(reading.table, at))["customer_id"].tolist() == ["c0"]
        hours = reading.frame(active_hours(reading.table, at, SHOP))
        assert set(hours["customer_id"]) == {"c0"}
        trial = prepared(reading.frame(read_trials(reading.table, at, SHOP))).set_index("customer_id")
    assert trial["treated"].to_dict() == {"c0": 1, "h1": 0}
    built = build_profiles(at.isoformat())  # by the rolling way
    with lake.read(at) as reading:
        rolled = reading.frame(reading.derived("features")).set_index("customer_id")["messages_30d"]
    assert built["customers"] == 2 and rolled.to_dict() == {"c0": 1, "h1": 0}


@ON_ONE_DATABASE
def test_who_was_erased_is_not_brought_back_under_the_pseudonym(shop: Settings) -> None:
    run_id = plan(shop, MONDAY, ["a", "b"], held=[("h1", "holdout"), ("h2", "holdout")])
    send(shop, MONDAY)
    for message_id in message_ids(shop, run_id).values():
        answer(shop, message_id, "clicked", MONDAY + HOUR)
    publish_engagement()
    erase_person("c0", "Ann")
    erase_person("h1", "Ann")
    answer(shop, message_ids(shop, run_id)["c1"], "opened", MONDAY + HOUR)  # so the day is published anew
    assert publish_engagement()["days"] == ["2026-06-15"]
    assert {r["customer_id"] for r in rows(shop, "messages_history")} == {"c1", "h2"}
    assert [r["event"] for r in rows(shop, "message_events")] == ["clicked", "opened"]


def test_an_empty_ledger_publishes_nothing(shop: Settings) -> None:
    assert publish_engagement() | {"as_of": ""} == {"as_of": "", "days": [], "messages": 0, "events": 0}


@ON_ONE_DATABASE
def test_features_of_a_past_day_stay_whatever_comes_later(shop: Settings) -> None:
    run_id = plan(shop, MONDAY, ["a", "b"])
    send(shop, MONDAY)
    ids = message_ids(shop, run_id)
    answer(shop, ids["c0"], "clicked", MONDAY + HOUR)
    answer(shop, ids["c1"], "clicked", MONDAY + HOUR, machine=True)
    lake = lake_with(shop.home, {"customers": [{"customer_id": f"c{n}", "signed_up_at": MONDAY} for n in range(2)]})
    publish_engagement()
    names = ("messages_30d", "clicks_30d", "unsubscribed_90d")

    def told() -> list[tuple[float, ...]]:
        at = MONDAY + DAY
        with lake.read(at) as reading:
            found = reading.arrow(features(reading.table, at, SHOP)).to_pylist()
        return [tuple(r[n] for n in names) for r in found]

    assert told() == [(1, 1, 0), (1, 0, 0)]
    answer(shop, ids["c1"], "unsubscribed", MONDAY + 2 * DAY, happened=MONDAY + HOUR)
    assert publish_engagement()["events"] == 1
    assert told() == [(1, 1, 0), (1, 0, 0)]
