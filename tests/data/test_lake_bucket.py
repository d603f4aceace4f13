"""The lake in an object store: over HTTP to moto's S3, an emulator that knows conditional writes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from controltower import settings
from controltower.data.lake import Lake
from controltower.data.persons import Persons
from controltower.data.stores import UNUSED
from controltower.errors import BadSettings, BadSource
from controltower.jobs.ingest import ingest_data
from controltower.settings import Settings
from moto.server import DomainDispatcherApplication, create_backend_app
from support.lakes import publish_rows
from werkzeug.serving import make_server

from data.conftest import CUSTOMERS
from data.test_lake import DAY, customers, names


class Server:
    """moto behind a door that can hide what a request asks for."""

    def __init__(self) -> None:
        self._app: Callable[..., Any] = DomainDispatcherApplication(create_backend_app)
        self._http = make_server("127.0.0.1", 0, self._door, threaded=True)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.knows_conditions = True
        self.answers_lost = 0
        self.requests: list[str] = []
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def _door(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if not self.knows_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if "HTTP_IF_NONE_MATCH" in environ and self.answers_lost:
            self.answers_lost -= 1
            b"".join(self._app(environ, lambda *_: lambda _: None))
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        return self._app(environ, start)

    def stop(self) -> None:
        self._http.shutdown()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    found = Server()
    yield found
    found.stop()


@pytest.fixture
def bucket(server: Server, conf: Settings, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Settings:
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": server.url,
        "AWS_DEFAULT_REGION": "us-east-1", "CONTROLTOWER_LAKE": f"s3://shop/{request.node.name}/lake",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdirs("shop", exist_ok=True)
    server.knows_conditions, server.answers_lost = True, 0
    return settings.load()


def test_publish_read_and_look_back(bucket: Settings) -> None:
    lake = Lake(bucket)
    publish_rows(lake, "customers", "a", customers(("1", DAY, "old")))
    publish_rows(lake, "customers", "a", customers(("1", DAY, "new"), ("2", DAY, "x")))
    elsewhere = Lake(bucket.model_copy(update={"home": bucket.home / "another"}))
    assert names(elsewhere) == {"1": "new", "2": "x"}
    with elsewhere.read(version=1) as reading:
        assert reading.arrow(reading.table("customers"))["first_name"].to_pylist() == ["old"]
    assert not list(bucket.home.glob("lake/**/*.parquet"))
    assert elsewhere.store.address("customers/x").startswith("s3://shop/")


def test_a_read_again_fetches_no_part(bucket: Settings, server: Server) -> None:
    lake = Lake(bucket)
    publish_rows(lake, "customers", "a", customers(("1", DAY, "x")))
    names(lake)
    server.requests.clear()
    names(lake)
    asked = [r.split(" ", 1)[0] + r[r.rindex("/") :] for r in server.requests]
    assert asked == ["GET/manifest.json", "GET/0000000002.json"]


def test_those_who_publish_at_once_lose_nothing(bucket: Settings) -> None:
    publish_rows(Lake(bucket), "x", "first", pa.table({"a": [1]}))

    def publish(number: int) -> None:
        publish_rows(Lake(bucket), "x", f"i{number}", pa.table({"a": [number]}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(8)))
    lake = Lake(bucket)
    assert lake.intervals("x") == sorted(["first", *(f"i{n}" for n in range(8))])
    assert [v.number for v, _ in lake.versions()] == list(range(9, 0, -1))


def test_a_write_whose_answer_was_lost_counts_once(bucket: Settings, server: Server) -> None:
    lake = Lake(bucket)
    publish_rows(lake, "x", "a", pa.table({"a": [1]}))
    server.answers_lost = 1
    publish_rows(lake, "x", "b", pa.table({"a": [2]}))
    assert server.answers_lost == 0
    assert [v.interval for v, _ in lake.versions()] == ["b", "a"]


def test_a_store_without_conditional_writes_is_refused(bucket: Settings, server: Server) -> None:
    server.knows_conditions = False
    with pytest.raises(BadSettings, match="without conditional writes"):
        publish_rows(Lake(bucket), "x", "a", pa.table({"a": [1]}))
    assert Lake(bucket).manifest().version == 0


def test_an_erased_persons_rows_are_in_no_version_and_no_copy(bucket: Settings, server: Server) -> None:
    lake = Lake(bucket, grace=0)
    publish_rows(lake, "customers", "a", customers(("1", DAY, "gone"), ("2", DAY, "old")))
    publish_rows(lake, "customers", "a", customers(("1", DAY, "gone"), ("2", DAY, "new")))
    other = Lake(bucket.model_copy(update={"home": bucket.home / "another"}))
    assert names(other) == {"1": "gone", "2": "new"}
    persons = Persons(lake)
    traces = persons.find(["1"])
    assert persons.erase(traces) == {"customers": 1}
    assert names(lake) == {"2": "new"}
    for version in (1, 2, 3):
        with other.read(version=version) as reading:
            assert reading.arrow(reading.table("customers"))["customer_id"].to_pylist() == ["2"]
    assert persons.left_over(traces, delete=True) == 0
    for copy in other.root.glob("*/*.parquet"):
        os.utime(copy, (copy.stat().st_mtime - UNUSED - 1,) * 2)
    names(other)
    tables = [pa.parquet.read_table(file) for folder in (lake.root, other.root) for file in folder.rglob("*.parquet")]
    tables += [pa.parquet.read_table(lake.store.local([n])[0]) for n in lake.store.others("customers", ())]
    assert tables and all("1" not in table["customer_id"].to_pylist() for table in tables)


def test_copies_are_bounded_but_for_those_in_use(bucket: Settings) -> None:
    lake = Lake(bucket.model_copy(update={"lake_copies": "1KB"}))
    for interval in "ab":
        publish_rows(lake, "customers", interval, customers((interval, DAY, "x")))
    assert set(names(lake)) == {"a", "b"}
    assert len(list(lake.root.rglob("*.parquet"))) == 2
    for copy in lake.root.rglob("*.parquet"):
        assert copy.stat().st_mode & 0o777 == 0o600
        os.utime(copy, (copy.stat().st_mtime - UNUSED - 1,) * 2)
    half, begun = (lake.root / "customers" / f".part-{n}.parquet-0a" for n in range(2))
    for copy in (half, begun):
        copy.write_bytes(b"PAR1")
    os.utime(half, (half.stat().st_mtime - UNUSED - 1,) * 2)
    lake.store.forget(lake.manifest().kept_files())
    assert list((lake.root / "customers").iterdir()) == [begun]
    assert set(names(lake)) == {"a", "b"}


def test_a_part_that_is_gone_is_told(bucket: Settings) -> None:
    lake = Lake(bucket)
    publish_rows(lake, "customers", "a", customers(("1", DAY, "x")))
    lake.store.remove(lake.manifest().files())
    with pytest.raises(BadSource, match="replaced meanwhile, run it again"):
        names(lake)


def test_a_shop_is_loaded_into_it(bucket: Settings, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "customers.csv").write_text(CUSTOMERS + "c,,c@customers.example,ko,Asia/Seoul,2025-01-01\n")
    report = ingest_data(str(tmp_path / "shop"))
    assert report["tables"]["customers"]["loaded"] == 1
    assert ingest_data(str(tmp_path / "shop"))["tables"]["customers"]["loaded"] == 1
    assert set(names(Lake(bucket))) == {"c"}


def test_a_lake_is_moved_by_copying_it(bucket: Settings, conf: Settings) -> None:
    import s3fs

    local = Lake(conf)
    for name in ("old", "new"):
        publish_rows(local, "customers", "a", customers(("1", DAY, name)))
    s3fs.S3FileSystem().put(str(local.root), str(bucket.lake), recursive=True)
    lake = Lake(bucket)
    publish_rows(lake, "customers", "b", customers(("2", DAY, "x")))
    assert names(lake) == {"1": "new", "2": "x"} and [v.number for v, _ in lake.versions()] == [3, 2, 1]
    with lake.read(version=1) as reading:
        assert reading.arrow(reading.table("customers"))["first_name"].to_pylist() == ["old"]


def test_a_store_that_is_away_or_a_place_that_is_none(bucket: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("gopher://x/y", "file:///tmp/x", "shop/lake"):
        monkeypatch.setenv("CONTROLTOWER_LAKE", url)
        with pytest.raises(BadSettings, match=r"CONTROLTOWER_LAKE can't be used.*s3://bucket/prefix"):
            settings.load()
    monkeypatch.setenv("CONTROLTOWER_LAKE", "s3://no-such-bucket/lake")
    with pytest.raises(BadSource, match=r"no-such-bucket/lake.*check the bucket"):
        publish_rows(Lake(settings.load()), "x", "a", pa.table({"a": [1]}))
