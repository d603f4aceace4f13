"""The preference page of somebody whose address is suppressed: it promises no mail, and says what helps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from controltower import clock
from controltower.data.lake import Lake
from controltower.ledger import suppressions
from controltower.ledger.database import begin, reading
from support.lakes import publish_rows
from support.small_shop import rows

from web.public.conftest import Public

MAIL = ("email.marketing",)
CONTACT = "02-000-0000"
Close = Callable[..., str]


@pytest.fixture
def close(public: Public) -> Close:
    """Suppress a customer's address for a reason; gives its hash."""

    def suppress(customer: str, reason: str, now: datetime | None = None) -> str:
        value = suppressions.address_hash(public.settings.signing_key(), f"{customer}@customers.example")
        with begin(public.settings) as ledger:
            suppressions.add(
                ledger, "address", value, channel="email", reason=reason, source="sendgrid",
                now=now or clock.now(public.settings),
            )  # fmt: skip
        return value

    return suppress


def held(public: Public, value: str) -> bool:
    with reading(public.settings) as ledger:
        return bool(suppressions.held(ledger, "address", "email", "marketing", clock.now(public.settings), [value]))


def test_a_bounce_is_told_and_no_box_ends_it(public: Public, close: Close) -> None:
    message_id = public.message()
    assert "반송" not in public.get("preferences", message_id).text
    value = close("c0", "bounced")
    close("c0", "complained")
    page = public.get("preferences", message_id).text
    assert "반송되어" in page and f"문의해 주세요: {CONTACT}" in page and "스팸" not in page
    public.choose(message_id, (), MAIL)
    public.at("2026-06-16T09:00+09:00")
    page = public.choose(message_id, MAIL, ()).text
    assert "지금부터 적용됩니다" not in page and "다만 아래 안내와 같이" in page and "반송되어" in page
    assert held(public, value)


def test_who_checks_the_box_again_takes_a_complaint_back(public: Public, close: Close) -> None:
    """c1 reads English. SendGrid's complaint has withdrawn the consent, as here the unsubscription did."""
    message_id = public.message("c1")
    public.unsubscribe(message_id)
    value = close("c1", "complained")
    public.at("2026-06-16T09:00+09:00")
    page = public.get("preferences", message_id).text
    assert "reported as spam" in page and "check the e-mail box and save" in page
    public.choose(message_id, ("push.marketing", "push.night_marketing"), ("push.marketing",))
    assert held(public, value)  # another box isn't a request for mail

    page = public.choose(message_id, MAIL, ()).text
    assert "Your report as spam no longer holds" in page and "reported as spam" not in page
    assert (
        "Done, from now on" in page
        and f"our mail service may still hold them back. Please contact us: {CONTACT}" in page
    )
    assert not held(public, value) and "c1" in public.granted("email")
    with reading(public.settings) as ledger:
        (ended,) = suppressions.lifted(ledger, {"address": [value]})
    assert (ended.reason, ended.lifted_by) == ("complained", "preference_page")

    public.at("2026-06-17T09:00+09:00")  # SendGrid dropped the next mail: its own list still has the address
    close("c1", "complained")
    page = public.get("preferences", message_id).text
    assert "reported as spam" in page and f"please contact us: {CONTACT}" in page
    assert held(public, value)


def test_an_unknown_reason_is_told_without_details(public: Public, close: Close) -> None:
    close("c1", "unsubscribed")
    page = public.get("preferences", public.message("c1")).text
    assert "We send no marketing to your e-mail address at present" in page


def test_a_new_address_is_open(public: Public, close: Close) -> None:
    close("c0", "bounced")
    moved = {"customer_id": "c0", "updated_at": clock.now(public.settings) - timedelta(hours=1), "country": "KR",
             "email": "new@customers.example", "locale": "ko-KR", "timezone": "Asia/Seoul"}  # fmt: skip
    publish_rows(Lake(public.settings), "customers", "moved", rows("customers", moved))
    assert "반송" not in public.get("preferences", public.message()).text


def test_without_the_lake_nothing_is_said_and_nothing_ends(public: Public, close: Close) -> None:
    message_id = public.message()
    public.choose(message_id, (), MAIL)
    value = close("c0", "complained")
    public.at("2026-06-16T09:00+09:00")
    for manifest in (public.settings.home / "lake").rglob("*.json"):
        manifest.write_text("broken")
    page = public.choose(message_id, MAIL, ())
    assert page.status_code == 200 and "스팸" not in page.text
    assert "c0" in public.granted("email") and held(public, value)
