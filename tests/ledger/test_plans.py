"""Frozen plans, versions and replanning: the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from controltower.ledger import plans, reports, runs, tables, work
from controltower.ledger.database import begin, migrate, opened
from controltower.settings import Settings
from pydantic import SecretStr

from .conftest import DUE, LATER, NOW, message, write_plan

AFTER = DUE + timedelta(minutes=1)


def test_the_migrations_make_the_tables_that_the_code_declares(ledger_settings: Settings) -> None:
    with opened(ledger_settings).connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), tables.metadata)
    assert differences == []


def test_migrating_twice_and_at_once_is_harmless(empty_database: str, tmp_path: Path) -> None:
    empty = Settings(home=tmp_path, database_url=SecretStr(empty_database))
    with ThreadPoolExecutor(4) as pool:
        revisions = list(pool.map(lambda _: migrate(empty), range(4)))
    assert set(revisions) == {"0010"}


def test_a_customer_is_messaged_once_per_occurrence_and_step(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    planned()
    with pytest.raises(sa.exc.IntegrityError):
        write_plan(ledger_settings, [message(0)])
    write_plan(ledger_settings, [message(0)], occurrence="2026-06-16")


def test_a_new_version_replaces_what_is_unsent_and_leaves_out_the_rest(ledger_settings: Settings) -> None:
    first = write_plan(ledger_settings, [message(0), message(1), message(2, due_at=LATER)])
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, ["email"])
        assert claimed
        batch, token = claimed
        (request,) = work.open_requests(ledger, batch, token, "sendgrid", [([batch.messages[0].seq], None)], AFTER)
        work.close_requests(ledger, batch, token, [{"request_id": request, "state": "sent"}], AFTER)
        work.release(ledger, batch, token, AFTER)
    with begin(ledger_settings) as ledger:
        run = runs.known(ledger, first)
        assert plans.dispatched(ledger, run.occurrence_id)
        assert plans.cancel_unsent(ledger, run.occurrence_id, reason="superseded", now=AFTER, superseded=True) == 2
        assert plans.messaged(ledger, run.occurrence_id) == {0}
    second = write_plan(ledger_settings, [message(1), message(2)])
    with begin(ledger_settings) as ledger:
        newest = runs.current(ledger, "spring", "2026-06-15")
        old, new = reports.totals(ledger, [first])[0], reports.totals(ledger, [second])[0]
    assert newest and (newest.run_id, newest.version) == (second, 2)
    assert (old.state, old.accepted, old.cancelled) == ("superseded", {"sendgrid": 1}, 2)
    assert new.pending == 2
    assert old.accounted and new.accounted


def test_of_a_batch_in_a_workers_hands_all_but_its_calls_is_cancelled(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned()
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, ["email"])
        assert claimed
        called = claimed[0].messages[0]
        work.open_requests(ledger, *claimed, "sendgrid", [([called.seq], None)], AFTER)
    with begin(ledger_settings) as ledger:
        run = runs.known(ledger, run_id)
        assert plans.cancel_unsent(ledger, run.occurrence_id, reason="superseded", now=AFTER, superseded=True) == 2
        assert plans.messaged(ledger, run.occurrence_id) == {called.subject_id}
        assert work.claim(ledger, AFTER, ["email"]) is None


def test_plans_of_two_campaigns_at_once_get_numbers_of_their_own(ledger_settings: Settings) -> None:
    opened(ledger_settings)

    def plan(n: int) -> int:
        return write_plan(ledger_settings, [message(i) for i in range(50)], campaign=f"campaign_{n}")

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(plan, range(4)))
    with begin(ledger_settings) as ledger:
        seqs = ledger.execute(sa.select(tables.messages.c.seq)).scalars().all()
    assert len(set(runs)) == 4
    assert sorted(seqs) == list(range(1, 201))


def test_a_subject_is_made_from_the_first_customer_id_and_stays(ledger_settings: Settings) -> None:
    with begin(ledger_settings) as ledger:
        first = plans.subject_ids(ledger, ["a", "b"], NOW)
        ledger.execute(  # b turns out to be a
            sa.update(tables.subjects).where(tables.subjects.c.customer_id == "b").values(subject_id=first["a"])
        )
        assert plans.subject_ids(ledger, ["b", "a", "c"], NOW) == {
            "a": first["a"], "b": first["a"], "c": plans.subject_ids(ledger, ["c"], NOW)["c"],
        }  # fmt: skip


def test_arms_are_kept_from_the_first_assignment(ledger_settings: Settings, planned: Callable[..., int]) -> None:
    planned()
    changed = message(0)._replace(arm="b", share=0.9)
    write_plan(ledger_settings, [changed], occurrence="2026-06-16")
    with begin(ledger_settings) as ledger:
        assert plans.stored_arms(ledger, "spring", NOW) == dict.fromkeys(range(3), ("a", 0.5))
        assert plans.stored_arms(ledger, "spring", NOW - timedelta(seconds=1)) == {}


def test_what_a_worker_could_not_send_of_a_replaced_run_is_cancelled(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned()
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, ["email"])
        assert claimed
        batch, token = claimed
        members = [([m.seq], None) for m in batch.messages]
        ids = work.open_requests(ledger, batch, token, "sendgrid", members, AFTER)
    with begin(ledger_settings) as ledger:
        occurrence_id = runs.known(ledger, run_id).occurrence_id
        assert plans.cancel_unsent(ledger, occurrence_id, reason="superseded", now=AFTER, superseded=True) == 0
        rows = [{"request_id": i, "state": s} for i, s in zip(ids, ["sent", "retry", "retry"], strict=True)]
        work.close_requests(ledger, batch, token, rows, AFTER)
        assert work.release(ledger, batch, token, AFTER)
        (found,) = reports.totals(ledger, [run_id])
    assert (found.accepted, found.cancelled, found.pending, found.accounted) == ({"sendgrid": 1}, 2, 0, True)


def test_two_customers_of_one_subject_both_have_a_decision(ledger_settings: Settings) -> None:
    twin = plans.Decision("twin", 0, "not_sent", 1.0, reason="same_person")
    run_id = write_plan(ledger_settings, [message(0), twin])
    with begin(ledger_settings) as ledger:
        assert [row["customer_id"] for row in reports.audience(ledger, run_id)] == ["c0", "twin"]


def test_two_plans_at_once_do_not_block_each_other(ledger_settings: Settings) -> None:
    names, together = [f"c{n}" for n in range(30_000)], Barrier(2)

    def plan(order: list[str]) -> int:
        together.wait()
        with begin(ledger_settings) as ledger:
            return len(plans.subject_ids(ledger, order, NOW))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(plan, (names, names[::-1]))) == [30_000, 30_000]
