"""The lake for people and other programs: versions, files, a load restored, a table in Delta's form."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower import settings
from controltower.cli import app
from controltower.data.lake import Lake
from controltower.errors import BadSettings, ControlTowerError, NoData
from controltower.jobs.identity import list_identity
from controltower.jobs.ingest import ingest_data
from controltower.jobs.lake import export_delta, list_files, list_versions
from controltower.jobs.privacy import erase_person
from controltower.settings import Settings
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

CUSTOMERS = """customer_id,updated_at,email,phone,signed_up_at
web,2025-03-01,ann@mail.example,010-1234-5678,2025-03-01
web,2025-04-01,anna@mail.example,010-1234-5678,2025-03-01
store,2025-05-01,,+82 10 1234 5678,2025-05-01
other,2025-05-01,bob@mail.example,,2025-05-01
"""


@pytest.fixture
def shop(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop's folder that was loaded: two of three ids are one person, and one has two versions."""
    monkeypatch.setenv("CONTROLTOWER_NOW", "2026-01-01T00:00:00+00:00")
    monkeypatch.setenv("CONTROLTOWER_SPEED", "0")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "customers.csv").write_text(CUSTOMERS)
    ingest_data(str(folder))
    return folder


@pytest.fixture
def conf(shop: Path) -> Settings:
    return settings.load()


def said(*command: str) -> str:
    told = CliRunner().invoke(app, ["lake", *command])
    assert told.exit_code == 0, told.output
    return told.output


def count(files: list[str]) -> int:
    return int(duckdb.execute("SELECT count(*) FROM read_parquet($1)", [files]).fetchall()[0][0])


def test_versions_tell_what_was_published_and_files_can_be_read(shop: Path) -> None:
    (loaded,) = [v for v in list_versions()["versions"] if "customers" in v["rows"]]
    assert loaded["rows"]["customers"] == 4 and loaded["published"] == "2026-01-01T00:00:00+00:00"
    files = said("files", "customers").splitlines()
    assert all(Path(file).is_absolute() for file in files) and count(files) == 4  # every version, as the shop gave it
    (shop / "customers.csv").write_text(CUSTOMERS.replace("other,", "another,"))
    ingest_data(str(shop))
    (shop / "customers.csv").write_text(CUSTOMERS[: CUSTOMERS.index("store")])
    ingest_data(str(shop))
    assert [v["rows"] for v in list_versions("customers")["versions"]] == [{"customers": n} for n in (2, 4, 4)]
    assert [count(list_files("customers", v)) for v in (None, str(loaded["version"]), "2026-01-01")] == [2, 4, 2]
    assert "rows customers 4" in said("versions", "customers")
    with pytest.raises(NoData, match="no table wishes"):
        list_files("wishes")


def test_what_is_inferred_is_not_given_away(shop: Path, tmp_path: Path) -> None:
    for give in (list_files, lambda table: export_delta(table, tmp_path / "out")):
        with pytest.raises(BadSettings, match="isn't given away"):
            give("profiles")


def test_a_load_that_went_wrong_is_restored(shop: Path, conf: Settings) -> None:
    good = list_versions("customers")["versions"][0]
    (shop / "customers.csv").write_text(CUSTOMERS[: CUSTOMERS.index("store")])
    ingest_data(str(shop))
    assert list_identity()["merged_ids"] == 0
    report = said("restore", str(good["version"]), good["interval"])
    assert "customers: before 2, after 4" in report
    assert list_identity()["merged_ids"] == 1  # as in what was loaded
    assert count(list_files("customers")) == 4
    told = CliRunner().invoke(app, ["lake", "restore", "99", good["interval"]])
    assert isinstance(told.exception, BadSettings) and "no version 99" in str(told.exception)


def test_a_delta_table_has_the_last_versions_by_person_and_no_past(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "delta"
    assert "rows: 2" in said("export-delta", "customers", str(out))
    assert out.stat().st_mode & 0o077 == 0
    table = DeltaTable(out)
    found = {row["customer_id"]: row["email"] for row in table.to_pyarrow_table().to_pylist()}
    assert found == {"web": "anna@mail.example", "other": "bob@mail.example"}
    assert count(table.file_uris()) == 2  # as DuckDB reads it without its extension
    for which in ("fresh", "before"):  # of an export that was killed
        (tmp_path / f".delta-export-{which}" / "_delta_log").mkdir(parents=True)
    export_delta("customers", out, as_of="2025-03-15")
    assert DeltaTable(out).to_pyarrow_table()["email"].to_pylist() == ["ann@mail.example"]
    erase_person("web", "Ann")
    export_delta("customers", out, version=str(Lake(settings.load()).manifest().version - 1))
    files = [path for path in out.rglob("*") if path.is_file()]
    rows = [row for path in files if path.suffix == ".parquet" for row in pq.read_table(path).to_pylist()]
    assert [row["customer_id"] for row in rows] == ["other"]
    logs = "".join(path.read_text() for path in files if path.suffix == ".json")
    assert "bob@mail.example" in logs and "ann" not in logs and "1234" not in logs  # least and greatest values
    assert not list(tmp_path.glob(".delta*"))


def test_an_export_is_there_until_the_next_one_is(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "delta"
    export_delta("customers", out)
    out.rename(tmp_path / ".delta-export-before")  # killed between its two last steps
    with pytest.raises(ControlTowerError, match="holds something else"):
        export_delta("orders", out)
    assert DeltaTable(out).to_pyarrow_table().num_rows == 2
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if "fresh" in self.name:
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(PermissionError):
        export_delta("customers", out)
    assert DeltaTable(out).to_pyarrow_table().num_rows == 2 and not list(tmp_path.glob(".delta*"))


def test_what_cannot_be_exported(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoData, match="no orders to export"):
        export_delta("orders", tmp_path / "delta")
    with pytest.raises(ControlTowerError, match="is a mount point"):
        export_delta("customers", Path("/"))
    with pytest.raises(ControlTowerError, match="shop holds something else"):
        export_delta("customers", shop)
    with pytest.raises(ControlTowerError, match="holds something else"):
        export_delta("customers", shop / "customers.csv")
    monkeypatch.chdir(shop)
    with pytest.raises(ControlTowerError, match="shop holds something else"):
        export_delta("customers", Path())
    write_deltalake(tmp_path / "theirs", pa.table({"a": [1]}))
    export_delta("customers", tmp_path / "ours")
    lake = Lake(settings.load())
    lake.commit("i", {"features": lake.write("features", pa.table({"customer_id": ["web"]}))})
    for table, place in (("customers", "theirs"), ("features", "ours")):
        with pytest.raises(ControlTowerError, match=f"holds something else.*earlier export of {table}"):
            export_delta(table, tmp_path / place)
    export_delta("customers", tmp_path / "ours" / "nested")
    with pytest.raises(ControlTowerError, match="ours holds something else"):
        export_delta("customers", tmp_path / "ours")
    assert DeltaTable(tmp_path / "theirs").to_pyarrow_table().num_rows == 1
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(BadSettings, match=r"pip install 'controltower\[delta\]'"):
        export_delta("customers", tmp_path / "delta")
    assert not (tmp_path / "delta").exists() and not list(tmp_path.glob(".delta*"))
