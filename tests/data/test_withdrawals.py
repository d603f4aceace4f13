"""A row of consents that breaks a rule may be a withdrawal: nobody is written to against it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from controltower.data import quarantine
from controltower.data.lake import Lake
from controltower.errors import BadSource
from controltower.ledger import consents
from controltower.ledger.database import begin
from controltower.ledger.tables import consents as ledger_table
from controltower.settings import Settings

from data.conftest import CONSENTS, ORDERS, Ingest, rows, utc

LENIENT = {"source.yaml": "bad_rows_limit: 1"}
NOW = utc("2026-01-01")  # the home's clock
CHANNELS = ("email", "push", "in_app")
GRANTS = "".join(f"c,{ch},{p},2025-01-01,true,shop\n" for ch in CHANNELS for p in ("marketing", "night_marketing"))


def granted(conf: Settings, as_of: datetime = NOW, purpose: str = "marketing") -> set[str]:
    """The channels on which customer c may be written to."""
    with begin(conf) as ledger:
        return {channel for channel in CHANNELS if "c" in consents.granted(ledger, channel, purpose, as_of)}


def withdrawn(conf: Settings) -> list[tuple[Any, ...]]:
    t = ledger_table.c
    with begin(conf) as ledger:
        found = ledger.execute(
            ledger_table.select().where(~t.granted).order_by(t.customer_id, t.channel, t.purpose, t.recorded_at)
        ).all()
    return [(row.customer_id, row.channel, row.purpose, row.recorded_at, row.source) for row in found]


@pytest.mark.parametrize(
    ("row", "left", "night_left"),
    [
        # the bad withdrawal, and where c may still be written to: by day, by night
        ("c,email,marketing,2025-06-01,false,", {"push", "in_app"}, set(CHANNELS)),
        ("c,email,marketing,2026-01-01T00:10:00Z,false,shop", {"push", "in_app"}, set(CHANNELS)),
        ("c,email,marketing,2026-01-01T00:03:00Z,false,shop", {"push", "in_app"}, set(CHANNELS)),  # only left out
        ("c,email,marketing,yesterday,false,shop", {"push", "in_app"}, set(CHANNELS)),
        ("c,email,marketing,,false,shop", {"push", "in_app"}, set(CHANNELS)),
        ("c,email,marketing,2025-06-01,nope,shop", {"push", "in_app"}, set(CHANNELS)),
        ("c,email,marketing,2025-06-01,,shop", {"push", "in_app"}, set(CHANNELS)),
        ("c,e-mail,marketing,2025-06-01,false,shop", set(), set(CHANNELS)),
        ("c,,marketing,2025-06-01,false,shop", set(), set(CHANNELS)),
        ("c,push,adverts,2025-06-01,false,shop", {"email", "in_app"}, {"email", "in_app"}),
        ("c,e-mail,,,,", set(), set()),
        ("c,email,marketing,2025-06-01,true,", set(CHANNELS), set(CHANNELS)),  # a bad grant changes nothing
        (",email,marketing,2025-06-01,false,shop", set(CHANNELS), set(CHANNELS)),
    ],
)
def test_a_bad_row_withdraws(conf: Settings, ingest: Ingest, row: str, left: set[str], night_left: set[str]) -> None:
    ingest(LENIENT | {"consents.csv": CONSENTS + GRANTS + row + "\n"})
    assert granted(conf) == left
    assert granted(conf, purpose="night_marketing") == night_left


def test_it_is_in_quarantine_and_the_report_too(conf: Settings, lake: Lake, ingest: Ingest) -> None:
    bad = "c,email,marketing,2025-06-01,false,\nc,push,marketing,,nope,app\n,email,marketing,2025-06-01,false,shop\n"
    report = ingest(LENIENT | {"consents.csv": CONSENTS + GRANTS + bad})
    found = report["tables"]["consents"]
    assert (found["read"], found["loaded"], found["quarantined"]) == (9, 6, 3)
    assert found["notes"] == [
        "2 quarantined rows count as withdrawals: nobody is written to against them",
        "1 quarantined rows name no customer: a withdrawal among them can't be heeded",
    ]
    assert report["consents"] == 8
    assert len(quarantine.read(lake)) == 3
    assert len(rows(lake, "consents")) == 6  # the lake holds what keeps the contract
    assert withdrawn(conf) == [
        ("c", "email", "marketing", utc("2025-06-01"), "quarantine"),
        ("c", "push", "marketing", NOW, "app"),
    ]


def test_at_its_own_time(conf: Settings, ingest: Ingest) -> None:
    bad = "c,email,marketing,2025-06-01,false,\n"
    again = "c,email,marketing,2025-07-01,true,shop\n"
    for _ in range(2):  # loading it again adds nothing
        ingest(LENIENT | {"consents.csv": CONSENTS + GRANTS + bad + again})
    assert [granted(conf, utc(day)) for day in ("2025-05-31", "2025-06-30", "2025-07-02")] == [
        set(CHANNELS),
        {"push", "in_app"},
        set(CHANNELS),
    ]
    assert len(withdrawn(conf)) == 1


def test_a_grant_that_was_miswritten_holds_once_it_is_mended(conf: Settings, ingest: Ingest) -> None:
    bad = "c,email,marketing,2025-06-01,ja,shop\n"
    ingest(LENIENT | {"consents.csv": CONSENTS + GRANTS + bad})
    assert granted(conf) == {"push", "in_app"}
    ingest({"consents.csv": CONSENTS + GRANTS + bad.replace("ja", "true")})
    assert granted(conf) == set(CHANNELS)


def test_channel_and_purpose_may_be_in_capitals(conf: Settings, lake: Lake, ingest: Ingest) -> None:
    report = ingest({"consents.csv": CONSENTS + GRANTS + "c, Email ,MARKETING,2025-06-01,false,shop\n"})
    assert report["tables"]["consents"]["quarantined"] == 0
    assert granted(conf) == {"push", "in_app"}
    assert {(row["channel"], row["purpose"]) for row in rows(lake, "consents") if not row["granted"]} == {
        ("email", "marketing")
    }


def test_a_refused_load_keeps_the_clear_withdrawals(conf: Settings, lake: Lake, ingest: Ingest) -> None:
    ingest({"consents.csv": CONSENTS + GRANTS})
    good = "c,email,marketing,2025-06-01,false,shop\n"
    bad = "c,push,marketing,2025-06-01,false,\n" + "c,in_app,marketing,2025-06-01,ja,shop\n" * 9
    with pytest.raises(BadSource, match="But the 2 withdrawals of consent that could be read are recorded"):
        ingest({"consents.csv": CONSENTS + GRANTS + good + bad})
    assert granted(conf) == {"in_app"}
    assert len(rows(lake, "consents")) == 6


def test_a_load_refused_for_another_table_keeps_them_too(conf: Settings, ingest: Ingest) -> None:
    ingest({"consents.csv": CONSENTS + GRANTS})
    good = "c,email,marketing,2025-06-01,false,shop\n"
    with pytest.raises(BadSource, match=r"rows of orders .*But the 1 withdrawals"):
        ingest({"consents.csv": CONSENTS + GRANTS + good, "orders.csv": ORDERS + "o,never,GBP,c,,placed\n"})
    assert granted(conf) == {"push", "in_app"}
