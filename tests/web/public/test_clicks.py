"""A link in a message notes the click and leads on, and nowhere but where we said."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from controltower.content.links import Destinations, sign
from controltower.ledger.database import opened
from controltower.ledger.tables import delivery_events
from controltower.web.public.clicks import is_machine, with_click_id
from starlette.datastructures import Headers

from web.public.conftest import BROWSER, Public


def link(public: Public, message_id: str, url: str, product: str | None = None, position: int | None = None) -> str:
    query = Destinations(public.settings.signing_key()).query(url, product, position)
    return public.path("click", message_id) + query


def test_it_leads_on_and_is_noted(public: Public) -> None:
    message_id = public.message()
    url = "https://haru.example/p/1?색=빨강&size=2#reviews"
    answer = public.http.get(link(public, message_id, url, "p1", 2))
    assert answer.status_code == 302 and answer.headers["cache-control"] == "no-store"
    went = urlsplit(answer.headers["location"])
    assert (went.scheme, went.netloc, went.path, went.fragment) == ("https", "haru.example", "/p/1", "reviews")
    assert parse_qsl(went.query) == [("색", "빨강"), ("size", "2"), ("click_id", message_id)]
    (event,) = public.events()
    assert (event.provider, event.event, event.message_id, event.machine) == (
        "controltower",
        "clicked",
        message_id,
        False,
    )
    assert event.detail == {"product_id": "p1", "position": 2}
    public.http.get(link(public, message_id, "https://haru.example"))
    assert [e.detail for e in public.events()][1] == {"product_id": None, "position": None}


def test_without_a_secret_nobody_is_led_anywhere(public: Public) -> None:
    """With an empty key anybody could sign; so an emptied key file is an outage, not an open redirect."""
    (public.settings.home / "secret.key").write_text("")
    url = "https://elsewhere.example/"
    token = sign(b"", "click", "0" * 32, json.dumps([url, None, None]).encode())
    answer = public.http.get(f"/c{token}", params={"to": url})
    assert answer.status_code == 503 and "location" not in answer.headers and answer.headers["retry-after"]


def test_an_unknown_message_still_leads_on(public: Public) -> None:
    answer = public.http.get(link(public, "0" * 32, "https://haru.example/p1"))
    assert answer.headers["location"] == f"https://haru.example/p1?click_id={'0' * 32}"


@pytest.mark.parametrize(
    "change",
    [{"to": "https://evil.example"}, {"p": "p2"}, {"n": "3"}, {"n": "02"}, {"n": "٢"}, {"n": "9" * 5000}, {"to": ""},
     {"to": "javascript:alert(1)"}, {"s": ""}],
)  # fmt: skip
def test_what_we_did_not_sign_leads_nowhere(public: Public, change: dict[str, str]) -> None:
    path, _, query = link(public, public.message(), "https://haru.example/p1", "p1", 2).partition("?")
    answer = public.http.get(f"{path}?{urlencode(dict(parse_qsl(query, separator=';')) | change)}")
    assert answer.status_code == 404 and "location" not in answer.headers
    assert public.events() == []


def test_a_token_of_another_purpose_leads_nowhere(public: Public) -> None:
    path, _, query = link(public, public.message(), "https://haru.example").partition("?")
    token = public.path("view", public.message()).removeprefix("/v")
    assert public.http.get(f"{path}?{query}").status_code == 302
    assert public.http.get(f"/c{token}?{query}").status_code == 404


def test_a_mail_sent_before_this_form_of_links_still_works(public: Public) -> None:
    message_id, url = public.message(), "https://haru.example/p1?a=1&b=2"
    token = sign(public.settings.signing_key(), "click", message_id, json.dumps([url, "p1", 2]).encode())
    answer = public.http.get(f"/c{token}?{urlencode({'to': url, 'product': 'p1', 'position': 2})}")
    assert answer.headers["location"] == f"{url}&click_id={message_id}"
    assert [e.detail for e in public.events()] == [{"product_id": "p1", "position": 2}]


def test_programs_are_marked(public: Public) -> None:
    path = link(public, public.message(), "https://haru.example/p1")
    assert public.http.head(path).status_code == 302
    public.http.get(path, headers={"Sec-Purpose": "prefetch;prerender"})
    public.http.get(path, headers={"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"})
    public.http.get(path)
    assert [e.machine for e in public.events()] == [True, True, True, False]


@pytest.mark.parametrize(
    ("agent", "machine"),
    [(BROWSER, False), ("", True), ("Slackbot-LinkExpanding 1.0", True), ("facebookexternalhit/1.1", True),
     ("kakaotalk-scrap/1.0", True), ("Mozilla/5.0 (Windows NT 10.0; Microsoft Office Existence Discovery)", True),
     ("Barracuda Sentinel (EE)", True), ("curl/8.5", True),
     ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 KAKAOTALK 11.0", False),
     ("Mozilla/5.0 (X11; Linux) Cubot/1 Chrome/131.0 Safari/537.36", True)],
)  # fmt: skip
def test_what_calls_itself_a_program_is_one(agent: str, machine: bool) -> None:
    assert is_machine("GET", Headers({"User-Agent": agent})) is machine


def test_a_broken_ledger_keeps_nobody_from_the_shop(public: Public, caplog: pytest.LogCaptureFixture) -> None:
    delivery_events.drop(opened(public.settings))
    message_id = public.message()
    for n in (1, 2):
        answer = public.http.get(link(public, message_id, "https://haru.example/p1", "secret-product"))
        assert answer.status_code == 302
        assert f"{n} clicks could not be noted so far" in caplog.text
    assert message_id not in caplog.text and "secret-product" not in caplog.text


def test_the_shop_keeps_its_own_query() -> None:
    assert with_click_id("https://a.example", "f") == "https://a.example?click_id=f"
    assert (
        with_click_id("https://한국.kr:8443/x?click_id=old&a=1", "f") == "https://xn--3e0b707e.kr:8443/x?a=1&click_id=f"
    )
    assert with_click_id("https://a.example/x?a=b;c&d=#e?f", "f") == "https://a.example/x?a=b;c&d=&click_id=f#e?f"
