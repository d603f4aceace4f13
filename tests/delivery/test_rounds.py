"""What goes out in one round: as many calls as may be under way, of messages that were just checked."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from controltower.campaigns.specs import find_spec
from controltower.data.lake import Lake
from controltower.delivery import sending
from controltower.delivery.providers.base import Parcel, Provider, Result
from controltower.delivery.providers.sendgrid import SendGrid
from controltower.ledger import consents, suppressions, tables
from controltower.ledger.database import begin
from support import small_shop
from support.lakes import publish_rows
from support.small_shop import rows

from .conftest import AT_ONCE, NOW, Desk
from .test_batches import rename


def test_a_push_with_no_device_left_to_try_ends_by_the_others(desk: Desk) -> None:
    known = NOW - timedelta(hours=1)
    publish_rows(Lake(desk.settings), "devices", "second", rows("devices", {
        "device_id": "second-c0", "customer_id": "c0", "push_token": "token-second", "platform": "android",
        "updated_at": known, "last_seen_at": known,
    }))  # fmt: skip
    with desk.settings.shop_file.open("a", encoding="utf-8") as shop:
        shop.write("providers: {fcm: {pause_after_unknown: 0}}\n")
    desk.customers = ["c0"]
    desk.plan("push")
    desk.fault("429")
    desk.fault("500")
    assert desk.dispatch().requests == {"retry": 1, "unknown": 1}
    r, o = tables.requests.c, tables.outcomes.c
    with begin(desk.settings) as ledger:
        device = ledger.execute(sa.select(r.device_id).where(r.state == "retry")).scalar_one()
        suppressions.add(ledger, "device", device, channel="push", reason="app_removed", source="test", now=NOW)
    desk.retry_now()
    assert desk.dispatch().batches == 1
    with begin(desk.settings) as ledger:
        assert ledger.execute(sa.select(o.state, o.reason)).tuples().all() == [("unknown", "no_device")]


def test_no_more_layouts_leave_at_once_than_calls_may(batching_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = batching_desk
    desk.customers = [f"c{n}" for n in range(2 * AT_ONCE + 3)]
    small_shop.write_shop(desk.settings, desk.customers, NOW)
    rename(desk, {c: "x" * (n + 1) for n, c in enumerate(desk.customers)})
    variants = find_spec(desk.settings.campaigns, "picked_for_you").model_dump(mode="json")["variants"]
    for variant in variants:  # a layout for each length of name
        variant["subject"] = {"ko": "{% for _ in customer.first_name %}a{% endfor %}"}
    desk.plan(variants=variants)
    monkeypatch.setattr(SendGrid, "calls_at_once", AT_ONCE)
    rounds: list[int] = []
    real = sending.wait

    def wait(posts: list[object]) -> object:
        rounds.append(len(posts))
        return real(posts)  # type: ignore[arg-type]

    monkeypatch.setattr(sending, "wait", wait)
    desk.dispatch()
    assert max(rounds) <= AT_ONCE
    assert sum(rounds) == len(desk.customers) == desk.caught()["mails"]


def test_halves_of_what_was_refused_together_are_checked_again(
    batching_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = batching_desk
    desk.plan()
    real = sending._post

    def post(provider: Provider, parcel: Parcel) -> Result:
        monkeypatch.setattr(sending, "_post", real)
        result = real(provider, parcel)
        withdrawn = {"channel": "email", "purpose": "marketing", "granted": False, "recorded_at": NOW, "source": "page"}
        with begin(desk.settings) as ledger:
            consents.record(ledger, [{"customer_id": c, **withdrawn} for c in desk.customers[1:]])
        return result

    monkeypatch.setattr(sending, "_post", post)
    desk.fault("400")
    report = desk.dispatch()
    assert report.refused == {"no_consent": len(desk.customers) - 1}
    assert desk.caught()["mails"] == 1


def test_the_pause_of_a_message_grows_up_to_an_hour() -> None:
    from controltower.ledger.work import Batch, Call, Message

    def pause(tries: int) -> float:
        calls = tuple(Call(n, "smtp", None, 1, "retry", "x", NOW + timedelta(seconds=n)) for n in range(tries))
        one = Message(1, "0" * 32, 1, "c0")
        return sending._pause(Batch(1, 1, "email", "a", NOW, NOW, 1, 1, (one,), {}, calls))

    assert [pause(n) for n in (0, 1, 2, 2000)] == [30, 60, 120, 3600]
