"""The simulated customers' answers over real HTTP, to an app that only notes what it is told."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from controltower import settings
from controltower.cli import app
from controltower.errors import NoData, ProviderDown
from controltower.sandbox import credentials
from controltower.sandbox.answers import answer_messages, follow
from controltower.simulation import purchases, shop
from sendgrid.helpers.eventwebhook import EventWebhook
from simulation.conftest import SEED, UNTIL, small
from support.patience import wait_until
from support.simulated_home import SENT, Inbox, Listener, listening
from typer.testing import CliRunner

WEEKS = 25.0  # days after which everything has happened


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answering-shop")
    shop.generate(folder, until=UNTIL, parameters=small(), seed=SEED)
    return folder


@pytest.fixture(scope="module")
def public() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def listener(public: Listener) -> Listener:
    public.status = 202
    for told in (public.bodies, public.opened, public.left, public.looked):
        told.clear()  # type: ignore[attr-defined]
    return public


@pytest.fixture
def inbox(home: Path, shop_folder: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    monkeypatch.setenv("CONTROLTOWER_PUBLIC_URL", listener.url)
    return Inbox.make(home, shop_folder, listener.url)


@pytest.fixture(scope="module")
def full(shop_folder: Path, public: Listener, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose inbox holds 1,000 messages of five days, not answered yet."""
    home = tmp_path_factory.mktemp("full") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTROLTOWER_HOME", str(home))
        patch.setenv("CONTROLTOWER_PUBLIC_URL", public.url)
        Inbox.make(home, shop_folder, public.url).fill(customers=150, days=5)
    return home


@pytest.fixture
def copied(
    full: Path, tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], settings.Settings]:
    def copy(name: str) -> settings.Settings:
        shutil.copytree(full, tmp_path / name)
        monkeypatch.setenv("CONTROLTOWER_HOME", str(tmp_path / name))
        monkeypatch.setenv("CONTROLTOWER_PUBLIC_URL", listener.url)
        return settings.load()

    return copy


def at(conf: settings.Settings, days: float) -> None:
    Inbox(conf, None, "").at(days)  # type: ignore[arg-type]


def orders(home: Path) -> list[dict[str, object]]:
    rows = [row for path in purchases.files(home, "orders") for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda r: (str(r["order_id"]), str(r["updated_at"])))


def test_a_thousand_messages_are_answered(copied: Callable[[str], settings.Settings], listener: Listener) -> None:
    conf = copied("once")
    at(conf, WEEKS)
    report = answer_messages(conf)
    names = Counter(e["event"] for e in listener.events)
    assert report["messages"] > 900
    assert report["events"] == dict(names)
    assert names["processed"] == names["delivered"] + names["bounce"]
    assert names["open"] > 100
    assert report["clicks"] == len(listener.opened) > 20
    assert report["unsubscribed"] == len(listener.left)
    assert report["orders"] > 20
    assert report["dead_links"] == report["to_come"] == 0
    truth = purchases.true_messages(conf.home).to_pylist()
    caused = [m for m in truth if m["caused_order_id"]]
    assert {o["order_id"] for o in orders(conf.home)} == {m["caused_order_id"] for m in caused}
    assert report["orders"] == len(caused)
    assert report["cancelled"] == sum(m["cancelled_at"] is not None for m in caused)
    again = answer_messages(conf)
    assert not any(again[k] for k in ("messages", "events", "clicks", "unsubscribed", "orders", "cancelled"))


def test_the_same_inbox_gets_the_same_answers_in_however_many_calls(
    copied: Callable[[str], settings.Settings], listener: Listener
) -> None:
    conf = copied("once")
    at(conf, WEEKS)
    answer_messages(conf)
    told = {e["sg_event_id"]: e for e in listener.events}
    opened, left, bought = sorted(listener.opened), sorted(listener.left), orders(conf.home)
    assert len(told) == len(listener.events)
    for seen in (listener.bodies, listener.opened, listener.left):
        seen.clear()  # type: ignore[attr-defined]

    conf = copied("often")
    for step in range(26):
        at(conf, step)
        answer_messages(conf)
        now = (SENT + timedelta(days=step)).timestamp()
        assert all(e["timestamp"] <= now for e in listener.events)
    assert {e["sg_event_id"]: e for e in listener.events} == told
    assert (sorted(listener.opened), sorted(listener.left), orders(conf.home)) == (opened, left, bought)


