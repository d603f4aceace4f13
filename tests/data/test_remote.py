"""A prefix of an object store as a source, on the stores that fsspec brings itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from controltower.data import objects
from controltower.data.lake import Lake
from controltower.data.sources import remote
from controltower.errors import BadSource
from controltower.jobs.ingest import ingest_data
from controltower.jobs.sources import check_source
from controltower.settings import Settings

from data.conftest import CONSENTS, CUSTOMERS, ORDERS, rows

PRODUCTS = "product_id,title,price,currency\n"


class Store:
    """Objects below a prefix, on fsspec's memory or in a folder as file://."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = fsspec.core.url_to_fs(url)

    def put(self, name: str, text: str, day: str = "2025-12-01") -> None:
        key = f"{self.root}/{name}"
        self.fs.makedirs(key.rsplit("/", 1)[0], exist_ok=True)
        self.fs.pipe_file(key, text.encode())
        at = datetime.fromisoformat(day).replace(tzinfo=UTC)
        if self.url.startswith("memory"):
            self.fs.store[key].created = self.fs.store[key].modified = at
        else:
            os.utime(key, (at.timestamp(), at.timestamp()))


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path, conf: Settings) -> Iterator[Store]:
    found = Store(f"{request.param}://{tmp_path / 'bucket' / 'export'}")
    yield found
    if request.param == "memory":
        found.fs.store.clear()


def test_a_prefix_is_read_as_a_folder(store: Store, lake: Lake) -> None:
    store.put("orders/2025/a.csv", "no table")
    store.put("orders-1.csv", ORDERS + "o1,2025-01-01T00:00Z,GBP,c,,\n")
    store.put("customers.csv", CUSTOMERS + "c,,c@customers.example,ko,Asia/Seoul,2025-01-01\n")
    store.put("source.yaml", "timezone: Asia/Seoul\nknown_at: file")
    report = ingest_data(store.url + "/")
    assert report["source"] == "export"
    assert {name: table["loaded"] for name, table in report["tables"].items()} == {"customers": 1, "orders": 1}
    assert rows(lake, "orders")[0]["updated_at"] == datetime(2025, 12, 1, tzinfo=UTC)  # the object's time


def test_an_interval_fetches_what_changed_and_every_log(
    store: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(remote.log, "info", lambda _, path, *rest: fetched.append(str(path)))
    store.put("orders-1.csv", ORDERS + "o1,2025-06-01T00:00Z,GBP,c,,\n", "2025-06-01")
    store.put("orders-2.csv", ORDERS + "o2,2025-06-02T00:00Z,GBP,c,,\n", "2025-06-02")
    store.put("products.csv", PRODUCTS + "p,Lamp,1,GBP\n", "2025-06-01")
    store.put("consents.csv", CONSENTS + "c,email,marketing,2025-05-01,true,form\n", "2025-05-01")
    report = ingest_data(store.url, "2025-06-02", "2025-06-03")
    assert sorted(fetched) == ["consents.csv", "orders-2.csv"]
    assert {name: table["loaded"] for name, table in report["tables"].items()} == {"consents": 1, "orders": 1}
    assert "products: nothing changed since the interval's start" in report["notes"]


def test_what_may_still_be_written_is_passed_over(store: Store) -> None:
    store.put("products.csv", PRODUCTS + "p,Lamp,1,GBP\n")
    store.put("products-2.csv.tmp", PRODUCTS)
    store.put("products/_temporary/0/part.csv", PRODUCTS)
    store.put("_orders.csv", ORDERS)
    store.put("_SUCCESS", "")
    store.put("orders.csv", "")
    report = ingest_data(store.url)
    assert list(report["tables"]) == ["products"]
    assert report["notes"] == [
        "_orders.csv looks unfinished or hidden, and was not read",
        "orders.csv is empty, perhaps still being written, and was not read",
        "products-2.csv.tmp looks unfinished or hidden, and was not read",
        "products/_temporary/0/part.csv looks unfinished or hidden, and was not read",
    ]


def test_an_object_that_grows_while_it_is_read_stops_the_load(
    store: Store, conf: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("products.csv", PRODUCTS + "p,Lamp,1,GBP\n")
    listed = remote.RemoteFolder._listed

    def then_more(source: Any) -> Any:
        found = listed(source)
        store.put("products.csv", PRODUCTS + "p,Lamp,1,GBP\nq,Cup,1,GBP\n")
        return found

    monkeypatch.setattr(remote.RemoteFolder, "_listed", then_more)
    with pytest.raises(BadSource, match=r"products.csv changed while it was read \(45 bytes, then 57\)"):
        ingest_data(store.url)
    assert not (conf.home / "lake" / "manifest.json").exists()


def test_no_more_is_fetched_than_there_is_room_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("products.csv", PRODUCTS + "p,Lamp,1,GBP\n" * 100)
    monkeypatch.setenv("CONTROLTOWER_SPILL", "1KB")
    with pytest.raises(BadSource, match=r"more than the 1KB that may be fetched. Raise CONTROLTOWER_SPILL"):
        ingest_data(store.url)


def test_a_named_source_may_lie_at_a_prefix(store: Store, conf: Settings) -> None:
    store.put("waren/x.csv", "nr,titel\n1,Lamp\n")
    (conf.home / "sources").mkdir()
    (conf.home / "sources" / "teas.yaml").write_text(
        f"location: {store.url}\ntables:\n  products:\n    file: waren/*.csv\n"
        "    columns: {nr: product_id, titel: title}\n    expressions: {price: '1', currency: \"'KRW'\"}"
    )
    report = check_source("teas")
    assert report["ok"] and report["tables"]["products"]["rows"][0]["title"] == "Lamp"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://nowhere", "There is nothing at memory://nowhere"),
        ("gs://bucket/x", r"gs:// needs a package that isn't there. pip install 'controltower\[gs\]'"),
        ("gopher://x", "gopher://x can't be read"),
    ],
)
def test_a_prefix_that_is_not_there(conf: Settings, url: str, said: str) -> None:
    with pytest.raises(BadSource, match=said):
        ingest_data(url)


def test_credentials_of_an_airflow_connection() -> None:
    given = {
        "login": "key",
        "password": "secret",
        "extra": {"endpoint_url": "https://s3.example", "key_path": "k.json"},
    }
    assert objects.options("s3", given) == {
        "key": "key", "secret": "secret", "client_kwargs": {"endpoint_url": "https://s3.example"}
    }  # fmt: skip
    assert objects.options("gs", given) == {"token": "k.json"}


@pytest.mark.parametrize(("size", "expected"), [("20GB", 20_000_000_000), ("1.5 GiB", 1_610_612_736), ("7b", 7)])
def test_sizes(size: str, expected: int) -> None:
    assert objects.in_bytes(size) == expected
