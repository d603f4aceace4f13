"""Somebody is erased while a plan, features or scores that were made of their rows are about to be written down."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from controltower import jobs
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSource
from controltower.jobs import gathering
from controltower.jobs.campaigns import plan_campaign
from controltower.jobs.ingest import publish
from controltower.jobs.privacy import erase_person, look_up_person
from controltower.ledger import erasures, tables
from controltower.ledger.database import reading
from controltower.settings import Settings
from support import scored_shop
from support.patience import PATIENCE


@pytest.fixture
def shop(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return scored_shop.make(ledger_settings.home, monkeypatch)


def outcomes(conf: Settings) -> dict[str, str]:
    d = tables.decisions.c
    with reading(conf) as ledger:
        return dict(ledger.execute(sa.select(d.customer_id, d.outcome)).tuples().all())


def test_who_was_erased_after_the_audience_was_read_is_not_planned(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = gathering.gather

    def then_erased(*given: Any) -> gathering.Gathered:
        gathered = gather(*given)
        erase_person("c0", "Ann", at_once=True)
        return gathered

    monkeypatch.setattr(gathering, "gather", then_erased)
    plan_campaign("spring")
    found = outcomes(shop)
    assert set(found) == {*(f"c{n}" for n in range(1, 8)), "silent"}
    assert look_up_person("c0")["rows"] == {}
    with reading(shop) as ledger:
        assert ledger.execute(sa.select(tables.subjects.c.customer_id)).scalars().all().count("c0") == 0


def test_an_erasure_waits_for_the_plan_that_is_written_down(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list had nobody on it when the plan asked; the erasure then finds what was planned."""
    recorded = erasures.recorded
    under_way: list[Future[Any]] = []
    with ThreadPoolExecutor(1) as pool:

        def then_erasing(ledger: sa.Connection, kind: str) -> Any:
            found = recorded(ledger, kind)
            if not under_way:
                assert not found
                under_way.append(pool.submit(erase_person, "c0", "Ann", at_once=True))
                if ledger.dialect.name == "postgresql":
                    wait_for_lock(ledger)  # SQLite's writers wait for each other anyway
            return found

        with monkeypatch.context() as patch:
            patch.setattr(erasures, "recorded", then_erasing)
            plan_campaign("spring")
        certificate = under_way[0].result(PATIENCE)
    assert certificate["rows"]["ledger"]["decisions"] == 1
    assert look_up_person("c0")["rows"] == {} and "c0" not in outcomes(shop) and len(outcomes(shop)) == 9


def wait_for_lock(ledger: sa.Connection) -> None:
    """Until somebody waits for a lock of this transaction's."""
    waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")
    for _ in range(1000):
        if ledger.execute(waits).scalar_one():
            return
        ledger.execute(sa.text("SELECT pg_sleep(0.01)"))
    raise AssertionError("nobody waits for the plan")


def test_gathered_without_some_keeps_each_device_with_its_owner(shop: Settings) -> None:
    members = pa.table({"customer_id": ["a", "b", "c"]})
    devices = pa.table({"device_id": ["d-c", "d-a", "d-b", "d-c2"], "place": pa.array([2, 0, 1, 2], pa.int32())})
    left = gathering.Gathered(members, devices, {}).without(["a", "x"])
    owners = [left.customers[place] for place in left.devices["place"].to_pylist()]
    assert list(zip(left.devices["device_id"].to_pylist(), owners, strict=True)) == [
        ("d-c", "c"), ("d-b", "b"), ("d-c2", "c"),
    ]  # fmt: skip


def test_what_was_made_of_their_rows_is_published_without_them(shop: Settings) -> None:
    lake = Lake(shop)
    rows = pa.table({"customer_id": ["c1", "c0", None, "c2", "c0"], "n": [1, 2, 3, 4, 5]})
    made = {"features": lake.write("features", rows), "scores": lake.write("scores", rows.slice(3, 1)),
            "replayed": lake.write("replayed", rows.select(["n"]))}  # fmt: skip
    erase_person("c0", "Ann")
    publish(lake, interval_key(scored_shop.NOW), made)
    with lake.read() as reading_:
        assert reading_.arrow(reading_.derived("features")).to_pylist() == [
            {"customer_id": "c1", "n": 1}, {"customer_id": None, "n": 3}, {"customer_id": "c2", "n": 4},
        ]  # fmt: skip
        assert reading_.arrow(reading_.derived("replayed")).num_rows == 5
    assert lake.sizes("features")[interval_key(scored_shop.NOW)] == 3
    erase_person("c0", "Ann", at_once=True)
    assert look_up_person("c0")["rows"] == {} and not (lake.root / made["features"][0].file).exists()


def test_what_is_deleted_at_once_before_it_is_published_is_made_again(shop: Settings) -> None:
    lake = Lake(shop)
    made = {"features": lake.write("features", pa.table({"customer_id": ["c0", "c1"]}))}
    erase_person("c0", "Ann", at_once=True)
    with pytest.raises(BadSource, match="Run the job again"):
        publish(lake, interval_key(scored_shop.NOW), made)


def test_an_erasure_waits_for_what_is_being_published(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(shop)
    made = {"features": lake.write("features", pa.table({"customer_id": ["c0", "c1"]}))}
    under_way: list[Future[Any]] = []
    commit: Callable[..., None] = Lake.commit
    with ThreadPoolExecutor(1) as pool:

        def then_erasing(*given: Any) -> None:
            under_way.append(pool.submit(erase_person, "c0", "Ann", at_once=True))
            with suppress(TimeoutError):  # if it didn't wait, it would be over by then
                under_way[0].result(1.0)
            commit(*given)

        with monkeypatch.context() as patch:
            patch.setattr(Lake, "commit", then_erasing)
            publish(lake, interval_key(scored_shop.NOW), made)
        assert under_way[0].result(PATIENCE)["rows"]["lake"]["features"] == 2
    assert look_up_person("c0")["rows"] == {}


def test_jobs_publish_in_this_way_alone() -> None:
    """A job that commits by itself could bring somebody back."""
    folder = Path(next(iter(jobs.__path__)))
    committing = {file.name for file in folder.glob("*.py") if "lake.commit(" in file.read_text(encoding="utf-8")}
    assert committing == {"ingest.py"}
