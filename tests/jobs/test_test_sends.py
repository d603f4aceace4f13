"""Test sends through the real providers' counterparts: who gets what, and that nothing of it counts anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from controltower.cli import app
from controltower.content import links
from controltower.delivery.providers import smtp
from controltower.errors import BadSettings, BadSpec, ProviderDown
from controltower.feedback import intake
from controltower.jobs.feedback import ingest_feedback
from controltower.jobs.providers import resume_provider
from controltower.jobs.test_sends import send_test
from controltower.ledger import suppressions, tables
from controltower.ledger.database import begin, reading
from controltower.sandbox import credentials
from controltower.settings import Settings
from controltower.web.public.app import create_app
from starlette.testclient import TestClient
from support import scored_shop, small_shop
from support.sandbox import Running, open_sandbox
from typer.testing import CliRunner

SEEDS = {"email": ["ann@shop.example", "boris@shop.example"], "push": ["seed-phone"]}
VARIANTS: list[dict[str, Any]] = [
    {"name": "a", "subject": {"en": "A {{ products[0].title }}", "ko": "가 {{ customer.first_name }}"},
     "push_title": {"en": "Push A"}, "push_body": {"en": "Look"}},
    {"name": "b", "subject": {"en": "B"}, "push_title": {"en": "Push B"}, "push_body": {"en": "Look"}},
]  # fmt: skip
COUNTED = ["messages", "decisions", "requests", "outcomes", "delivery_events", "consents", "suppressions", "arms"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> credentials.Credentials:
    return credentials.make(tmp_path_factory.mktemp("credentials"), "http://127.0.0.1:9")


@pytest.fixture
def inbox(made: credentials.Credentials, tmp_path: Path) -> Iterator[Running]:
    with open_sandbox(made, tmp_path / "inbox.db") as running:
        credentials.make(made.service_account_path.parent, running.url)
        yield running


@pytest.fixture
def sending(ledger_settings: Settings, inbox: Running, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty home that sends to a sandbox."""
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_URL", inbox.url)
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", inbox.api_key)
    monkeypatch.setenv("CONTROLTOWER_FCM_URL", inbox.url)
    monkeypatch.setenv("CONTROLTOWER_FCM_CREDENTIALS", str(inbox.account_path))
    return ledger_settings


