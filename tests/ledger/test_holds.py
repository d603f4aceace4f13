"""Holds: what is held isn't claimed, and no call begins for it: the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from controltower.ledger import cohorts, database, holds, plans, reports, runs, tables, work
from controltower.ledger.database import altering, begin, opened
from controltower.ledger.decisions import tabulate
from controltower.settings import Settings
from support.patience import PATIENCE

from .conftest import DUE, NOW, message, write_plan

EMAIL = ["email"]
AFTER = DUE + timedelta(minutes=1)
MIGRATIONS = Path(database.__file__).parent / "migrations"
TOO_LATE = DUE + timedelta(days=1, seconds=1)


def open_all(settings: Settings, batch: work.Batch, token: str) -> list[int]:
    with begin(settings) as ledger:
        members = [([m.seq], None) for m in batch.messages]
        return work.open_requests(ledger, batch, token, "sendgrid", members, AFTER)


@pytest.mark.parametrize("hold", ["approval", "pause"])
def test_what_is_held_is_claimed_only_to_be_dropped(
    ledger_settings: Settings, planned: Callable[..., int], hold: str
) -> None:
    run_id = planned()
    other = write_plan(ledger_settings, [message(7, DUE + timedelta(seconds=1))], campaign="autumn")
    with begin(ledger_settings) as ledger:
        holds.set_hold(ledger, run_id, "approval") if hold == "approval" else holds.pause(ledger, run_id)
        assert reports.held(ledger) == {hold: 3}
        assert reports.waiting(ledger) == (1, DUE + timedelta(seconds=1))
        claimed = work.claim(ledger, AFTER, EMAIL)
        assert claimed and claimed[0].run_id == other
        assert work.claim(ledger, AFTER, EMAIL) is None
        assert work.claim(ledger, DUE + timedelta(days=1), EMAIL) is None
        late = work.claim(ledger, TOO_LATE, EMAIL)
    assert late and late[0].run_id == run_id
    with pytest.raises(work.RunHeld):
        open_all(ledger_settings, *late)


def test_a_run_planned_with_a_hold_is_held(ledger_settings: Settings) -> None:
    with begin(ledger_settings) as ledger:
        run_id = plans.freeze(
            ledger, occurrence_id=plans.lock_occurrence(ledger, "spring", "2026-06-15", NOW), campaign="spring",
            as_of=NOW, now=NOW, spec={}, spec_hash="s", content_hash="t", policy={}, policy_version="1",
            key=b"a home's key", triggered_by=None, expires_in=timedelta(days=1), plan=tabulate([message(1)]),
            asked_by="mia", hold="approval",
        )  # fmt: skip
        assert work.claim(ledger, AFTER, EMAIL) is None
        run = runs.known(ledger, run_id)
        assert (run.asked_by, run.hold) == ("mia", "approval")
        assert len(run.plan_hash or "") == 64
        (found,) = reports.totals(ledger, [run_id])
    assert (found.hold, found.asked_by, found.plan_hash) == ("approval", "mia", run.plan_hash)


@pytest.mark.parametrize("stop", ["pause", "cancel"])
def test_a_worker_that_holds_a_batch_opens_nothing_after_a_stop(
    ledger_settings: Settings, planned: Callable[..., int], stop: str
) -> None:
    run_id = planned()
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, EMAIL)
    assert claimed
    with begin(ledger_settings) as ledger:
        if stop == "pause":
            assert holds.pause(ledger, run_id) == "paused"
        else:
            plans.cancel_unsent(ledger, 1, reason="cancelled", now=AFTER, superseded=False)
    with pytest.raises(work.RunHeld):
        open_all(ledger_settings, *claimed)
    with begin(ledger_settings) as ledger:
        assert work.release(ledger, *claimed, AFTER) == (stop == "cancel")
        (found,) = reports.totals(ledger, [run_id])
    assert (found.pending, found.cancelled) == ((3, 0) if stop == "pause" else (0, 3))


def test_a_pause_waits_for_requests_that_are_being_written_down_and_stops_the_next(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned()
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, EMAIL)
    assert claimed
    started, done = Event(), Event()

    def pause() -> None:
        started.set()
        with begin(ledger_settings) as ledger:
            holds.pause(ledger, run_id)
        done.set()

    batch, token = claimed
    first, *others = ([m.seq] for m in batch.messages)
    pauser = Thread(target=pause)
    with begin(ledger_settings) as ledger:
        work.open_requests(ledger, batch, token, "sendgrid", [(first, None)], AFTER)
        pauser.start()
        assert started.wait(PATIENCE)
        assert not done.wait(0.2)  # it can't be told of as paused before these are written down
    assert done.wait(PATIENCE)
    pauser.join()
    with begin(ledger_settings) as ledger, pytest.raises(work.RunHeld):
        work.open_requests(ledger, batch, token, "sendgrid", [(seqs, None) for seqs in others], AFTER)


def test_every_outcome_of_pausing_and_resuming_has_a_name(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned()
    with begin(ledger_settings) as ledger:
        assert holds.resume(ledger, run_id) == "not_paused"
        assert [holds.pause(ledger, run_id) for _ in range(2)] == ["paused", "paused_before"]
        assert [holds.resume(ledger, run_id) for _ in range(2)] == ["resumed", "not_paused"]
        holds.set_hold(ledger, run_id, "approval")
        assert [f(ledger, run_id) for f in (holds.pause, holds.resume)] == ["paused", "resumed"]
        assert runs.known(ledger, run_id).hold == "approval"
        plans.cancel_unsent(ledger, 1, reason="superseded", now=AFTER, superseded=True)
        assert [f(ledger, run_id) for f in (holds.pause, holds.resume)] == ["superseded"] * 2


def test_decisions_are_kept_in_their_order_and_an_approval_is_found(
    ledger_settings: Settings, planned: Callable[..., int]
) -> None:
    run_id = planned()
    with begin(ledger_settings) as ledger:
        steps = ("void", "approved", "paused", "resumed", "cancelled", "rejected")
        for what in steps:
            assert holds.was_approved(ledger, run_id) == (what not in ("void", "approved"))
            holds.record(ledger, run_id, None, what, "ann", NOW)
        assert [d["decision"] for d in cohorts.decided(ledger, run_id)] == list(steps)
    with pytest.raises(sa.exc.IntegrityError), begin(ledger_settings) as ledger:
        holds.record(ledger, run_id, "h", "forgotten", "ann", NOW)  # type: ignore[arg-type]


def test_what_was_decided_before_stands_after_the_migration(ledger_settings: Settings) -> None:
    """From a ledger in use: its rows stay, with their ids, and further kinds of decisions have room."""
    run_id = write_plan(ledger_settings, [message(1)], key=ledger_settings.signing_key())
    with begin(ledger_settings) as ledger:
        holds.record(ledger, run_id, "h", "approved", "ann", NOW)
        assert holds.pause(ledger, run_id) == "paused"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    held = []  # as the run's row has it
    for move, revision in ((command.downgrade, "0002"), (command.upgrade, "head")):
        with altering(opened(ledger_settings)) as connection:
            config.attributes["connection"] = connection
            move(config, revision)
            held.append(connection.execute(sa.text("select hold from campaign_runs")).scalar_one())
    with begin(ledger_settings) as ledger:
        holds.record(ledger, run_id, "h", "paused", "ben", AFTER)
        assert (held, runs.known(ledger, run_id).hold) == (["pause", None], "pause")
        rows = ledger.execute(sa.select(tables.approvals).order_by(tables.approvals.c.approval_id)).all()
    assert [tuple(row) for row in rows] == [
        (1, run_id, "h", "approved", "ann", NOW), (2, run_id, "h", "paused", "ben", AFTER)
    ]  # fmt: skip
