"""In-app messages: an app gets its customer's own, as long as they may be shown, and tells what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.content.customer_tokens import sign_customer
from controltower.jobs.control import cancel_campaign
from controltower.ledger import consents, suppressions
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import delivery_events, messages, occurrences, subjects
from controltower.settings import Settings
from controltower.web.public.app import create_app
from delivery.conftest import NOW, Desk
from starlette.testclient import TestClient
from support.small_shop import write_shop

CUSTOMERS = ["c0", "c1", "c2"]
HOUR = timedelta(hours=1)
CAMPAIGN, DAY = "picked_for_you", NOW.date().isoformat()


@dataclass
class App:
    """The shop's app; `desk` sends to it."""

    settings: Settings
    http: TestClient
    desk: Desk

    def token(self, customer: str) -> dict[str, str]:
        until = clock.now(self.settings) + HOUR
        return {"Authorization": f"Bearer {sign_customer(self.settings.signing_key(), customer, until)}"}

    def fetch(self, customer: str = "c0") -> list[dict[str, Any]]:
        answer = self.http.get("/v1/in-app", headers=self.token(customer))
        assert answer.status_code == 200, answer.text
        return answer.json()["messages"]

    def see(self, message_id: str, customer: str = "c0") -> httpx.Response:
        return self.http.post(f"/v1/in-app/{message_id}/seen", headers=self.token(customer))

    def at(self, moment: datetime) -> None:
        clock.set_clock(self.settings, moment, speed=0)

    def say(self, customer: str, granted: bool, purpose: str = "marketing") -> None:
        with begin(self.settings) as ledger:
            consents.record(ledger, [{"customer_id": customer, "channel": "in_app", "purpose": purpose,
                                      "recorded_at": clock.now(self.settings), "granted": granted,
                                      "source": "app"}])  # fmt: skip

    def events(self) -> list[tuple[str, str, str]]:
        e = delivery_events.c
        with reading(self.settings) as ledger:
            rows = ledger.execute(sa.select(e.provider, e.event, e.message_id).order_by(e.event_id))
            return [tuple(row) for row in rows]


@pytest.fixture
def app(ledger_settings: Settings) -> Iterator[App]:
    conf = ledger_settings
    clock.set_clock(conf, NOW, speed=0)
    write_shop(conf, CUSTOMERS, NOW)
    desk = Desk(conf, cast(Any, None), customers=list(CUSTOMERS))
    with TestClient(create_app(conf), follow_redirects=False) as http:
        made = App(conf, http, desk)
        for customer in CUSTOMERS:
            made.say(customer, True)
        desk.plan("in_app")
        yield made


def test_what_was_sent_is_there_for_its_customer_alone(app: App) -> None:
    assert app.fetch() == []
    report = app.desk.dispatch()
    assert (report.requests, report.trouble) == ({"sent": 1}, {})  # one request for all
    assert app.desk.totals().accepted == {"in_app": 3}
    (message,) = app.fetch()
    with reading(app.settings) as ledger:
        theirs = dict(ledger.execute(sa.select(messages.c.customer_id, messages.c.message_id)).tuples().all())
    assert message["message_id"] == theirs["c0"] == message["data"]["message_id"]
    assert message["title"] == "(광고) 민지님을 위한 추천"
    assert message["body"].startswith("상품 0 외 3개\n하루상점")
    assert datetime.fromisoformat(message["expires_at"]) == NOW + 24 * HOUR
    assert (message["seen"], message["image"]) == (False, None)
    assert message["data"]["preferences_url"].startswith(app.settings.public_url)
    assert app.fetch("c1")[0]["message_id"] == theirs["c1"]
    assert app.fetch("nobody") == []


def test_its_link_notes_the_click_and_leads_to_the_shop(app: App) -> None:
    app.desk.dispatch()
    (message,) = app.fetch()
    link = urlsplit(message["url"])
    answer = app.http.get(f"{link.path}?{link.query}", headers={"User-Agent": "Mozilla/5.0"})
    leads_to = urlsplit(answer.headers["location"])
    assert leads_to.geturl().startswith("https://haru.example/p0?")
    asked = dict(parse_qsl(leads_to.query))
    assert (asked["click_id"], asked["utm_medium"]) == (message["message_id"], "in_app")
    assert [(provider, event) for provider, event, _ in app.events()] == [
        ("in_app", "delivered"), ("controltower", "clicked")
    ]  # fmt: skip


