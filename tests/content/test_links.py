"""Tokens of links: short, bound to a purpose, not to be forged."""

from __future__ import annotations

import string
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from controltower.content.links import (
    LETTERS,
    BadToken,
    click_url,
    preferences_url,
    sign,
    unsubscribe_url,
    verify,
    verify_click,
    view_url,
    web_address,
)
from controltower.errors import BadSettings, BadSpec
from controltower.settings import Settings
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
    assert len(settings.signing_key()) == 64
    (tmp_path / "secret.key").write_text("")  # a disk that was full, a copy that was cut short
    with pytest.raises(BadSettings, match=r"secret\.key is no secret"):
        settings.signing_key()


def test_an_unknown_purpose_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no purpose"):
        sign(KEY, "order", uuid.uuid4().hex)


def test_addresses_fit_one_header_line(tmp_path: Path) -> None:
    base = "https://messages.example-shop-seoul.co.kr"[:40].ljust(40, "r")
    settings = Settings(home=tmp_path, public_url=base + "/")
    identity = uuid.uuid4().hex
    address = unsubscribe_url(settings, identity)
    assert len(base) == 40
    assert len(address.encode()) < 78
    assert verify(settings.signing_key(), "unsubscribe", address.removeprefix(base + "/u")) == identity
    assert verify(settings.signing_key(), "preferences", preferences_url(settings, identity)[-35:]) == identity
    assert verify(settings.signing_key(), "view", view_url(settings, identity)[-35:]) == identity


PATHS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters="\\\\"), max_size=40)
SHOWN = st.tuples(PATHS, st.none() | st.text(max_size=20), st.none() | st.integers(1, 999))


@given(st.uuids(), SHOWN)
def test_a_click_brings_back_what_it_was_made_of(
    identity: uuid.UUID, shown: tuple[str, str | None, int | None]
) -> None:
    settings = Settings(secret_key=KEY.decode(), public_url="https://m.example/mail/")  # type: ignore[arg-type]
    path, product, position = shown
    url = f"https://shop.example/{path}"
    parts = urlsplit(click_url(settings, identity.hex, url, product, position))
    token = parts.path.removeprefix("/mail/c")
    asked = parse_qs(parts.query, keep_blank_values=True)
    assert asked["to"] == [url]
    assert asked.get("product") == (None if product is None else [product])
    assert asked.get("position") == (None if position is None else [str(position)])
    assert verify_click(KEY, token, url, product, position) == identity.hex
    for other in ((url + "x", product, position), (url, "another", position), (url, product, 1000), (url, None, None)):
        if other != (url, product, position):
            with pytest.raises(BadToken):
                verify_click(KEY, token, *other)


def test_parts_of_a_click_cannot_be_moved() -> None:
    settings = Settings(secret_key=KEY.decode())  # type: ignore[arg-type]
    token = urlsplit(click_url(settings, "0" * 32, "https://shop.example/a", "b", 1)).path[2:]
    for moved in (("https://shop.example/ab", "", 1), ("https://shop.example/a", "b1", None)):
        with pytest.raises(BadToken):
            verify_click(KEY, token, *moved)


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "/relative", "", "https://", "http:///path", "ftp://a.b",
     "https://a.example/\r\nSet-Cookie: x", " https://a.example", "https:\\\\a.example", "http://[bad"],
)  # fmt: skip
def test_only_web_addresses_can_be_clicked(url: str) -> None:
    assert web_address(url) is None
    with pytest.raises(BadSpec, match="no web address"):
        click_url(Settings(secret_key=KEY.decode()), "0" * 32, url)  # type: ignore[arg-type]


def test_web_addresses_as_shops_write_them() -> None:
    for url in ("https://a.example", "HTTP://a.example/x y?q=색#f", "https://상점.kr/상품"):
        assert web_address(url) == url
