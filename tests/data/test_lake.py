"""The lake: atomic, replaceable, consistent; as of a moment; bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.data import manifest as manifests
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake, interval_key
from controltower.data.scratch import scratch
from controltower.errors import BadSettings, BadSource, NoData
from controltower.settings import Settings
from support.lakes import publish_rows

DAY = datetime(2025, 6, 1, tzinfo=UTC)


def table_of(name: str, **columns: list) -> pa.Table:
    """Rows of a contract table; required columns that aren't given hold a sample."""
    length = len(next(iter(columns.values())))
    arrays = []
    for field in CONTRACT[name].schema:
        sample = {pa.string(): "x", pa.bool_(): True, pa.date32(): DAY.date(), pa.timestamp("us", "UTC"): DAY}
        blank = [None if field.nullable else sample.get(field.type, 1)]
        arrays.append(pa.array(columns.get(field.name, blank * length), field.type))
    return pa.table(arrays, schema=CONTRACT[name].schema)


def customers(*rows: tuple[str, datetime, str]) -> pa.Table:
    ids, times, names = zip(*rows, strict=True)
    return table_of("customers", customer_id=list(ids), updated_at=list(times), first_name=list(names))


def names(lake: Lake, as_of: datetime | None = None) -> dict[str, str]:
    with lake.read(as_of) as reading:
        found = reading.arrow(reading.table("customers")).to_pylist()
    assert len({row["customer_id"] for row in found}) == len(found)
    return {row["customer_id"]: row["first_name"] for row in found}


def test_an_absent_table_is_typed_and_empty(lake: Lake) -> None:
    with lake.read() as reading:
        for name, contract in CONTRACT.items():
            found = reading.arrow(reading.table(name))
            assert found.num_rows == 0
            assert [(f.name, f.type) for f in found.schema] == [(f.name, f.type) for f in contract.schema]
            assert not reading.has(name)


def test_what_is_read_has_the_contracts_types(lake: Lake) -> None:
    for name in CONTRACT:
        key = CONTRACT[name].known
        publish_rows(lake, name, "a", table_of(name, **{key: [DAY]}))
    with lake.read() as reading:
        for name, contract in CONTRACT.items():
            found = reading.arrow(reading.table(name))
            assert [(f.name, f.type) for f in found.schema] == [(f.name, f.type) for f in contract.schema]
            assert found.num_rows == 1, name


def test_publishing_an_interval_again_replaces_it(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY, "old"), ("2", DAY, "gone")))
    publish_rows(lake, "customers", "b", customers(("3", DAY, "other")))
    publish_rows(lake, "customers", "a", customers(("1", DAY, "new")))
    assert names(lake) == {"1": "new", "3": "other"}
    assert lake.intervals("customers") == ["a", "b"]


def test_the_last_version_not_later_than_as_of_holds(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY + timedelta(days=2), "two"), ("1", DAY, "zero")))
    publish_rows(lake, "customers", "b", customers(("1", DAY + timedelta(days=1), "one")))
    assert names(lake, DAY - timedelta(microseconds=1)) == {}
    assert names(lake, DAY) == {"1": "zero"}
    assert names(lake, DAY + timedelta(days=1)) == {"1": "one"}
    assert names(lake) == {"1": "two"}
    with lake.read(DAY - timedelta(days=1)) as reading:
        assert not reading.has("customers")


def test_of_versions_of_one_moment_the_later_load_wins(lake: Lake) -> None:
    publish_rows(lake, "customers", "z", customers(("1", DAY, "first")))
    publish_rows(lake, "customers", "a", customers(("1", DAY, "second")))
    assert names(lake) == {"1": "second"}
    publish_rows(lake, "customers", "z", customers(("1", DAY, "third"), ("1", DAY, "fourth")))
    for _ in range(3):
        assert names(lake) == {"1": "fourth"}


def test_events_are_cut_by_when_they_were_received_and_kept_all(lake: Lake) -> None:
    late = table_of("events", event_id=["1", "1"], occurred_at=[DAY, DAY], received_at=[DAY, DAY + timedelta(hours=1)])
    publish_rows(lake, "events", "a", late)
    with lake.read(DAY) as reading:
        assert reading.arrow(reading.table("events")).num_rows == 1
    with lake.read() as reading:
        assert reading.arrow(reading.table("events")).num_rows == 2


def test_rows_are_split_by_utc_date_and_every_file_tells_its_schema(lake: Lake) -> None:
    times = [DAY + timedelta(hours=h) for h in (30, 0, 23, 24)]
    publish_rows(lake, "events", "a", table_of("events", event_id=list("1234"), occurred_at=times, received_at=times))
    parts = lake.manifest().parts("events")
    assert [(p.date, p.rows) for p in parts] == [("2025-06-01", 2), ("2025-06-02", 2)]
    for part in parts:
        metadata = pq.read_schema(lake.root / part.file).metadata
        assert metadata[b"controltower.schema"] == b"1"
        assert metadata[b"controltower.table"] == b"events"


