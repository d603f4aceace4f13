"""Online Retail: what its lines become; on the real file where that is at hand, else on a few rows like it."""

from __future__ import annotations

import functools
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from controltower.data import quarantine
from controltower.data.lake import Lake
from controltower.data.sources import retail_customers, retail_file
from controltower.errors import BadSource
from controltower.jobs.ingest import ingest_data
from controltower.settings import Settings

from data.conftest import rows, utc

UK = "United Kingdom"
LINES: list[tuple[Any, ...]] = [
    (536365, "85123A", "WHITE HANGING HEART  T-LIGHT HOLDER ", 6, "2010-12-01 08:26", 2.55, 17850.0, UK),
    (536365, 71053, "WHITE METAL LANTERN", 6, "2010-12-01 08:26", 3.39, 17850.0, UK),
    (536366, "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", 1, "2011-07-01 10:00", 2.95, 12347, "Iceland"),
    (536366, "POST", "POSTAGE", 1, "2011-07-01 10:01", 18.0, 12347, "Iceland"),
    ("C536379", "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", -2, "2010-12-05 09:00", 2.55, 17850, UK),
    (536400, 22139, None, 56, "2010-12-02 09:00", 0.0, None, UK),
    (536401, 71053, "damaged", -3, "2010-12-02 09:00", 0.0, None, UK),
    (536402, 71053, 20713, 1, "2010-12-02 09:00", 3.39, None, "Unspecified"),
]  # fmt: skip


def sheet() -> bytes:
    book = openpyxl.Workbook()
    assert book.active
    book.active.append(list(retail_file.COLUMNS))
    for line in LINES:
        book.active.append([*line[:4], datetime.fromisoformat(line[4]), *line[5:]])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


@pytest.fixture
def small(conf: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "Online Retail.xlsx"
    file.write_bytes(sheet())
    monkeypatch.setenv("CONTROLTOWER_ONLINE_RETAIL", str(file))
    return file


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/online+retail.zip"
    finally:
        server.shutdown()
        server.server_close()


def test_lines_become_orders_and_returns(lake: Lake, small: Path) -> None:
    report = ingest_data("online-retail")
    assert report["tables"]["order_lines"]["loaded"] == 7
    assert report["notes"][0].startswith("1 stock adjustments")
    orders = {row["order_id"]: row for row in rows(lake, "orders")}
    assert {o: (row["status"], row.get("customer_id")) for o, row in orders.items()} == {
        "536365": ("placed", "17850"),
        "536366": ("placed", "12347"),
        "C536379": ("returned", "17850"),
        "536400": ("placed", None),
        "536402": ("placed", None),
    }
    assert orders["536366"]["ordered_at"] == utc("2011-07-01T09:00")  # summer time
    back = next(row for row in rows(lake, "order_lines") if row["order_id"] == "C536379")
    assert (back["product_id"], back["quantity"], back["updated_at"]) == ("85123A", -2, utc("2010-12-05T09:00"))


def test_products_have_clean_titles_and_the_price_of_their_time(lake: Lake, small: Path) -> None:
    ingest_data("online-retail")
    then, now = ({row["product_id"]: row for row in rows(lake, "products", at)} for at in ("2011-01-01", "2011-08-01"))
    assert (then["85123A"]["title"], float(then["85123A"]["price"])) == ("White Hanging Heart T-Light Holder", 2.55)
    assert float(now["85123A"]["price"]) == 2.95
    assert "POST" not in then
    assert (now["POST"]["category"], now["POST"]["in_stock"]) == ("service", False)
    assert (now["71053"]["title"], now["71053"]["in_stock"], now["71053"].get("category")) == (
        "White Metal Lantern",
        True,
        None,
    )
    assert (now["22139"]["title"], now["22139"]["in_stock"]) == ("22139", False)


def test_customers_are_made_up_the_same_way_every_time(lake: Lake, small: Path) -> None:
    ingest_data("online-retail", end="2011-01-01")
    (first,) = rows(lake, "customers")
    ingest_data("online-retail")
    second = {row["customer_id"]: row for row in rows(lake, "customers")}
    assert second["17850"] == first
    iceland = second["12347"]
    assert (iceland["country"], iceland["timezone"], iceland["locale"]) == ("IS", "Atlantic/Reykjavik", "is-IS")
    assert iceland["email"].endswith(".example")
    assert iceland["signed_up_at"] == iceland["updated_at"] == utc("2011-07-01T09:00")


def test_shares_of_consent_are_as_said() -> None:
    seen = pd.DataFrame(
        {"customer_id": [str(i) for i in range(4000)], "country": "France", "signed_up_at": utc("2010-12-01")}
    )
    given = retail_customers.consents(seen, utc("2012-01-01"))
    shares = given[given["granted"]].groupby("channel").size() / len(seen)
    assert abs(shares["email"] - 0.8) < 0.02
    assert abs(shares["push"] - 0.5) < 0.02
    assert len(retail_customers.devices(seen)) == shares["push"] * len(seen)
    withdrawn = given[~given["granted"] & (given["recorded_at"] > utc("2010-12-01"))]
    assert 0.01 < len(withdrawn) / len(seen) < 0.06


def test_the_archive_is_downloaded_once_and_checked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "online+retail.zip", "w") as archive:
        archive.writestr("Online Retail.xlsx", sheet())
    plain = tmp_path / "plain.xlsx"
    plain.write_bytes(sheet())
    known = retail_file.read_lines(plain)
    to = tmp_path / "home" / "downloads" / "online_retail.parquet"
    with served(tmp_path) as url:
        with pytest.raises(BadSource, match=r"checksum differs.*CONTROLTOWER_ONLINE_RETAIL"):
            retail_file.download(to, url)
        assert not to.exists()
        retail_file.download(to, url, retail_file.content_digest(known))
        with pytest.raises(BadSource, match="HTTPStatusError"):
            retail_file.download(to, url + "x")
    pd.testing.assert_frame_equal(retail_file.read_lines(to), known)
    with pytest.raises(BadSource, match=r"can't be downloaded.*ConnectError"):
        retail_file.download(to, url)


