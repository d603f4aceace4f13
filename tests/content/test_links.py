"""Tokens of links: short, bound to a purpose, not to be forged."""

from __future__ import annotations

import string
import uuid
from pathlib import Path

import pytest
from controltower.content.links import LETTERS, BadToken, preferences_url, sign, unsubscribe_url, verify
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