def test_a_newer_schema_is_one_clear_error(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY, "x")))
    file = lake.root / lake.manifest().parts("customers")[0].file
    whole = pq.read_table(file)
    pq.write_table(whole.replace_schema_metadata({"controltower.schema": "99"}), file)
    with lake.read() as reading, pytest.raises(BadSource, match="schema version 99"):
        reading.table("customers")
    manifest = lake.root / manifests.NAME
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99}))
    with pytest.raises(BadSource, match=r"schema version 99.*Upgrade"), lake.read():
        pass
    manifest.write_text("{")
    with pytest.raises(BadSource, match="damaged"), lake.read():
        pass


def test_derived_tables_give_their_newest_interval(lake: Lake) -> None:
    for day in (1, 2, 3):
        moment = datetime(2025, 6, day, tzinfo=UTC)
        publish_rows(lake, "scores", interval_key(moment), pa.table({"customer_id": ["1"], "day": [day]}))
    with lake.read(datetime(2025, 6, 2, 12, tzinfo=UTC)) as reading:
        assert reading.has("scores")
        assert reading.frame(reading.derived("scores"))["day"].tolist() == [2]
    with lake.read() as reading:
        assert reading.frame(reading.derived("scores"))["day"].tolist() == [3]
    with lake.read(datetime(2025, 5, 1, tzinfo=UTC)) as reading:
        assert not reading.has("scores")
        with pytest.raises(NoData, match="controltower score"):
            reading.derived("scores")


def test_a_derived_table_may_be_empty_and_change_its_columns(lake: Lake) -> None:
    publish_rows(lake, "features", "2025-01-01T00:00:00Z", pa.table({"a": [1.0]}))
    publish_rows(
        lake, "features", "2025-01-02T00:00:00Z", pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], "int8")})
    )
    with lake.read() as reading:
        assert not reading.has("features")
        assert reading.derived("features").columns == ("a", "b")
        assert reading.arrow(reading.derived("features")).num_rows == 0


def test_a_reading_keeps_its_version_while_others_publish(lake: Lake) -> None:
    publish_rows(lake, "customers", "a", customers(("1", DAY, "old")))
    with lake.read() as reading:
        publish_rows(lake, "customers", "a", customers(("1", DAY, "new"), ("2", DAY, "new")))
        assert reading.arrow(reading.table("customers"))["first_name"].to_pylist() == ["old"]


def test_several_tables_change_in_one_step(lake: Lake) -> None:
    parts = {"customers": lake.write("customers", customers(("1", DAY, "x")))}
    parts["scores"] = lake.write("scores", pa.table({"a": [1]}))
    assert names(lake) == {}
    lake.commit("a", parts)
    assert names(lake) == {"1": "x"}
    assert lake.intervals("scores") == ["a"]


def test_as_of_needs_a_zone(lake: Lake) -> None:
    with pytest.raises(ValueError, match="zone"), lake.read(datetime(2025, 1, 1)):  # noqa: DTZ001
        pass


def test_memory_and_spill_are_bounded(conf: Settings) -> None:
    bounded = conf.model_copy(update={"memory": "30MB", "spill": "1MB", "threads": 1})
    lake = Lake(bounded)
    with lake.read() as reading:
        setting = (
            "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('temp_directory')"
        )
        memory, threads, folder = reading.execute(setting)[0]
        assert (memory, threads) == ("28.6 MiB", 1)
        assert str(folder).startswith(str(conf.home))
    publish_rows(lake, "x", "a", pa.table({"a": [str(i) * 20 for i in range(400_000)]}))
    with lake.read() as reading, pytest.raises(BadSettings, match=r"CONTROLTOWER_MEMORY"):
        rows = reading.derived("x")
        reading.arrow(rows.order_by(rows.a.reverse()))


def test_working_space_of_a_killed_process_is_swept_and_of_a_living_one_kept(conf: Settings) -> None:
    code = (
        "import os, sys; from pathlib import Path; from controltower.settings import Settings\n"
        "from controltower.data.scratch import scratch\n"
        f"with scratch(Settings(home=Path({str(conf.home)!r}))) as folder:\n"
        "    (folder / 'left').write_text('x'); print(folder, flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    folder = Path(child.stdout.readline().strip())
    with scratch(conf):
        assert (folder / "left").is_file()
    child.kill()
    child.wait()
    with scratch(conf) as own:
        assert own.is_dir()
        assert not folder.exists()
    assert not own.exists()
