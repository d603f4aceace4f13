"""The dispatcher against a real sandbox: what is due leaves once, and every fault leaves a true ledger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa
from controltower import clock, settings
from controltower.delivery import sending
from controltower.delivery.dispatch import raise_trouble
from controltower.delivery.policy import unfit_to_send
from controltower.delivery.providers.registry import provider_of
from controltower.errors import BadSettings, ProviderDown
from controltower.jobs.signing_key import start_key
from controltower.ledger import consents, plans, runs, suppressions, tables, work
from controltower.ledger.database import begin
from controltower.shop import Shop
from pydantic import SecretStr

from .conftest import AT_ONCE, CUSTOMERS, NOW, Desk

N = len(CUSTOMERS)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("channel", "provider"), [("email", "sendgrid"), ("push", "fcm")])
def test_what_is_due_leaves_once(desk: Desk, channel: str, provider: str) -> None:
    desk.plan(channel)
    assert desk.dispatch().requests == {"sent": N}
    assert desk.dispatch().requests == {}
    assert desk.totals().accepted == {provider: N}
    caught = desk.caught()
    assert (caught["mails"] + caught["pushes"], caught["message_ids"], caught["duplicates"]) == (N, N, 0)


def test_nothing_leaves_before_it_is_due(desk: Desk) -> None:
    desk.plan(due_at=NOW + HOUR)
    assert desk.dispatch().batches == 0
    report = desk.dispatch(NOW + HOUR)
    assert (report.requests, report.refused, report.trouble) == ({"sent": N}, {}, {})


def test_the_mail_is_the_customers_own(desk: Desk, messages: Callable[[str], list[dict[str, Any]]]) -> None:
    desk.plan()
    desk.dispatch()
    with begin(desk.settings) as ledger:
        message_id = ledger.execute(
            sa.select(tables.messages.c.message_id).where(tables.messages.c.customer_id == "c3")
        ).scalar_one()
    (mail,) = messages(message_id)
    assert "c3@customers.example" in str(mail)
    assert "(광고) 민지님" in str(mail["content"])
    assert "상품 0" in str(mail["content"])


def test_what_changed_since_planning_is_heeded(desk: Desk) -> None:
    desk.plan()
    with begin(desk.settings) as ledger:
        withdrawn = {"customer_id": "c0", "channel": "email", "purpose": "marketing", "recorded_at": NOW,
                     "granted": False, "source": "page"}  # fmt: skip
        consents.record(ledger, [withdrawn])
        bounced = suppressions.address_hash(desk.settings.signing_key(), "C1@customers.example")
        suppressions.add(ledger, "address", bounced, reason="bounced", source="sendgrid", now=NOW)
        suppressions.add(ledger, "customer", "c2", reason="objected", source="desk", now=NOW)
    desk.dispatch(NOW + timedelta(minutes=1))
    totals = desk.totals()
    assert totals.not_sent == {"no_consent": 1, "suppressed": 2}
    assert totals.accepted == {"sendgrid": N - 3}


def test_frequency_caps_hold_over_campaigns(desk: Desk) -> None:
    for day in range(3):  # the shop allows two mails in seven days
        desk.plan(due_at=NOW + timedelta(days=day))
        desk.dispatch(NOW + timedelta(days=day))
    assert desk.totals().not_sent == {"frequency_cap": N}
    assert desk.caught()["mails"] == 2 * N


def test_a_cap_across_channels_counts_them_together_in_a_rolling_window(desk: Desk) -> None:
    """Four in seven days, whatever the channel; two mails and two pushes alone would be allowed more."""
    for day, channel in enumerate(("email", "push", "email", "push")):
        desk.plan(channel, due_at=NOW + timedelta(days=day))
        assert desk.dispatch(NOW + timedelta(days=day)).requests == {"sent": N}
    desk.plan("push", due_at=NOW + timedelta(days=4))
    assert desk.dispatch(NOW + timedelta(days=4)).refused == {"frequency_cap": N}
    desk.plan("push", due_at=NOW + timedelta(days=7))  # the first mail is seven days old
    assert desk.dispatch(NOW + timedelta(days=7)).requests == {"sent": N}


@pytest.mark.parametrize("channel", ["email", "push"])
def test_in_the_shops_quiet_hours_nothing_leaves(desk: Desk, channel: str) -> None:
    with desk.settings.shop_file.open("a") as shop:
        shop.write('quiet_hours: { start: "11:30", end: "13:00" }\n')
    desk.plan(channel)
    assert desk.dispatch(NOW).deferred == {"quiet_hours": N}
    assert desk.dispatch(NOW + timedelta(minutes=59)).batches == 0
    assert desk.dispatch(NOW + HOUR).requests == {"sent": N}


def test_a_push_waits_out_koreas_night(desk: Desk) -> None:
    desk.plan("push", due_at=NOW + 8 * HOUR)
    assert desk.dispatch(NOW + 10 * HOUR).deferred == {"night_in_korea": N}
    assert desk.dispatch(NOW + 19 * HOUR).batches == 0
    assert desk.dispatch(NOW + 20 * HOUR).requests == {"sent": N}


def test_too_late_is_dropped(desk: Desk) -> None:
    desk.plan()
    desk.dispatch(NOW + 25 * HOUR)
    assert desk.totals().not_sent == {"expired": N}


@pytest.mark.parametrize("kind", ["429", "503"])
@pytest.mark.parametrize("channel", ["email", "push"])
def test_a_provider_that_is_busy_gets_the_rest_later(desk: Desk, channel: str, kind: str) -> None:
    desk.plan(channel)
    asked = AT_ONCE if channel == "email" else N
    desk.fault(kind, count=asked, seconds=30)
    report = desk.dispatch()
    assert report.requests == {"retry": asked}
    with pytest.raises(ProviderDown):
        raise_trouble(report)
    assert desk.dispatch().batches == 0  # the pause holds
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": N}
    assert desk.caught()["duplicates"] == 0
    assert sum(desk.totals().accepted.values()) == N


def test_what_must_be_sent_again_waits_although_the_rest_left(desk: Desk) -> None:
    desk.plan()
    desk.fault("503", count=3)
    report = desk.dispatch()
    assert (report.requests, report.trouble) == ({"sent": N - 3, "retry": 3}, {})
    assert desk.dispatch().batches == 0
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": 3}


@pytest.mark.parametrize(("kind", "arrived"), [("500", 0), ("drop", 3)])
def test_a_lost_answer_is_unknown_and_not_sent_again(desk: Desk, kind: str, arrived: int) -> None:
    desk.plan()
    desk.fault(kind, count=3, seconds=0)
    desk.dispatch()
    desk.retry_now()
    desk.dispatch()
    totals = desk.totals()
    assert (totals.unknown, totals.accepted, totals.pending) == (3, {"sendgrid": N - 3}, 0)
    caught = desk.caught()
    assert (caught["mails"], caught["duplicates"]) == (N - 3 + arrived, 0)


def test_refused_credentials_stop_the_channel_and_lose_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.plan()
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", "SG.wrong")
    desk.settings = settings.Settings()
    report = desk.dispatch()
    assert "API key" in report.trouble["email"]
    assert desk.totals().pending == N
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", desk.sandbox.api_key)
    desk.settings = settings.Settings()
    desk.retry_now()
    assert desk.dispatch().requests == {"sent": N}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CONTROLTOWER_SENDGRID_URL", "http://127.0.0.1:9", "can't be reached"),
        ("CONTROLTOWER_SENDGRID_URL", "https://127.0.0.1:{port}", "can't be reached"),
        ("CONTROLTOWER_SENDGRID_URL", "http://127.0.0.1:{port}/v9", "CONTROLTOWER_SENDGRID_URL"),
        ("CONTROLTOWER_SENDGRID_API_KEY", "SG.with\r\ninside", "characters that no key has"),
        ("CONTROLTOWER_SENDGRID_API_KEY", None, "no SendGrid API key"),
    ],
)
def test_a_dead_or_unset_provider_is_named_and_the_other_channel_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, says: str
) -> None:
    desk.plan()
    desk.plan("push", due_at=NOW - timedelta(days=1) + 5 * HOUR)
    port = desk.sandbox.url.rpartition(":")[2]
    monkeypatch.setenv(name, value.format(port=port)) if value else monkeypatch.delenv(name)
    desk.settings = settings.Settings()
    report = desk.dispatch()
    assert says in report.trouble["email"]
    assert report.requests["sent"] == N
    assert desk.caught() == desk.caught() | {"mails": 0, "pushes": N}
    assert desk.pending("email") == N
    with pytest.raises(ProviderDown, match=says):
        raise_trouble(report)


def test_two_dispatchers_at_once_send_each_message_once(desk: Desk) -> None:
    desk.plan()
    desk.plan("push", due_at=NOW - timedelta(days=1) + 5 * HOUR)
    clock.set_clock(desk.settings, NOW, speed=0)
    threads = [Thread(target=desk.dispatch, args=(None,)) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    caught = desk.caught()
    assert (caught["mails"], caught["pushes"], caught["duplicates"]) == (N, N, 0)


def test_a_worker_killed_in_mid_send_leaves_unknowns_and_the_rest_goes_out(desk: Desk) -> None:
    desk.plan()
    with begin(desk.settings) as ledger:
        claimed = work.claim(ledger, NOW, ["email"])
        assert claimed
        batch, token = claimed
        work.open_requests(ledger, batch, token, "sendgrid", [([m.seq], None) for m in batch.messages[:2]], NOW)
    assert desk.dispatch().batches == 0  # its lease holds
    with begin(desk.settings) as ledger:
        ledger.execute(sa.update(tables.batches).values(lease_until=0.0))
    assert desk.dispatch().requests == {"sent": N - 2}
    assert desk.totals().unknown == 2


def test_a_template_edited_after_planning_holds_the_run_back(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.plan()
    edited = tmp_path / "templates"
    shutil.copytree(desk.settings.templates, edited)
    with (edited / "email" / "picked_for_you.txt").open("a") as f:
        f.write("edited\n")
    monkeypatch.setenv("CONTROLTOWER_TEMPLATES", str(edited))
    desk.settings = settings.Settings()
    report = desk.dispatch()
    assert "has changed since" in report.trouble[f"run {desk.run_id}"]
    assert desk.totals().pending == N
    desk.retry_now()
    desk.dispatch(NOW + 25 * HOUR)  # every message ends some time
    assert desk.totals().not_sent == {"expired": N}


def test_a_mail_held_up_until_after_the_window_waits_for_the_morning(desk: Desk) -> None:
    desk.plan(due_at=NOW + 8 * HOUR)
    assert desk.dispatch(NOW + 15 * HOUR).deferred == {"outside_window": N}
    assert desk.dispatch(NOW + 20 * HOUR).requests == {"sent": N}


def test_a_push_that_was_tried_waits_with_its_attempts(desk: Desk) -> None:
    desk.plan("push", due_at=NOW + 8 * HOUR)
    desk.fault("503", count=N)
    assert desk.dispatch(NOW + 8 * HOUR).requests == {"retry": N}
    desk.retry_now()
    assert desk.dispatch(NOW + 10 * HOUR).deferred == {"night_in_korea": N}
    desk.retry_now()
    assert desk.dispatch(NOW + 20 * HOUR).requests == {"sent": N}
    assert desk.caught()["duplicates"] == 0


def test_an_access_token_that_cannot_be_had_loses_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    account = json.loads(desk.sandbox.account_path.read_text())
    broken = desk.settings.home / "account.json"
    broken.write_text(json.dumps(account | {"token_uri": "http://127.0.0.1:9/token"}))
    monkeypatch.setenv("CONTROLTOWER_FCM_CREDENTIALS", str(broken))
    desk.settings = settings.Settings()
    desk.plan("push")
    report = desk.dispatch()
    assert "access token" in report.trouble["push"]
    assert (report.requests, desk.totals().pending) == ({}, N)


def test_a_run_that_was_cancelled_while_a_worker_held_it_sends_no_more(desk: Desk) -> None:
    desk.plan()
    with begin(desk.settings) as ledger:
        claimed = work.claim(ledger, NOW, ["email"])
        run = runs.known(ledger, desk.run_id)
        plans.cancel_unsent(ledger, run.occurrence_id, reason="cancelled", now=NOW, superseded=False)
    assert claimed
    with begin(desk.settings) as ledger:  # the worker died
        ledger.execute(sa.update(tables.batches).values(lease_until=0.0))
    assert desk.dispatch().requests == {}
    assert (desk.totals().cancelled, desk.caught()["mails"]) == (N, 0)


def test_a_dispatcher_that_began_before_new_key_sends_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is that of its start."""
    desk.plan()
    key = SecretStr(desk.settings.signing_key().decode())
    running = replace(desk, settings=desk.settings.model_copy(update={"secret_key": key}))
    assert running.dispatch(NOW - HOUR).batches == 0
    monkeypatch.setenv("CONTROLTOWER_SECRET_KEY", "the key that was started")
    start_key("ann")
    with pytest.raises(BadSettings, match="CONTROLTOWER_SECRET_KEY is another home's key"):
        running.dispatch()
    assert desk.caught()["mails"] == 0


