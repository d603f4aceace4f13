"""Tokens of links: short, bound to a purpose, not to be forged."""

from __future__ import annotations

import html
import json
import string
import uuid
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from controltower.content.links import (
    LETTERS,
    BadToken,
    Click,
    Destinations,
    of_message,
    sign,
    utm,
    verify,
    verify_click,
    web_address,
    with_parameters,
)
from controltower.errors import BadSettings, BadSpec
from controltower.settings import Settings
from controltower.shop import Shop, Utm
from hypothesis import given
from hypothesis import strategies as st

KEY = b"k" * 32
SAFE = string.ascii_letters + string.digits + "-_"


@given(st.uuids(), st.sampled_from(sorted(LETTERS)))
def test_a_token_returns_its_message(identity: uuid.UUID, purpose: str) -> None:
    token = sign(KEY, purpose, identity.hex)
    assert verify(KEY, purpose, token) == identity.hex
    assert set(token) <= set(SAFE)
    assert sign(KEY, purpose, str(identity)) == token


@given(st.uuids(), st.integers(0, 34), st.sampled_from(SAFE))
def test_one_changed_sign_spoils_it(identity: uuid.UUID, at: int, sign_: str) -> None:
    token = sign(KEY, "click", identity.hex)
    other = token[:at] + sign_ + token[at + 1 :]
    if other != token:
        with pytest.raises(BadToken):
            verify(KEY, "click", other)


@given(st.one_of(st.text(max_size=80), st.text(SAFE, min_size=35, max_size=35)))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        verify(KEY, "unsubscribe", token)


def test_tokens_are_bound_to_purpose_and_key() -> None:
    token = sign(KEY, "view", uuid.uuid4().hex)
    for key, purpose in ((KEY, "unsubscribe"), (KEY, "click"), (b"other", "view")):
        with pytest.raises(BadToken):
            verify(key, purpose, token)


def test_a_key_that_could_be_guessed_signs_nothing(tmp_path: Path) -> None:
    for key in ("k", " " * 40, "k" * 15):
        with pytest.raises(BadSettings, match="CONTROLTOWER_SECRET_KEY is no secret"):
            Settings(home=tmp_path, secret_key=key).signing_key()  # type: ignore[arg-type]
    settings = Settings(home=tmp_path)
    with pytest.raises(BadSettings, match=r"There is no key at .*secret\.key"):
        settings.signing_key()
    assert len(settings.make_key()) == 64 and settings.make_key() == settings.signing_key()
    (tmp_path / "secret.key").write_text("")  # a disk that was full, a copy that was cut short
    with pytest.raises(BadSettings, match=r"secret\.key is no secret"):
        settings.signing_key()


def test_an_unknown_purpose_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no purpose"):
        sign(KEY, "order", uuid.uuid4().hex)


def test_an_id_that_is_none_makes_no_token() -> None:
    for text in ("", "0" * 31, "x" * 32):
        with pytest.raises(ValueError):
            sign(KEY, "view", text)


def test_addresses_fit_one_header_line() -> None:
    base = "https://messages.example-shop-seoul.co.kr"[:40].ljust(40, "r")
    identity = uuid.uuid4().hex
    own = of_message(KEY, base + "/", identity)
    assert len(base) == 40
    for purpose, address in own._asdict().items():
        assert len(address.encode()) < 78
        assert verify(KEY, purpose, address.removeprefix(f"{base}/{LETTERS[purpose]}")) == identity


PATHS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters="\\\\"), max_size=40)
PRODUCTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHOWN = st.tuples(PATHS, PRODUCTS, st.none() | st.integers(1, 999))
MESSAGE = "0123456789abcdef" * 2
TOKEN = sign(KEY, "click", MESSAGE)


@given(st.uuids(), SHOWN)
def test_a_click_brings_back_what_it_was_made_of(
    identity: uuid.UUID, shown: tuple[str, str | None, int | None]
) -> None:
    path, product, position = shown
    url = f"https://shop.example/{path}"
    query = Destinations(KEY).query(url, product, position)
    assert query == html.escape(query) and query.isascii() and query[0] == "?"
    token = of_message(KEY, "https://m.example/mail/", identity.hex).click.removeprefix("https://m.example/mail/c")
    for more in ("", "&fbclid=x", "&utm_source=kakao"):
        assert verify_click(KEY, token, query[1:] + more) == Click(identity.hex, url, product, position)


@given(SHOWN, SHOWN)
def test_a_destination_is_signed_as_a_whole(
    one: tuple[str, str | None, int | None], other: tuple[str, str | None, int | None]
) -> None:
    """No part of a link can be taken from another, though every message may carry the same destination."""
    links = [_parts(Destinations(KEY).query(f"https://shop.example/{path}", *more)) for path, *more in (one, other)]
    if links[0]["s"] == links[1]["s"]:
        assert one == other
        return
    mixed = {**links[0], "s": links[1]["s"]}
    for forged in (
        mixed,
        {**links[0], "to": "https://evil.example"},
        {**links[0], "n": "77777"},
        {**links[0], "p": "q" * 30},
    ):
        with pytest.raises(BadToken):
            verify_click(KEY, TOKEN, urlencode(forged))


