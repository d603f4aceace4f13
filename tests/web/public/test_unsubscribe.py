"""One click ends it (RFC 8058), a look at the page ends nothing."""

from __future__ import annotations

from controltower.content import links

from web.public.conftest import Public


def test_looking_changes_nothing(public: Public) -> None:
    page = public.get("unsubscribe", public.message())
    assert page.status_code == 200
    assert "하루상점 Haru" in page.text and "마케팅 이메일" in page.text and '<form method="post">' in page.text
    assert public.consents() == [] and public.events() == []
    assert {"c0", "c0-old"} <= public.granted("email")


def test_one_click_withdraws_for_the_whole_person_once(public: Public) -> None:
    message_id = public.message()
    answer = public.unsubscribe(message_id)
    assert answer.status_code == 200 and "set-cookie" not in answer.headers
    first = public.consents()
    assert {(r.customer_id, r.channel, r.purpose, r.granted, r.source, r.proof) for r in first} == {
        (customer, "email", "marketing", False, "unsubscribe", message_id) for customer in ("c0", "c0-old")
    }
    assert not {"c0", "c0-old"} & public.granted("email")
    assert "c1" in public.granted("email") and "c0" in public.granted("push")
    (event,) = public.events()
    assert (event.provider, event.event, event.message_id) == ("controltower", "unsubscribed", message_id)

    public.at("2026-06-16T09:00+09:00")
    again = public.unsubscribe(message_id)
    assert again.status_code == 200 and "2026년 6월 15일, 12:00 (Asia/Seoul)" in again.text
    assert len(public.consents()) == len(first) and len(public.events()) == 1


def test_the_confirmation_names_sender_fact_date_and_result(public: Public) -> None:
    """Korea's result notice, Network Act 50(7)."""
    page = public.unsubscribe(public.message()).text
    for words in (
        "전송자",
        "하루상점 Haru",
        "동의 철회: 혜택과 추천을 담은 마케팅 이메일",
        "2026년 6월 15일, 12:00",
        "처리 완료",
    ):
        assert words in page
    english = public.unsubscribe(public.message("c1")).text
    for words in ("Sender", "Consent withdrawn: E-mails with offers", "June 15, 2026, 04:00 (Europe/London)", "Done."):
        assert words in english


def test_a_push_ends_push(public: Public) -> None:
    public.unsubscribe(public.message(channel="push"))
    assert "c0" not in public.granted("push") and "c0" in public.granted("email")


def test_who_came_back_can_leave_again(public: Public) -> None:
    message_id = public.message("c2")
    public.unsubscribe(message_id)
    public.at("2026-06-16T09:00+09:00")
    public.choose(message_id, ("email.marketing",), ())
    assert "c2" in public.granted("email")
    public.at("2026-06-17T09:00+09:00")
    public.unsubscribe(message_id)
    assert "c2" not in public.granted("email")


def test_who_changes_their_mind_twice_while_the_clock_stands_has_left(public: Public) -> None:
    """A consent is dated just after the withdrawal that it follows: the next withdrawal must end that one too."""
    message_id = public.message("c2")
    public.unsubscribe(message_id)
    public.choose(message_id, ("email.marketing",), ())
    public.unsubscribe(message_id)
    public.at("2026-06-16T09:00+09:00")
    assert "c2" not in public.granted("email")
    public.choose(message_id, ("email.marketing",), ())
    assert "c2" in public.granted("email")


def test_leaving_ends_a_consent_that_the_clock_has_still_to_reach(public: Public) -> None:
    message_id = public.message("c2")
    public.at("2026-06-20T09:00+09:00")
    public.unsubscribe(message_id)
    public.choose(message_id, ("email.marketing",), ())
    public.at("2026-06-16T09:00+09:00")  # set back
    assert public.unsubscribe(message_id).status_code == 200
    for moment in ("2026-06-16T09:00+09:00", "2026-06-20T09:01+09:00"):
        public.at(moment)
        assert "c2" not in public.granted("email"), moment


def test_a_page_seen_after_leaving_says_so(public: Public) -> None:
    public.unsubscribe(public.message())
    page = public.get("unsubscribe", public.message()).text
    assert "수신거부가 처리되었습니다" in page and "<form" not in page


def test_another_customers_message_ends_only_theirs(public: Public) -> None:
    """A token says whose it is; one made for another purpose or by another key opens nothing."""
    theirs, mine = public.message("c1"), public.message("c2")
    for token in (
        links.sign(public.settings.signing_key(), "view", mine),
        links.sign(b"another key", "unsubscribe", mine),
        links.sign(public.settings.signing_key(), "unsubscribe", mine)[:-1],
    ):
        assert public.http.post(f"/u{token}").status_code == 404
    public.unsubscribe(theirs)
    assert "c1" not in public.granted("email") and "c2" in public.granted("email")


def test_an_unknown_message_is_named(public: Public) -> None:
    for answer in (public.get("unsubscribe", "0" * 32), public.unsubscribe("0" * 32)):
        assert answer.status_code == 404 and "확인할 수 없는 메시지입니다" in answer.text
    assert public.consents() == [] and public.events() == []


def test_the_body_is_bounded_and_may_be_multipart(public: Public) -> None:
    path = public.path("unsubscribe", public.message())
    assert public.http.post(path, content=b"x" * 20_000).status_code == 413
    assert public.consents() == []
    assert public.http.post(path, files={"List-Unsubscribe": (None, "One-Click")}).status_code == 200
    assert len(public.consents()) == 2