def test_until_leaves_the_rest_for_later(inbox: Inbox, listener: Listener) -> None:
    inbox.fill(customers=20)
    inbox.at(WEEKS)
    first = answer_messages(inbox.settings, until=SENT + timedelta(seconds=30))
    assert first["events"].keys() <= {"processed", "delivered", "bounce", "deferred", "open"}
    assert first["to_come"] > 0
    assert max(e["timestamp"] for e in listener.events) <= (SENT + timedelta(seconds=30)).timestamp()
    assert answer_messages(inbox.settings, until=SENT + timedelta(days=900))["to_come"] == 0


def test_events_are_signed_as_sendgrids_are(inbox: Inbox, listener: Listener) -> None:
    inbox.fill(customers=5)
    inbox.at(1)
    answer_messages(inbox.settings)
    made = credentials.kept(inbox.settings.home / "sandbox")
    helper = EventWebhook(made.webhook_public_key)
    ((body, headers),) = listener.bodies
    signature, timestamp = (headers[f"x-twilio-email-event-webhook-{n}"] for n in ("signature", "timestamp"))
    assert helper.verify_signature(body.decode(), signature, timestamp)
    assert not helper.verify_signature(body.decode() + " ", signature, timestamp)
    event = listener.events[0]
    assert event["message_id"]
    assert event["category"] == ["picked", "picked.personal"]
    assert event["email"].endswith(".example")