def _parts(query: str) -> dict[str, str]:
    return dict(parse_qsl(query[1:], keep_blank_values=True, separator=";"))


def test_parts_of_a_destination_cannot_be_moved() -> None:
    signature = _parts(Destinations(KEY).query("https://shop.example/a", "b", 1))["s"]
    for to, product, position in (("https://shop.example/ab", "", "1"), ("https://shop.example/a", "b1", None)):
        moved = {"to": to, "p": product, "n": position, "s": signature}
        with pytest.raises(BadToken):
            verify_click(KEY, TOKEN, urlencode({k: v for k, v in moved.items() if v is not None}))


@pytest.mark.parametrize(
    "query", ["", "s=", "to=https://shop.example", "to=https://shop.example;s=", "s=%ff", "&" * 50]
)
def test_what_is_no_query_of_ours_is_refused(query: str) -> None:
    with pytest.raises(BadToken):
        verify_click(KEY, TOKEN, query)
    with pytest.raises(BadToken):
        verify_click(KEY, "A" * 35, Destinations(KEY).query("https://shop.example")[1:])


def test_links_of_mails_sent_before_still_lead_there() -> None:
    """Their token covers the destination; it was written with &, product and position."""
    for product, position in (("p&1", 2), (None, None)):
        url = "https://shop.example/p?a=1;b=2&c=3"
        token = sign(KEY, "click", MESSAGE, json.dumps([url, product, position]).encode())
        shown = {"to": url, "product": product, "position": position}
        query = urlencode({k: v for k, v in shown.items() if v is not None})
        assert verify_click(KEY, token, query) == Click(MESSAGE, url, product, position)
        for forged in (query.replace("shop", "evil"), query + "&product=p9", query + "&position=9"):
            with pytest.raises(BadToken):
                verify_click(KEY, token, forged)
        with pytest.raises(BadToken):  # the new token opens no old link
            verify_click(KEY, TOKEN, query)


@pytest.mark.parametrize(
    ("url", "with_them"),
    [
        ("https://a.example", "https://a.example?utm_source=x+%26&utm_medium=email"),
        ("https://a.example/p?", "https://a.example/p?utm_source=x+%26&utm_medium=email"),
        ("https://a.example/p?b=1;c&d=#e?f", "https://a.example/p?b=1;c&d=&utm_source=x+%26&utm_medium=email#e?f"),
        ("https://a.example/p?utm_medium=own&", "https://a.example/p?utm_medium=own&utm_source=x+%26"),
        ("https://a.example/?utm_source=&utm_medium#x", "https://a.example/?utm_source=&utm_medium#x"),
        ("HTTPS://상점.kr/상품?색=빨강#", "HTTPS://상점.kr/상품?색=빨강&utm_source=x+%26&utm_medium=email#"),
    ],
)
def test_a_page_keeps_its_own_query_and_fragment(url: str, with_them: str) -> None:
    assert with_parameters(url, (("utm_source", "x &"), ("utm_medium", "email"))) == with_them


def test_utm_parameters_are_the_shops_rule(korean_shop: Shop) -> None:
    by_rule = utm(korean_shop, "push", "win_back", "whats_new")
    assert by_rule == (
        ("utm_source", "controltower"),
        ("utm_medium", "push"),
        ("utm_campaign", "win_back"),
        ("utm_content", "whats_new"),
    )
    query = Destinations(KEY, by_rule).query("https://haru.example/p/1?utm_source=own", "p1", 1)
    assert verify_click(KEY, TOKEN, query[1:]).url == (
        "https://haru.example/p/1?utm_source=own&utm_medium=push&utm_campaign=win_back&utm_content=whats_new"
    )
    own = korean_shop.model_copy(update={"utm": Utm(source="haru", campaign="ct-{campaign}-{channel}", content="")})
    assert utm(own, "email", "c", "v") == (
        ("utm_source", "haru"),
        ("utm_medium", "email"),
        ("utm_campaign", "ct-c-email"),
    )
    assert utm(korean_shop.model_copy(update={"utm": False}), "email", "c", "v") == ()
    with pytest.raises(ValueError, match="no other braces"):
        Utm(source="{customer}")


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "/relative", "", "https://", "http:///path", "ftp://a.b",
     "https://a.example/\r\nSet-Cookie: x", " https://a.example", "https:\\\\a.example", "http://[bad"],
)  # fmt: skip
def test_only_web_addresses_can_be_clicked(url: str) -> None:
    assert web_address(url) is None
    with pytest.raises(BadSpec, match="no web address"):
        Destinations(KEY).query(url)


def test_web_addresses_as_shops_write_them() -> None:
    for url in ("https://a.example", "HTTP://a.example/x y?q=색#f", "https://상점.kr/상품"):
        assert web_address(url) == url
