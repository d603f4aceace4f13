"""A customer's zone: their own, or the shop's where it is none that this machine knows."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from controltower import settings
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.profiles.contacts import contact_of
from controltower.settings import INCLUDE, Settings, parse_shop
from support.lakes import publish_rows

SHOP = parse_shop(INCLUDE / "shops" / "simulated.yaml").model_copy(update={"timezone": "Europe/London"})


@pytest.mark.parametrize(
    ("given", "zone"),
    [
        ("Asia/Seoul", "Asia/Seoul"),
        ("America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        (None, "Europe/London"),
        ("", "Europe/London"),
        ("Mars/Olympus_Mons", "Europe/London"),
        ("+09:00", "Europe/London"),
        ("/etc/passwd", "Europe/London"),
        ("../../etc/passwd", "Europe/London"),
        ("Asia", "Europe/London"),  # a folder
        ("Asia/Seoul\0", "Europe/London"),
        ("x" * 5000, "Europe/London"),
    ],
)
def test_an_unknown_zone_is_the_shops(home: object, given: str | None, zone: str) -> None:
    conf: Settings = settings.load()
    known = datetime(2026, 6, 1, tzinfo=UTC)
    row = {"customer_id": "a", "updated_at": known, "email": "a@customers.example", "timezone": given}
    publish_rows(Lake(conf), "customers", "i", pa.Table.from_pylist([row], schema=CONTRACT["customers"].schema))
    with Lake(conf).read(None) as lake:
        contact = contact_of(lake, SHOP, "a")
    assert contact
    assert contact.zone.key == zone
