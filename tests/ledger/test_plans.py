"""Frozen plans, versions and replanning: the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from controltower.ledger import database, plans, reports, runs, tables, work
from controltower.ledger.database import altering, begin, migrate, newest_revision, opened
from controltower.ledger.decisions import Decision
from controltower.settings import Settings
from pydantic import SecretStr

from .conftest import DUE, LATER, NOW, message, write_plan

MIGRATIONS = Path(database.__file__).parent / "migrations"
AFTER = DUE + timedelta(minutes=1)


def test_the_migrations_make_the_tables_that_the_code_declares(ledger_settings: Settings) -> None:
    with opened(ledger_settings).connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), tables.metadata)
    assert differences == []


PRODUCTS = [{"product_id": f"p{n}", "algorithm": "als", "reason": "popular", "value": "‘’\\t"} for n in range(3)]


def picking(n: int, *products: dict[str, object], **about: object) -> Decision:
    return message(n)._replace(choices={**about, "products": list(products)})


CHOSEN = [picking(0, *PRODUCTS, best_hour=9), picking(1, PRODUCTS[2], PRODUCTS[0], best_hour=9), picking(2)]


def test_what_was_chosen_is_found_again_and_what_many_share_is_there_once(ledger_settings: Settings) -> None:
    first, second = (write_plan(ledger_settings, CHOSEN[n:], campaign=f"run {n}") for n in range(2))
    with begin(ledger_settings) as ledger:
        for run_id, plan in ((first, CHOSEN), (second, CHOSEN[1:])):
            assert [d.choices for d in plans.decided(ledger, run_id)] == [d.choices for d in plan]
            picks = plans.picks(ledger, run_id, [d.customer_id for d in plan])
            assert picks == {d.customer_id: d.choices["products"] for d in plan}
        assert picks["c1"][0] is not picks["c1"][1]
        shared = plans.picks(ledger, first, ["c0", "c1", "nobody"])
        assert shared["c0"][0] is shared["c1"][1]
        kept = ledger.execute(sa.select(tables.choices.c.run_id, sa.func.count()).group_by(tables.choices.c.run_id))
        assert dict(kept.tuples().all()) == {first: 5, second: 4}
        assert plans.picks(ledger, first, []) == {}


def test_a_query_tells_what_a_customer_was_shown(ledger_settings: Settings) -> None:
    write_plan(ledger_settings, CHOSEN[1:], campaign="other")
    run_id = write_plan(ledger_settings, CHOSEN)
    shown = sa.text("select place, choice from chosen where run_id = :run and customer_id = 'c1' order by place")
    with begin(ledger_settings) as ledger:
        rows = ledger.execute(shown.columns(sa.column("place"), sa.column("choice", sa.JSON)), {"run": run_id}).all()
    assert [tuple(row) for row in rows] == [(0, {"best_hour": 9}), (1, PRODUCTS[2]), (2, PRODUCTS[0])]


def test_what_was_chosen_before_the_migration_is_found_after_it(
    ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There and back, in steps that end within a run."""
    runs_of = {write_plan(ledger_settings, CHOSEN[n:], campaign=f"run {n}"): CHOSEN[n:] for n in range(2)}
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory(str(MIGRATIONS))
    monkeypatch.setattr(scripts.get_revision("0014").module, "AT_ONCE", 2)
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda _: scripts)
    d = tables.decisions.c
    for move, revision in ((command.downgrade, "0013"), (command.upgrade, "head")):
        with altering(opened(ledger_settings)) as connection:
            config.attributes["connection"] = connection
            move(config, revision)
            if move is command.downgrade:
                rows = connection.execute(
                    sa.select(d.run_id, d.customer_id, d.choices).order_by(d.run_id, d.customer_id)
                ).all()
                was = [(run_id, one.customer_id, one.choices) for run_id, plan in runs_of.items() for one in plan]
                assert [tuple(row) for row in rows] == was
    with begin(ledger_settings) as ledger:
        for run_id, plan in runs_of.items():
            assert [one.choices for one in plans.decided(ledger, run_id)] == [one.choices for one in plan]


def test_migrating_twice_and_at_once_is_harmless(empty_database: str, tmp_path: Path) -> None:
    empty = Settings(home=tmp_path, database_url=SecretStr(empty_database))
    with ThreadPoolExecutor(4) as pool:
        revisions = list(pool.map(lambda _: migrate(empty), range(4)))
    assert set(revisions) == {newest_revision()} == set(ScriptDirectory(str(MIGRATIONS)).get_heads())


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
        kept = [{"subject_id": n, "arm": "a", "share": 0.5} for n in range(3)]
        assert plans.stored_arms(ledger, "spring", NOW).sort_by("subject_id").to_pylist() == kept
        assert plans.stored_arms(ledger, "spring", NOW - timedelta(seconds=1)).num_rows == 0


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
    twin = Decision("twin", 0, "not_sent", 1.0, reason="same_person")
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
