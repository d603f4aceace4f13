"""What was answered is kept with algorithm, position and probability, without anybody's name, and not for ever."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from threading import Thread, Timer

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from controltower.models.recommend import decisions
from controltower.models.recommend.decisions import SCHEMA, Decisions
from support.published_shop import AS_OF


def note(log: Decisions, product: str) -> None:
    log.note(AS_OF, "similar", [product], ["als"], None, "m", "v")


def test_answers_are_rows_by_position_that_events_join(tmp_path: Path) -> None:
    log = Decisions(tmp_path)
    first = log.note(AS_OF, "similar", ["a", "b"], ["als", "popularity"], None, "m-1", "v-1")
    second = log.note(AS_OF, "popular", ["c"], ["popularity"], "popular", "m-1", "v-1")
    log.note(AS_OF, "similar", [], [], "popular", "m-1", "v-1")
    assert log.flush() == 3 and log.flush() == 0
    (path,) = tmp_path.glob("2026-06-15/*.parquet")
    query = (
        f"select recommendation_id, position, product_id, algorithm, probability, fallback from '{path}' order by all"
    )
    assert sorted(duckdb.sql(query).fetchall()) == sorted([
        (first, 1, "a", "als", 1.0, None), (first, 2, "b", "popularity", 1.0, None),
        (second, 1, "c", "popularity", 1.0, "popular"),
    ])  # fmt: skip
    assert not {"customer_id", "visitor_id"} & set(SCHEMA.names) and len(first) == 32 and first != second


def test_the_buffer_is_bounded_and_losses_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decisions, "MOST", 2)
    log = Decisions(tmp_path)
    assert len({log.note(AS_OF, "similar", ["a"], ["als"], None, "m", "v") for _ in range(5)}) == 5
    with caplog.at_level(logging.WARNING):
        assert log.flush() == 2
    assert "3 recommendations' decisions were not kept" in caplog.text
    (tmp_path / "file").touch()
    unwritable = Decisions(tmp_path / "file")
    unwritable.note(AS_OF, "similar", ["a"], ["als"], None, "m", "v")
    assert unwritable.flush() == 1 and "can't be written" in caplog.text


def test_answers_do_not_wait_while_a_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Decisions(tmp_path)
    write = log._write

    def slow(rows: list[decisions.Row]) -> None:
        assert log._timer is None
        other = Thread(target=note, args=(log, "b"))
        other.start()
        other.join(10)
        assert not other.is_alive() and log._timer is not None, "it waited for the file"
        monkeypatch.setattr(log, "_write", write)
        write(rows)

    monkeypatch.setattr(log, "_write", slow)
    note(log, "a")
    assert (log.flush(), log.flush()) == (1, 1)
    assert sum(pq.read_metadata(p).num_rows for p in tmp_path.rglob("*.parquet")) == 2


@pytest.mark.parametrize(
    "failure", [pa.ArrowInvalid("ann@example.com"), OverflowError(), MemoryError(), OSError(28, "full")]
)
def test_whatever_fails_is_counted_and_the_next_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    log = Decisions(tmp_path)

    def half(_: pa.Table, path: Path, **__: object) -> None:
        path.write_bytes(b"PAR1")
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr(pq, "write_table", half)
        note(log, "a")
        assert log.flush() == 1  # as the timer does
    assert f"can't be written: {type(failure).__name__}" in caplog.text and "example" not in caplog.text
    assert "1 recommendations' decisions were not kept" in caplog.text
    assert not [p for p in tmp_path.rglob("*") if p.is_file()], "nothing half-written stays"
    note(log, "b")
    assert log.flush() == 1 and len([*tmp_path.rglob("*.parquet")]) == 1


def test_without_a_thread_answers_wait_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_thread(_: Timer) -> None:
        raise RuntimeError("can't start new thread")

    log = Decisions(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Timer, "start", no_thread)
        note(log, "a")
    assert "can't start new thread" in caplog.text and log._timer is None
    note(log, "b")
    assert log._timer is not None and log.flush() == 2


def test_what_is_too_old_is_removed(tmp_path: Path) -> None:
    log = Decisions(tmp_path)
    for days in (0, decisions.DAYS, decisions.DAYS + 1):
        log.note(AS_OF + timedelta(days=days), "similar", ["a"], ["als"], None, "m", "v")
        log.flush()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2026-09-13", "2026-09-14"]