@pytest.mark.parametrize(
    ("name", "content"), [("x.xlsx", b"no sheet"), ("x.parquet", b"no parquet"), ("gone.xlsx", None)]
)
def test_a_file_that_is_not_online_retail(
    conf: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None
) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("CONTROLTOWER_ONLINE_RETAIL", str(tmp_path / name))
    with pytest.raises(BadSource, match="CONTROLTOWER_ONLINE_RETAIL"):
        ingest_data("online-retail")


@pytest.mark.shared
def test_the_real_file(lake: Lake, conf: Settings, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared_data / "online_retail.parquet"
    monkeypatch.setenv("CONTROLTOWER_ONLINE_RETAIL", str(file))
    raw = pd.read_parquet(file)
    assert retail_file.content_digest(retail_file.read_lines(file)) == retail_file.DIGEST
    report = ingest_data("online-retail")
    assert {t: r["quarantined"] for t, r in report["tables"].items() if r["quarantined"]} == {"order_lines": 2}
    assert set(quarantine.read(lake)["rule"].to_pylist()) == {"negative"}  # two write-offs of bad debt

    sold = raw[(raw["UnitPrice"] >= 0) & ((raw["Quantity"] > 0) | raw["InvoiceNo"].str.startswith("C"))]
    expected = (sold["Quantity"] * sold["UnitPrice"]).groupby(sold["CustomerID"]).sum()
    with lake.read() as reading:
        orders, lines = reading.table("orders"), reading.table("order_lines")
        customers = reading.frame(reading.table("customers").select("customer_id", "country"))
        net = (lines.quantity * lines.unit_price.cast("float64")).sum()
        found = reading.frame(lines.join(orders, "order_id").group_by("customer_id").agg(net=net))
        total = reading.arrow(lines.aggregate(net=net))["net"][0].as_py()
    assert len(customers) == 4372
    assert customers["customer_id"].str.fullmatch(r"\d{5}").all()
    assert total == pytest.approx(float((sold["Quantity"] * sold["UnitPrice"]).sum()), abs=0.01)
    by_customer = found.dropna().set_index("customer_id")["net"]
    expected.index = expected.index.astype(int).astype(str)
    assert len(by_customer) == 4372
    assert by_customer.sub(expected).abs().max() < 0.01
