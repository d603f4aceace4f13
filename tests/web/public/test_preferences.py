"""The page of choices: what is saved, what is not, and the objection to everything."""

from __future__ import annotations

import re

import pytest
from controltower import clock
from controltower.ledger import consents, suppressions
from controltower.ledger.database import begin, reading

from web.public.conftest import BOXES, Public


def checked(page: str) -> set[str]:
    return set(re.findall(r'name="box" value="([a-z_.]+)" checked', page))


def shown(page: str) -> set[str]:
    return set(re.findall(r'name="shown" value="([a-z_.]+)"', page))


def suppressed(public: Public) -> set[str]:
    with reading(public.settings) as ledger:
        return suppressions.held(ledger, "customer", "email", "marketing", clock.now(public.settings))


def test_it_shows_what_holds_and_changes_nothing(public: Public) -> None:
    page = public.get("preferences", public.message()).text
    assert checked(page) == shown(page) == {"email.marketing", "push.marketing"}
    assert re.findall(r'name="box" value="([a-z_.]+)"', page) == [*BOXES, "you.profiling"]
    assert (
        "성별과 나이를 추정하고" in page and "Guess my gender" in public.get("preferences", public.message("c1")).text
    )
    assert public.consents() == [] and public.events() == []


def test_only_changed_boxes_are_appended_and_only_once(public: Public) -> None:
    message_id = public.message()
    form = (("push.marketing", "push.night_marketing"), ("email.marketing", "push.marketing"))
    page = public.choose(message_id, *form).text
    rows = public.consents()
    assert {(r.customer_id, r.channel, r.purpose, r.granted) for r in rows} == {
        ("c0", "push", "night_marketing", True),
        ("c0", "email", "marketing", False),
        ("c0-old", "email", "marketing", False),
    }
    assert {(r.source, r.proof) for r in rows} == {("preference_page", message_id)}
    assert all(re.fullmatch(r"preference_page\.ko\.[0-9a-f]{8}", r.text_version) for r in rows)
    assert checked(page) == {"push.marketing", "push.night_marketing"}
    for words in (
        "수신 동의: 야간 앱 푸시 알림",
        "동의 철회: 혜택과 추천을 담은 마케팅 이메일",
        "2026년 6월 15일, 12:00",
    ):
        assert words in page
    (event,) = public.events()  # the message's own channel ended
    assert event.event == "unsubscribed"

    public.at("2026-06-16T09:00+09:00")
    again = public.choose(message_id, *form).text
    assert "바뀐 내용이 없습니다" in again
    assert len(public.consents()) == len(rows) and len(public.events()) == 1


def test_a_page_that_lay_open_does_not_give_a_consent_back(public: Public) -> None:
    """It was shown with e-mail checked; meanwhile the customer unsubscribed; then it saves another box."""
    message_id = public.message("c2")
    was = tuple(shown(public.get("preferences", message_id).text))
    public.unsubscribe(message_id)
    public.at("2026-06-16T09:00+09:00")
    public.choose(message_id, (*was, "push.marketing", "push.night_marketing"), was)
    assert "c2" not in public.granted("email")
    assert public.granted("push", "night_marketing") == {"c2"}


def test_night_needs_the_app_messages_themselves(public: Public) -> None:
    message_id = public.message("c1")
    public.choose(message_id, ("push.marketing", "push.night_marketing"), ("push.marketing",))
    assert public.granted("push", "night_marketing") == {"c1"}
    public.at("2026-06-16T09:00+09:00")
    public.choose(message_id, ("push.night_marketing",), ("push.marketing", "push.night_marketing"))
    assert "c1" not in public.granted("push") | public.granted("push", "night_marketing")


def test_a_consent_taken_back_and_given_in_one_moment_holds(public: Public) -> None:
    """The clock of a rehearsal stands still, and a withdrawal wins a tie."""
    message_id = public.message("c2")
    public.choose(message_id, (), ("email.marketing",))
    public.choose(message_id, ("email.marketing",), ())
    public.at("2026-06-15T12:01+09:00")
    assert "c2" in public.granted("email")


def profiled(public: Public) -> set[str]:
    with reading(public.settings) as ledger:
        return consents.agreed(ledger, "profiling", clock.now(public.settings), ["c0", "c0-old"])