def test_an_interrupted_dispatch_notes_the_answers_it_had_and_gives_the_batch_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.plan()
    real = sending.wait

    def interrupted(calls: list[Any]) -> None:
        real(calls)
        raise KeyboardInterrupt

    monkeypatch.setattr(sending, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        desk.dispatch()
    monkeypatch.setattr(sending, "wait", real)
    assert desk.dispatch().requests == {"sent": N - AT_ONCE}
    assert desk.totals().accepted == {"sendgrid": N}


def test_a_placeholder_sender_or_a_plain_http_link_never_leaves_this_machine(desk: Desk) -> None:
    shop = settings.load_shop(desk.settings)
    real = desk.settings.model_copy(update={"sendgrid_url": "https://api.sendgrid.com"})

    def unfit(conf: settings.Settings, whose: Shop) -> str | None:
        return unfit_to_send(conf, whose, provider_of(conf, "email"))

    assert "placeholder" in str(unfit(real, shop))
    sender = shop.sender.model_copy(update={"email": "hello@haru.kr"})
    named = shop.model_copy(update={"sender": sender})
    assert "https" in str(unfit(real, named))
    assert unfit(real.model_copy(update={"public_url": "https://m.haru.kr"}), named) is None
    assert unfit(desk.settings, shop) is None
