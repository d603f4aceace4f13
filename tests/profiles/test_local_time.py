"""Whose clock it is; offsets from UTC, found as whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from controltower.profiles.contacts import contacts, places
from controltower.profiles.local_time import customer_zones, epoch, utc_offsets, zone_of_country
from support.shop_tables import SHOP, T, ago, lake_with


def test_offsets_change_at_the_very_second() -> None:
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    rows = utc_offsets({"Europe/London", "Asia/Seoul"}, since, until).to_pylist()
    seoul = [r for r in rows if r["offset_zone"] == "Asia/Seoul"]
    assert [(r["offset_from"], r["offset_until"], r["offset"]) for r in seoul] == [
        (epoch(since), epoch(until) + 1, 9 * 3600)
    ]
    london = [r for r in rows if r["offset_zone"] == "Europe/London"]
    assert [r["offset"] for r in london] == [0, 3600, 0]
    assert london[1]["offset_from"] == epoch(datetime(2026, 3, 29, 1, tzinfo=UTC))
    assert london[2]["offset_from"] == epoch(datetime(2026, 10, 25, 1, tzinfo=UTC))


def test_a_country_with_one_time_tells_the_zone_of_who_told_none(tmp_path: Path) -> None:
    """The same to those who look back at facts, who plan messages and who send them."""
    assert zone_of_country("KR") == "Asia/Seoul" and zone_of_country("de") == "Europe/Berlin"
    assert zone_of_country("US") is None and zone_of_country("XX") is None
    told = [
        ("a", "JP", None, "Asia/Tokyo"),
        ("b", "US", None, "UTC"),
        ("c", "JP", "Europe/Paris", "Europe/Paris"),
        ("d", "JP", "no/zone", "Asia/Tokyo"),
        ("e", None, None, "UTC"),
        ("f", SHOP.country, None, "UTC"),  # the shop says which clock holds at home
        ("g", "jp", "", "Asia/Tokyo"),
    ]
    right = {customer: zone for customer, _, _, zone in told}
    people = [
        {"customer_id": c, "country": country, "timezone": zone, "updated_at": ago(9)} for c, country, zone, _ in told
    ]
    lake = lake_with(tmp_path, {"customers": people})
    with lake.read(T) as reading:
        zones = customer_zones(reading.table("customers"), SHOP)
        assert reading.frame(zones.table).set_index("customer_id")["zone"].to_dict() == right
        assert set(right.values()) == zones.used
        sent = contacts(reading, SHOP, list(right))
        assert {customer: contact.zone.key for customer, contact in sent.items()} == right
        planned = places(reading, SHOP, pa.chunked_array([pa.array([*right, "stranger"])]))
    assert planned["zone"].to_pylist() == [*right.values(), "UTC"]
    assert planned["country"].to_pylist() == ["JP", "US", "JP", "JP", SHOP.country, SHOP.country, "jp", SHOP.country]