def test_the_box_of_profiling_is_no_channels(public: Public) -> None:
    """A yes anywhere checks it, a no of any id clears it; who checks it again takes back each no."""
    message_id, box = public.message(), ("you.profiling",)

    def said(customer: str, channel: str, granted: bool) -> None:
        row = {"customer_id": customer, "channel": channel, "purpose": "profiling", "granted": granted,
               "recorded_at": clock.now(public.settings), "source": "test"}  # fmt: skip
        with begin(public.settings) as ledger:
            consents.record(ledger, [row])

    def is_checked() -> bool:
        return {*box} <= checked(public.get("preferences", message_id).text)

    assert not is_checked() and "동의: 조회, 검색" in public.choose(message_id, box, ()).text
    assert is_checked() and {(r.customer_id, r.channel) for r in public.consents()} == {("c0", "email")}
    public.at("2026-06-15T12:01+09:00")
    said("c0-old", "app", False)
    assert not is_checked()
    public.at("2026-06-15T12:02+09:00")
    public.choose(message_id, box, ())
    assert is_checked() and profiled(public) == {"c0", "c0-old"}
    public.at("2026-06-15T12:03+09:00")
    assert "동의 철회: 조회, 검색" in public.choose(message_id, (), box).text
    assert not is_checked() and profiled(public) == set()
    withdrawn = {(r.customer_id, r.channel) for r in public.consents() if not r.granted}
    assert withdrawn == {(c, channel) for c in ("c0", "c0-old") for channel in ("app", "email", "push")}
    assert {r.purpose for r in public.consents()} == {"profiling"} and not public.events()


def test_stop_everything_is_an_objection(public: Public) -> None:
    message_id = public.message()
    page = public.stop(message_id).text
    assert "마케팅 전체 거부" in page and checked(page) == set()
    assert suppressed(public) == {"c0", "c0-old"}
    assert all("c0" not in public.granted(*box.split(".")) for box in (*BOXES, "email.profiling", "push.profiling"))
    rows = len(public.consents())

    public.at("2026-06-16T09:00+09:00")
    public.stop(message_id)
    public.choose(message_id, (), ())
    assert len(public.consents()) == rows
    assert suppressed(public) == {"c0", "c0-old"}
    seen = public.get("preferences", message_id).text
    assert "2026년 6월 15일, 12:00 (Asia/Seoul)에 마케팅 전체를 거부하셨습니다" in seen and 'value="stop"' not in seen


def test_a_box_checked_after_it_ends_the_objection(public: Public) -> None:
    message_id = public.message()
    public.stop(message_id)
    public.at("2026-06-16T09:00+09:00")
    public.choose(message_id, ("you.profiling",), ())
    assert profiled(public) and suppressed(public) == {"c0", "c0-old"}, "who agrees to guesses isn't written to for it"
    page = public.choose(message_id, ("email.marketing",), ()).text
    assert "마케팅 전체 거부 철회" in page
    assert suppressed(public) == set()
    assert "c0" in public.granted("email") and "c0-old" not in public.granted("email")
    public.at("2026-06-17T09:00+09:00")
    public.stop(message_id)
    assert suppressed(public) == {"c0", "c0-old"}


def test_other_suppressions_stay(public: Public) -> None:
    with begin(public.settings) as ledger:
        suppressions.add(ledger, "customer", "c2", reason="fraud", source="test", now=clock.now(public.settings))
    public.choose(public.message("c2"), ("push.marketing",), ())
    assert suppressed(public) == {"c2"}


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"action=save&box=sms.marketing", b"action=delete", b"action=save&box=" + b"\xff",
     b"&".join(b"box=email.marketing" for _ in range(60))],
)  # fmt: skip
def test_a_form_that_is_not_ours_changes_nothing(public: Public, body: bytes) -> None:
    answer = public.http.post(public.path("preferences", public.message()), content=body)
    assert answer.status_code == 400
    assert public.consents() == [] and suppressed(public) == set()


def test_an_unknown_message_is_named(public: Public) -> None:
    assert public.get("preferences", "0" * 32).status_code == 404
    assert public.stop("0" * 32).status_code == 404
