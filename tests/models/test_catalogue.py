"""What is known of the products, and which may be shown; where a shop has no catalogue, too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.models.recommend.catalogue import read_catalogue
from controltower.models.recommend.history import catalogue_mask, read_allowed
from controltower.settings import Settings
from support.lakes import publish_rows

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
IDS = np.array(["a", "b", "gone", "post"])


def tables(*products: dict[str, object]) -> Callable[[str], ibis.Table]:
    rows = {"products": list(products)}
    return lambda name: ibis.memtable(pa.Table.from_pylist(rows.get(name, []), schema=CONTRACT[name].schema))


KNOWN = tables(
    {"product_id": "b", "title": "Tea", "category": "drinks > tea", "in_stock": False, "currency": "EUR"},
    {"product_id": "a", "title": "Cup", "category": "drinks > tea", "currency": "EUR"},
    {"product_id": "post", "title": "Postage", "category": "Service", "currency": "EUR"},
    {"product_id": "new", "title": "New", "currency": "EUR"},
)


def test_what_vanished_from_the_catalogue_is_not_shown() -> None:
    assert catalogue_mask(KNOWN, AS_OF, IDS).tolist() == [True, False, False, False]
    assert catalogue_mask(KNOWN, AS_OF, IDS, in_stock=False).tolist() == [True, True, False, False]


def test_without_a_catalogue_what_was_bought_may_be_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert catalogue_mask(tables(), AS_OF, IDS).all()
    assert "no catalogue is known as of 2026-06-01T00:00:00+00:00" in caplog.text


def test_before_the_first_catalogue_is_loaded_there_is_none(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As of a day before, lists are made as they were made on that day; from the next on the catalogue counts."""
    lake, day = Lake(Settings(home=home)), timedelta(days=1)
    told = {"title": "t", "price": 1, "currency": "EUR", "updated_at": AS_OF}
    rows = [told | {"product_id": "a"}, told | {"product_id": "post", "category": "service"}]
    publish_rows(lake, "products", "2026-06-01", pa.Table.from_pylist(rows, CONTRACT["products"].schema))
    for at, shown in ((AS_OF - day, [True] * 4), (AS_OF, [True, False, False, False])):
        with lake.read(at) as reading:
            assert catalogue_mask(reading.table, at, IDS).tolist() == shown
            assert read_allowed(reading.table, at, IDS)[""].in_stock.tolist() == shown
        assert ("no catalogue is known" in caplog.text) == (at < AS_OF)
        caplog.clear()


def test_the_catalogue_holds_what_is_known_and_a_category_once() -> None:
    found = read_catalogue(KNOWN, IDS)
    assert found.title.tolist() == ["Cup", "Tea", "", "Postage"]
    assert found.category.tolist() == ["drinks > tea", "drinks > tea", "", "Service"]
    assert found.category[0] is found.category[1]
    assert read_catalogue(tables(), IDS).title.tolist() == [""] * 4