def test_fetching_and_seeing_are_noted_once(app: App) -> None:
    app.desk.dispatch()
    (message,) = app.fetch()
    app.fetch()
    for _ in range(2):
        assert app.see(message["message_id"]).status_code == 204
    assert app.events() == [("in_app", event, message["message_id"]) for event in ("delivered", "opened")]
    assert app.fetch()[0]["seen"] is True


def test_nobody_sees_anothers_message(app: App) -> None:
    app.desk.dispatch()
    (message,) = app.fetch()
    for message_id, customer in ((message["message_id"], "c1"), ("0" * 32, "c0"), ("x", "c0")):
        answer = app.see(message_id, customer)
        assert (answer.status_code, answer.json()) == (404, {"error": "unknown_message"})
    assert [event for _, event, _ in app.events()] == ["delivered"]


def test_a_second_customer_id_of_the_person_sees_it_too(app: App) -> None:
    with begin(app.settings) as ledger:
        of_c0 = sa.select(subjects.c.subject_id).where(subjects.c.customer_id == "c0").scalar_subquery()
        ledger.execute(sa.insert(subjects).values(customer_id="c0-old", subject_id=of_c0, created_at=NOW))
    app.desk.dispatch()
    (message,) = app.fetch("c0-old")
    assert app.see(message["message_id"], "c0-old").status_code == 204


def test_a_withdrawn_consent_hides_what_was_sent(app: App) -> None:
    app.desk.dispatch()
    app.at(NOW + HOUR)
    app.say("c0", False)
    with begin(app.settings) as ledger:
        suppressions.add(ledger, "customer", "c1", reason="objection", source="page", now=NOW)
    assert app.fetch("c0") == app.fetch("c1") == []
    assert len(app.fetch("c2")) == 1


def test_it_expires(app: App) -> None:
    app.desk.dispatch()
    app.at(NOW + 24 * HOUR)
    assert app.fetch() == []


def test_koreas_night_hides_it_without_a_consent_for_the_night(app: App) -> None:
    app.desk.dispatch()
    app.at(NOW + 9 * HOUR)  # 21:00 in Seoul
    assert app.fetch() == []
    app.say("c0", True, "night_marketing")
    assert len(app.fetch()) == 1
    assert app.fetch("c1") == []
    app.at(NOW + 20 * HOUR)  # 08:00
    assert len(app.fetch("c1")) == 1


def test_a_stopped_campaign_is_called_back(app: App) -> None:
    app.desk.dispatch()
    with begin(app.settings) as ledger:
        ledger.execute(sa.update(occurrences).values(paused=True))
    assert app.fetch() == []
    with begin(app.settings) as ledger:
        ledger.execute(sa.update(occurrences).values(paused=False))
    assert len(app.fetch()) == 1
    cancel_campaign(CAMPAIGN, DAY, "mia")
    assert app.fetch() == []


def test_the_preference_page_has_a_box_for_those_who_ever_said_a_word(app: App) -> None:
    app.desk.dispatch()
    (message,) = app.fetch()
    page = app.http.get(urlsplit(message["data"]["preferences_url"]).path)
    assert 'value="in_app.marketing" checked' in page.text and "앱 안 메시지" in page.text
    shown = {"action": "save", "shown": ["email.marketing", "push.marketing", "in_app.marketing"],
             "box": ["email.marketing", "push.marketing"]}  # fmt: skip
    assert app.http.post(urlsplit(message["data"]["preferences_url"]).path, data=shown).status_code == 200
    assert app.fetch() == [] and len(app.fetch("c1")) == 1
    assert "unsubscribed" in [event for _, event, _ in app.events()]


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "A" * 2000])
def test_without_a_token_there_is_nothing(app: App, header: str | None) -> None:
    app.desk.dispatch()
    for method, path in (("GET", "/v1/in-app"), ("POST", f"/v1/in-app/{'0' * 32}/seen")):
        answer = app.http.request(method, path, headers={"Authorization": header} if header else {})
        assert (answer.status_code, answer.json()) == (401, {"error": "bad_token"})
        assert answer.headers["www-authenticate"] == "Bearer"
