"""How a phone number, an address and a shop's own hash become one key."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.data.contract import CONTRACT
from controltower.data.identity.claims import told


def keys(tmp_path: Path, table: str, **row: str) -> set[tuple[str, str]]:
    """The keys that one row tells, in a shop in Korea."""
    file = tmp_path / f"{table}.parquet"
    known = {"customer_id": "c", CONTRACT[table].known: datetime(2026, 1, 1, tzinfo=UTC)}
    pq.write_table(pa.Table.from_pylist([known | row], CONTRACT[table].schema), file)
    files = {name: [str(file)] if name == table else [] for name in ("customers", "identities")}
    query = told(files["customers"], files["identities"], "KR")
    return set(duckdb.sql(f"SELECT kind, key FROM ({query})").fetchall())


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("written", "country", "number"),
    [
        ("010-1234-5678", None, "+821012345678"),
        ("+82 10 1234 5678", None, "+821012345678"),
        ("+82 (0)10-1234-5678", "KR", "+821012345678"),
        ("+82 010 1234 5678", "", "+821012345678"),
        ("0082 10 1234 5678", "GB", "+821012345678"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("2025550123", "US", "US2025550123"),
        ("+1 202 555 0123", "US", "+12025550123"),
    ],
)
def test_a_number_is_one_key_however_it_is_written(
    tmp_path: Path, written: str, country: str | None, number: str
) -> None:
    row = {"phone": written} | ({"country": country} if country is not None else {})
    assert keys(tmp_path, "customers", **row) == {("phone_hash", sha(number))}


@pytest.mark.parametrize("written", ["", "-", "110", "1588-123"])
def test_what_is_no_persons_number_is_no_key(tmp_path: Path, written: str) -> None:
    assert keys(tmp_path, "customers", phone=written, email=" ") == set()


def test_an_address_is_the_same_key_as_a_shops_own_hash_of_it(tmp_path: Path) -> None:
    key = {("email_hash", sha("ann@mail.example"))}
    assert keys(tmp_path, "customers", email=" Ann@Mail.example") == key
    assert keys(tmp_path, "identities", kind="Email_Hash", value=sha("ann@mail.example").upper()) == key


def test_a_device_or_advertising_id_is_no_key(tmp_path: Path) -> None:
    assert keys(tmp_path, "identities", kind="ad_id", value="x") == set()
    assert keys(tmp_path, "identities", kind="login", value="Ann") == {("login", sha("Ann"))}
