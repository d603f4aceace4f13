"""A home, and folders of CSV to ingest into it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from controltower import settings
from controltower.data.lake import Lake
from controltower.jobs.ingest import ingest_data
from controltower.settings import Settings

Ingest = Callable[..., dict[str, Any]]

CUSTOMERS = "customer_id,updated_at,email,locale,timezone,signed_up_at\n"
EVENTS = "event_id,occurred_at,event_name,received_at,customer_id,value\n"
ORDERS = "order_id,ordered_at,currency,customer_id,updated_at,status\n"
LINES = "order_id,line_no,product_id,quantity,unit_price\n"
PRODUCTS = "product_id,title,price,currency\n"
CONSENTS = "customer_id,channel,purpose,recorded_at,granted,source\n"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def conf(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of an empty home whose clock stands at New Year 2026, UTC."""
    monkeypatch.setenv("CONTROLTOWER_NOW", "2026-01-01T00:00:00+00:00")
    monkeypatch.setenv("CONTROLTOWER_SPEED", "0")
    return settings.load()


@pytest.fixture
def lake(conf: Settings) -> Lake:
    return Lake(conf)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder that a shop hands over; empty yet."""
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


@pytest.fixture
def ingest(conf: Settings, shop: Path) -> Ingest:
    """Write files into the shop's folder (name -> text) and ingest it. Returns the job's report."""

    def run(files: dict[str, str], start: str | None = None, end: str | None = None) -> dict[str, Any]:
        for name, text in files.items():
            (shop / name).parent.mkdir(exist_ok=True)
            (shop / name).write_text(text, encoding="utf-8")
        return ingest_data(str(shop), start, end)

    return run


def rows(lake: Lake, table: str, as_of: str | None = None) -> list[dict[str, Any]]:
    """What a contract table holds, without its empty columns, by key."""
    with lake.read(utc(as_of) if as_of else None) as reading:
        found = reading.arrow(reading.table(table)).to_pylist()
    found = [{k: v for k, v in row.items() if v is not None} for row in found]
    return sorted(found, key=lambda row: [str(value) for value in row.values()])


def good_customers(count: int) -> str:
    """CSV rows of customers without a fault, so that a bad one stays below the limit."""
    return "".join(f"c{i},,c{i}@mail.example,ko-KR,Asia/Seoul,2025-01-01\n" for i in range(count))