def test_a_public_app_that_is_down_is_one_error_and_nothing_is_lost(
    inbox: Inbox, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.fill(customers=30)
    inbox.at(WEEKS)
    monkeypatch.setenv("CONTROLTOWER_PUBLIC_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderDown, match=r"http://127.0.0.1:9 can't be reached .*controltower serve"):
        answer_messages(settings.load())
    assert not purchases.true_messages(inbox.settings.home).num_rows  # nobody has read anything
    listener.status = 503
    with pytest.raises(ProviderDown, match="failed with 503"):
        answer_messages(inbox.settings)
    assert not listener.events
    assert not orders(inbox.settings.home)
    listener.status = 202
    report = answer_messages(inbox.settings)
    assert report["events"]["processed"] > 20
    assert report["clicks"] == len(listener.opened) > 0
    assert report["orders"] + report["cancelled"] == len(orders(inbox.settings.home)) > 0


def test_a_refused_signature_says_which_key_is_wanted(inbox: Inbox, listener: Listener) -> None:
    inbox.fill(customers=3)
    inbox.at(1)
    listener.status = 401
    made = credentials.kept(inbox.settings.home / "sandbox")
    with pytest.raises(ProviderDown) as refused:
        answer_messages(inbox.settings)
    assert f"CONTROLTOWER_SENDGRID_WEBHOOK_KEYS={made.webhook_public_key}" in str(refused.value)


def test_without_a_simulated_shop_nobody_answers(inbox: Inbox, listener: Listener) -> None:
    inbox.fill(customers=40)
    shutil.rmtree(inbox.settings.home / "simulated")
    inbox.at(WEEKS)
    report = answer_messages(inbox.settings)
    assert report["events"].keys() == {"processed", "delivered"}
    assert not any(report[k] for k in ("clicks", "unsubscribed", "orders", "to_come"))
    assert not (inbox.settings.home / "simulated").exists()


def test_an_address_of_nobody_is_delivered_to_only(inbox: Inbox, listener: Listener) -> None:
    inbox.mail("stranger@elsewhere.example", ["P00001"], SENT, "a" * 32)
    inbox.mail("stranger@elsewhere.example", [], SENT, None)  # not one of ours
    inbox.at(WEEKS)
    assert answer_messages(inbox.settings)["events"] == {"processed": 2, "delivered": 2}


def test_what_came_twice_is_decided_about_once(inbox: Inbox, listener: Listener) -> None:
    emails, tokens = inbox.addresses()
    for customer in list(tokens)[:40]:
        for seconds, device in ((0, tokens[customer]), (1, tokens[customer])):
            inbox.push(device, "P00001", SENT + timedelta(seconds=seconds), f"{customer[1:]:b>32}")
    twice = list(emails.items())[:40]
    for seconds in (0, 5):
        for customer, email in twice:
            inbox.mail(email, ["P00001", "P00002"], SENT + timedelta(seconds=seconds), f"{customer[1:]:a>32}")
    inbox.at(WEEKS)
    report = answer_messages(inbox.settings)
    assert report["events"]["processed"] == 2 * len(twice)
    truth = purchases.true_messages(inbox.settings.home).to_pylist()
    assert len(truth) == 80
    clicked = sum(m["clicked_at"] is not None for m in truth)
    assert len({url.split("?")[0] for url in listener.opened}) == clicked
    opens = Counter(e["message_id"] for e in listener.events if e["event"] == "open")
    assert max(opens.values()) == 1


def test_no_link_leads_out_of_the_public_app(inbox: Inbox, listener: Listener) -> None:
    emails, _ = inbox.addresses()
    elsewhere = f'<a href="{listener.url.replace("127.0.0.1", "localhost")}/cx?to=x;p=P00001;s=x">x</a>'
    for customer, email in list(emails.items())[:80]:
        inbox.mail(email, [], SENT, f"{customer[1:]:c>32}", html=elsewhere)
    inbox.at(WEEKS)
    report = answer_messages(inbox.settings)
    assert report["events"]["open"] > 10
    assert report["clicks"] == 0
    assert not listener.opened


def test_who_leaves_posts_and_never_by_a_get(copied: Callable[[str], settings.Settings], listener: Listener) -> None:
    conf = copied("leaving")
    at(conf, WEEKS)
    answer_messages(conf)
    truth = [m for m in purchases.true_messages(conf.home).to_pylist() if m["left_at"]]
    complained = {e["message_id"] for e in listener.events if e["event"] == "spamreport"}
    assert {token for token, _ in listener.left} | complained == {m["message_id"] for m in truth}
    assert {body for _, body in listener.left} <= {b"List-Unsubscribe=One-Click", b""}
    by_page = {token for token, body in listener.left if not body}
    assert set(listener.looked) == by_page


def test_a_home_without_a_sandbox_is_named(home: Path) -> None:
    with pytest.raises(NoData, match=r"No sandbox has run in .*controltower sandbox"):
        answer_messages(settings.load())


def test_moments_are_whole_seconds_and_in_order(inbox: Inbox, listener: Listener) -> None:
    inbox.fill(customers=30)
    inbox.at(WEEKS)
    answer_messages(inbox.settings)
    stages = {"processed": 0, "deferred": 1, "delivered": 2, "bounce": 2, "open": 3}
    by_message: dict[str, list[tuple[int, int]]] = {}
    for e in listener.events:
        assert isinstance(e["timestamp"], int)
        assert datetime.fromtimestamp(e["timestamp"], SENT.tzinfo) >= SENT - timedelta(seconds=1)
        by_message.setdefault(e["message_id"], []).append((e["timestamp"], stages.get(e["event"], 4)))
    for events in by_message.values():
        assert [stage for _, stage in sorted(events)] == sorted(stage for _, stage in events)


def test_following_goes_on_and_tells_only_of_what_was_done(
    inbox: Inbox, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.fill(customers=3)
    inbox.at(1)
    listener.status = 503
    told: list[dict[str, object]] = []

    class Enough(Exception):
        pass

    def tell(report: dict[str, object]) -> None:
        told.append(report)
        raise Enough

    def refused() -> list[str]:
        return [r.levelname for r in caplog.records if "503" in r.getMessage()]

    def mend() -> None:
        wait_until(refused, "the first refusal", pause=0.01)
        listener.status = 202

    mending = threading.Thread(target=mend)
    mending.start()
    with pytest.raises(Enough):
        follow(inbox.settings, tell, pause=0.02)
    mending.join()
    assert told[0]["events"]
    assert refused() == ["WARNING"]


def test_the_command_prints_counts(inbox: Inbox, listener: Listener) -> None:
    inbox.fill(customers=3)
    inbox.at(WEEKS)
    ran = CliRunner().invoke(app, ["simulate-answers", "--until", "2026-06-05T12:01+09:00"])
    assert ran.exit_code == 0
    assert "processed: 2" in ran.output  # one has no address
    assert "@" not in ran.output
    assert "to_come: 0" in CliRunner().invoke(app, ["simulate-answers"]).output
