"""A customer token speaks for one customer until its time, and can't be made without the key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

import pytest
from controltower.content.customer_tokens import customer_key, sign_customer, verify_customer
from controltower.content.links import BadToken
from hypothesis import given
from hypothesis import strategies as st

KEY = b"a home's key"
NOW = datetime(2026, 6, 15, 3, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_it_names_the_customer_whatever_the_id(customer: str) -> None:
    token = sign_customer(KEY, customer, UNTIL)
    assert verify_customer(KEY, token, NOW) == customer
    assert re.fullmatch(r"[\w.-]+", token, re.ASCII)


def test_it_ends() -> None:
    token = sign_customer(KEY, "c1", UNTIL)
    assert verify_customer(KEY, token, UNTIL) == "c1"
    with pytest.raises(BadToken):
        verify_customer(KEY, token, UNTIL + timedelta(seconds=1))


def test_a_backend_makes_the_same_one_with_its_key_alone() -> None:
    """The recipe of docs/engineers.md, word by word."""

    def b64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    about = b64("고객 1".encode()) + "." + str(int(UNTIL.timestamp()))
    mac = hmac.new(customer_key(KEY).encode(), about.encode(), hashlib.sha256).digest()
    assert about + "." + b64(mac) == sign_customer(KEY, "고객 1", UNTIL)


def test_nothing_else_is_taken() -> None:
    token = sign_customer(KEY, "c1", UNTIL)
    customer, until, mac = token.split(".")
    other = sign_customer(KEY, "c2", UNTIL).split(".")
    forged = (
        "", "x", "..", token[:-1], token + "A", f"{other[0]}.{until}.{mac}", f"{customer}.{int(until) + 1}.{mac}",
        f"{customer}.{until}.{other[2]}", sign_customer(b"another key", "c1", UNTIL), token.replace(".", "…"),
        f"{customer}.{'9' * 5000}.{mac}",
    )  # fmt: skip
    for one in forged:
        with pytest.raises(BadToken):
            verify_customer(KEY, one, NOW)
    assert KEY.hex() not in customer_key(KEY)