@pytest.fixture
def shop(sending: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A campaign with two variants on two channels, and a seed list."""
    conf = scored_shop.make(sending.home, monkeypatch)
    scored_shop.write_shop(conf, seed_list=SEEDS)
    scored_shop.write_spec(conf, variants=VARIANTS, channels=["email", "push"])
    return conf


def counted(conf: Settings) -> dict[str, list[Any]]:
    with reading(conf) as ledger:
        return {name: ledger.execute(sa.select(tables.metadata.tables[name])).all() for name in COUNTED}


def noted(conf: Settings) -> list[sa.Row[Any]]:
    with reading(conf) as ledger:
        return list(ledger.execute(sa.select(tables.test_sends).order_by(tables.test_sends.c.opened_at)))


def caught(inbox: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = inbox.http.get("/api/messages").json()["messages"]
    return found


def test_each_variant_in_each_language_reaches_the_seed_list_and_counts_nowhere(shop: Settings, inbox: Running) -> None:
    before = counted(shop)
    report = send_test("spring", asked_by="ann")
    assert (report["rendered_as"], report["sent"], report["not_tested"]) == ("a made-up customer", 8, {})
    assert sorted((m["channel"], m["recipient"], m["title"]) for m in caught(inbox)) == sorted(
        [
            *(
                ("email", to, subject)
                for to in SEEDS["email"]
                for subject in ("[TEST] (광고) A Title p0", "[TEST] (광고) 가 Kim", "[TEST] (광고) B")
            ),
            ("push", "seed-phone", "[TEST] (광고) Push A"),
            ("push", "seed-phone", "[TEST] (광고) Push B"),
        ]
    )
    rows = noted(shop)
    assert {(r.campaign, r.state, r.asked_by, r.customer_id, r.check_only) for r in rows} == {
        ("spring", "sent", "ann", None, False)
    }
    assert all(r.provider_message_id and r.closed_at for r in rows) and len(rows) == 8
    assert all(links.is_test(shop.signing_key(), r.test_id) for r in rows)
    assert counted(shop) == before


def test_the_providers_figures_count_it_apart(shop: Settings, inbox: Running) -> None:
    send_test("spring", variants=["b"])
    requests = {m["channel"]: inbox.http.get(f"/api/requests/{m['request_id']}").json() for m in caught(inbox)}
    assert requests["email"]["categories"] == ["test"]
    push = requests["push"]["message"]
    assert push["fcm_options"]["analytics_label"] == "test"
    assert push["data"]["message_id"] and "click_id" not in push["data"]


def test_a_customer_is_rendered_with_their_own_name_language_and_products(shop: Settings, inbox: Running) -> None:
    report = send_test("spring", ["one@shop.example"], ["a"], "c1")
    assert (report["rendered_as"], report["sent"]) == ("c1", 1)
    assert report["not_tested"] == {"push": "--to names addresses only"}
    (mail,) = caught(inbox)
    assert (mail["recipient"], mail["title"]) == ("one@shop.example", "[TEST] (광고) A Title p0")
    assert [r.customer_id for r in noted(shop)] == ["c1"]


def test_a_shop_that_was_never_scored_shows_made_up_products(sending: Settings, inbox: Running) -> None:
    small_shop.write_shop(sending, ["c0"], scored_shop.NOW)
    report = send_test("win_back", ["one@shop.example"])
    mails = caught(inbox)
    assert report["sent"] == len(mails) > 1
    shown = [inbox.http.get(f"/mail/{m['id']}/html").text for m in mails]
    assert all("Sample product 1 &amp; &lt;others&gt;" in html for html in shown)


def test_sandbox_mode_is_checked_and_reaches_nobody(shop: Settings, inbox: Running) -> None:
    assert send_test("spring", check_only=True)["checked"] == 8
    assert caught(inbox) == []
    assert {(r.state, r.check_only) for r in noted(shop)} == {("sent", True)}


def test_a_server_that_cannot_check_is_not_asked_to(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all: it doesn't send instead."""
    monkeypatch.setenv("CONTROLTOWER_EMAIL_PROVIDER", "smtp")
    monkeypatch.setenv("CONTROLTOWER_SMTP_URL", "smtp://127.0.0.1:9")
    monkeypatch.setattr(smtp.Smtp, "local", True)  # else the placeholder sender is what is told first
    with pytest.raises(BadSettings, match="smtp can't check a message without sending it"):
        send_test("spring", ["one@shop.example"], check_only=True)
    assert noted(shop) == []


def test_one_bad_address_does_not_keep_the_others_from_getting_it(shop: Settings, inbox: Running) -> None:
    report = send_test("spring", ["no address", "good@shop.example", "öä@shop.example"], ["b"])
    assert [(t["to"], t["state"], t["reason"]) for t in report["tests"]] == [
        (1, "rejected", "invalid:to"),
        (2, "sent", None),
        (3, "rejected", "invalid:to"),
    ]
    assert [m["recipient"] for m in caught(inbox)] == ["good@shop.example"]


def test_a_suppressed_address_gets_none(shop: Settings, inbox: Running) -> None:
    dead = suppressions.address_hash(shop.signing_key(), "ann@shop.example")
    with begin(shop) as ledger:
        suppressions.add(ledger, "address", dead, channel="email", reason="complained", source="sendgrid",
                         now=scored_shop.KNOWN)  # fmt: skip
    report = send_test("spring", variants=["b"])
    assert (report["not_sent"], report["sent"]) == (1, 2)
    assert [m["recipient"] for m in caught(inbox) if m["channel"] == "email"] == ["boris@shop.example"]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"campaign": "autumn"}, BadSpec, "There is no campaign 'autumn'. Known: spring."),
        ({"variants": ["c"]}, BadSettings, "spring has no variant 'c'. It has a, b."),
        ({"customer": "nobody"}, BadSettings, "There is no customer 'nobody' as of now."),
        ({"to": [f"{n}@shop.example" for n in range(21)]}, BadSettings, "21 addresses are too many for a test."),
    ],
)
def test_what_cannot_be_sent_says_why(
    shop: Settings, inbox: Running, asked: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as told:
        send_test(**{"campaign": "spring", **asked})
    assert says in str(told.value)
    assert caught(inbox) == [] and noted(shop) == []


def test_the_command_counts_and_shows_no_address(shop: Settings, inbox: Running) -> None:
    asked = [
        "campaign",
        "test",
        "spring",
        "--to",
        "one@shop.example",
        "--to",
        "no address",
        "--variant",
        "b",
        "--by",
        "ann",
    ]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "rendered_as: a made-up customer\nsent: 1\nrejected: 1\n" in done.output
    assert "  - channel email, variant b, language en, to 2, state rejected, reason invalid:to" in done.output
    assert "shop.example" not in done.output
    assert {r.asked_by for r in noted(shop)} == {"ann"}


def test_without_a_seed_list_the_error_tells_how_to_make_one(shop: Settings) -> None:
    scored_shop.write_shop(shop)
    with pytest.raises(BadSettings, match=r"tested by nobody \(email: seed_list names no address.*Fill seed_list"):
        send_test("spring")


def test_a_refused_key_stops_the_rest(shop: Settings, inbox: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", "SG.wrong")
    with pytest.raises(ProviderDown, match="SendGrid refuses our API key"):
        send_test("spring")
    assert [(r.state, r.reason) for r in noted(shop)] == [("retry", "unauthorized")]
    assert caught(inbox) == []


def faults(inbox: Running, *kinds: str, provider: str = "sendgrid") -> None:
    """What its next requests meet, one after the other; `slow` is one that goes well."""
    for kind in kinds:
        fault = {"kind": kind, "seconds": 0 if kind == "slow" else 30, "provider": provider}
        inbox.http.post("/api/faults", json=fault).raise_for_status()


@pytest.mark.parametrize(
    ("fault", "told", "ended", "arrived"),
    [
        (
            "429",
            "sendgrid: rate_limited. Try again in 30 s. Sent: email a in en to 1, 2. "
            "Still to send: email a in ko to 1, 2; email b in en to 1, 2; push a in en to 1; push b in en to 1. "
            "Another test sends all of it again, but with --variant and --to.",
            ("retry", "rate_limited"),
            2,
        ),
        (
            "503",
            "sendgrid: unavailable. Try again in 60 s. Sent: email a in en to 1, 2. "
            "Still to send: email a in ko to 1, 2; ",
            ("retry", "unavailable"),
            2,
        ),
        (
            "500",
            "sendgrid: http_500. Try again in 60 s. Sent: email a in en to 1, 2. Unknown: email a in ko to 1. "
            "Still to send: email a in ko to 2; ",
            ("unknown", "http_500"),
            2,
        ),
        (
            "late_500",
            "sendgrid: http_500. Try again in 60 s. Sent: email a in en to 1, 2. Unknown: email a in ko to 1. ",
            ("unknown", "http_500"),
            3,
        ),
    ],
)
def test_a_provider_that_fails_stops_it_and_both_lists_are_told(
    shop: Settings, inbox: Running, fault: str, told: str, ended: tuple[str, str], arrived: int
) -> None:
    faults(inbox, "slow", "slow", fault)
    with pytest.raises(ProviderDown) as stopped:
        send_test("spring")
    said = re.sub(r" [23]\d s", " 30 s", str(stopped.value))  # its Date lags, and seconds pass
    assert said.startswith(told)
    assert [(r.state, r.reason) for r in noted(shop)] == [("sent", None), ("sent", None), ended]
    assert len(caught(inbox)) == arrived


def test_until_the_provider_may_be_asked_again_no_test_asks_it(shop: Settings, inbox: Running) -> None:
    faults(inbox, "429", provider="fcm")
    sent = r"Sent: email b in en to 1, 2\. Still to send: push b in en to 1\."
    with pytest.raises(ProviderDown, match=rf"^fcm: quota_exceeded\. Try again in 30 s\. {sent}"):
        send_test("spring", variants=["b"])
    with pytest.raises(ProviderDown, match=rf"^fcm is paused for \d\d s: quota_exceeded\. {sent}"):
        send_test("spring", variants=["b"])
    assert [r.channel for r in noted(shop)].count("push") == 1
    resume_provider("fcm", "ann")
    assert send_test("spring", variants=["b"])["sent"] == 3


def test_a_provider_that_is_not_there_stops_it(shop: Settings, inbox: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderDown, match=r"can't be reached.* Try again in 60 s\. None was sent\."):
        send_test("spring")
    assert len(noted(shop)) == 1 and caught(inbox) == []


def test_other_credentials_are_tried(shop: Settings, inbox: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", "SG.wrong")
    with pytest.raises(ProviderDown, match="SendGrid refuses our API key"):
        send_test("spring", variants=["b"])
    with pytest.raises(ProviderDown, match="sendgrid is paused until"):
        send_test("spring", variants=["b"])
    assert len(noted(shop)) == 1
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", inbox.api_key)
    assert send_test("spring", variants=["b"])["sent"] == 3


def test_nothing_leaves_where_one_of_the_channels_has_no_way_out(
    shop: Settings, inbox: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTROLTOWER_FCM_CREDENTIALS")
    with pytest.raises(BadSettings, match="CONTROLTOWER_FCM_CREDENTIALS"):
        send_test("spring")
    assert noted(shop) == [] and caught(inbox) == []


def test_what_comes_back_of_a_test_is_kept_nowhere(shop: Settings, inbox: Running) -> None:
    """The test's address is a customer's own, too: no complaint about a test is that customer's."""
    send_test("spring", ["c1@customers.example"], ["b"])
    (mail,) = caught(inbox)
    before = counted(shop)
    told = {"email": "c1@customers.example", "timestamp": int(scored_shop.NOW.timestamp())}
    told["message_id"] = mail["message_id"]
    events = [
        {**told, "event": kind, "sg_event_id": kind, "type": "bounce", "status": "5.1.1"}
        for kind in ("processed", "delivered", "open", "spamreport", "group_unsubscribe", "bounce")
    ]
    intake.store(shop, "sendgrid", [json.dumps(events).encode()])
    report = ingest_feedback()
    assert (report["of_tests"], report["events"], report["unsubscribed"], report["suppressed"]) == (6, 0, 0, {})
    assert counted(shop) == before


def test_the_links_of_a_test_change_nothing(shop: Settings, inbox: Running) -> None:
    send_test("spring", ["c1@customers.example"], ["b"], "c1")
    (mail,) = caught(inbox)
    before = counted(shop)
    own = links.of_message(shop.signing_key(), "", mail["message_id"])
    query = links.Destinations(shop.signing_key()).query("https://haru.example/p1", "p1", 1)
    with TestClient(
        create_app(shop), follow_redirects=False, headers={"User-Agent": "Mozilla/5.0", "Accept-Language": "en"}
    ) as http:
        pages = [
            http.get(own.unsubscribe),
            http.post(own.unsubscribe, data={"List-Unsubscribe": "One-Click"}),
            http.get(own.preferences),
            http.post(own.preferences, data={"action": "stop"}),
            http.get(own.view),
        ]
        click = http.get(own.click + query)
    assert {(p.status_code, "This is a test message" in p.text) for p in pages} == {(200, True)}
    assert (click.status_code, click.headers["location"]) == (302, "https://haru.example/p1")
    assert counted(shop) == before
