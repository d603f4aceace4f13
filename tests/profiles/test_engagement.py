"""What messages brought: each feature against the same thing counted row by row in plain Python."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
from controltower.data.lake import Lake
from controltower.profiles.features import features
from controltower.profiles.features.messages import MORE_CLICKS, MORE_MESSAGES
from support.shop_tables import SHOP, T, ago, lake_with

NAMES = (
    "messages_30d messages_90d emails_30d pushes_30d days_since_last_message opens_30d clicks_30d clicks_90d click_rate"
    " days_since_last_click unsubscribed_90d"
).split()
CUSTOMERS = [f"c{n}" for n in range(12)]


def frame(lake: Lake) -> pd.DataFrame:
    with lake.read(T) as reading:
        rows = reading.arrow(features(reading.table, T, SHOP)).to_pandas()
    return rows.set_index("customer_id")[NAMES]


def sent(message_id: str, customer: str, days: float, channel: str = "email") -> dict[str, Any]:
    return {"message_id": message_id, "customer_id": customer, "channel": channel, "sent_at": ago(days)}


def came(event_id: str, message_id: str, event: str, days: float, **more: Any) -> dict[str, Any]:
    about = json.dumps({"machine": more.pop("machine")}) if "machine" in more else None
    return {
        "event_id": event_id, "message_id": message_id, "event": event, "occurred_at": ago(days), "attributes": about
    } | more  # fmt: skip


def shop(home: Path, messages: list[dict[str, Any]], events: list[dict[str, Any]]) -> Lake:
    known = [{"customer_id": c, "signed_up_at": ago(400), "updated_at": ago(400)} for c in CUSTOMERS]
    return lake_with(home, {"customers": known, "messages_history": messages, "message_events": events})


def by_hand(customer: str, messages: list[dict[str, Any]], events: list[dict[str, Any]]) -> dict[str, float]:
    """The reference: one customer, one row after the other."""
    mine = [m for m in messages if m["customer_id"] == customer and m["sent_at"] <= T]
    of_mine = {m["message_id"] for m in mine}
    back = [
        e for e in events
        if e["message_id"] in of_mine and max(e["occurred_at"], e.get("received_at") or e["occurred_at"]) <= T
        and not json.loads(e["attributes"] or "{}").get("machine")
    ]  # fmt: skip

    def age(moment: Any) -> float:
        return (int(T.timestamp()) - math.floor(moment.timestamp())) / 86_400

    def reacted(event: str, days: int) -> set[str]:
        return {e["message_id"] for e in back if e["event"] == event and age(e["occurred_at"]) < days}

    def within(days: int, channel: str | None = None) -> list[str]:
        return [m["message_id"] for m in mine if age(m["sent_at"]) < days and channel in (None, m["channel"])]

    clicks = [e for e in back if e["event"] == "clicked"]
    ever_clicked = {e["message_id"] for e in clicks}
    recent = within(90)
    rate = (len(ever_clicked & set(recent)) + MORE_CLICKS) / (len(recent) + MORE_MESSAGES)
    return {
        "messages_30d": len(within(30)),
        "messages_90d": len(recent),
        "emails_30d": len(within(30, "email")),
        "pushes_30d": len(within(30, "push")),
        "days_since_last_message": min((age(m["sent_at"]) for m in mine), default=math.nan),
        "opens_30d": len(reacted("opened", 30)),
        "clicks_30d": len(reacted("clicked", 30)),
        "clicks_90d": len(reacted("clicked", 90)),
        "click_rate": rate if recent else math.nan,
        "days_since_last_click": min((age(e["occurred_at"]) for e in clicks), default=math.nan),
        "unsubscribed_90d": len(reacted("unsubscribed", 90)),
    }  # fmt: skip


def test_every_feature_is_what_counting_row_by_row_gives(tmp_path: Path) -> None:
    rng = random.Random(8)
    messages = [
        sent(f"m{n}", rng.choice(CUSTOMERS[:10]), rng.uniform(-5, 200), rng.choice(["email", "push", "sms"]))
        for n in range(400)
    ]
    events = []
    for n in range(1500):
        m = rng.choice(messages)
        at = m["sent_at"] + (T - ago(1)) * rng.random() * 20
        late = {"received_at": at + (T - ago(1)) * rng.random() * 10}
        name = rng.choice(["delivered", "opened", "clicked", "clicked", "unsubscribed", "bounced"])
        about = {"machine": rng.random() < 0.5} if rng.random() < 0.7 else {}
        events.append(came(f"e{n}", m["message_id"], name, 0, **about) | {"occurred_at": at} | late)
    found = frame(shop(tmp_path, messages, events))
    assert list(found.index) == sorted(CUSTOMERS)
    for customer in CUSTOMERS:
        wanted = by_hand(customer, messages, events)
        for name in NAMES:
            got = found.loc[customer, name]
            assert got == wanted[name] or (math.isnan(got) and math.isnan(wanted[name])), (customer, name)


def test_programs_openings_and_clicks_do_not_count_however_it_is_written(tmp_path: Path) -> None:
    events = [
        came("1", "m", "opened", 1, attributes='{"machine":true}'),
        came("2", "m", "clicked", 1, attributes='{ "provider": "x", "machine": true }'),
        came("3", "n", "opened", 1, attributes='{"machine":false}'),
        came("4", "n", "clicked", 1),
    ]
    found = frame(shop(tmp_path, [sent("m", "c1", 2), sent("n", "c2", 2)], events))
    assert found.loc["c1", ["opens_30d", "clicks_30d"]].tolist() == [0, 0]
    assert found.loc["c2", ["opens_30d", "clicks_30d"]].tolist() == [1, 1]


def test_without_messages_counts_are_zero_and_the_rest_unknown(tmp_path: Path) -> None:
    found = frame(shop(tmp_path, [], []))
    for name in NAMES:
        known = name.endswith("d")
        assert (found[name] == 0).all() if known else found[name].isna().all(), name


def test_few_messages_say_little_of_a_click_rate(tmp_path: Path) -> None:
    messages = [sent("one", "c1", 2), *(sent(f"m{n}", "c2", 2) for n in range(80))]
    events = [came("1", "one", "clicked", 1), *(came(f"e{n}", f"m{n}", "clicked", 1) for n in range(20))]
    rates = frame(shop(tmp_path, messages, events))["click_rate"]
    assert rates["c1"] == (1 + MORE_CLICKS) / (1 + MORE_MESSAGES) < rates["c2"] < 0.25
