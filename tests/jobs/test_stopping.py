"""Stopping an occasion of several versions, and planning it anew while a worker has a batch of it: on both databases.

The likeliest emergency: the text is wrong, it is edited and triggered again, and then somebody stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
from controltower.jobs import planning
from controltower.jobs.approvals import approve_campaign, reject_campaign
from controltower.jobs.campaigns import plan_campaign
from controltower.jobs.control import cancel_campaign, pause_campaign, resume_campaign
from controltower.ledger import reports, runs, work
from controltower.ledger.database import begin
from controltower.settings import Settings
from support import scored_shop
from support.patience import PATIENCE

N = 8
DUE = scored_shop.NOW + timedelta(hours=3)  # the ledger is told so; the clock stands, so that today's plans are alike


@pytest.fixture
def shop(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CONTROLTOWER_APPROVERS", "ann,ben")
    monkeypatch.setitem(scored_shop.SPEC, "variants", scored_shop.SPEC["variants"][:1])  # so all are in one batch
    conf = scored_shop.make(ledger_settings.home, monkeypatch, N)
    scored_shop.write_shop(conf, approve_above=None)
    return conf


def plan(**more: Any) -> dict[str, Any]:
    return plan_campaign("spring", asked_by="mia", **more)


def edited(conf: Settings, title: str = "Spring!") -> dict[str, Any]:
    scored_shop.write_spec(conf, title=title)
    return plan()


def claim(conf: Settings) -> tuple[work.Batch, str]:
    with begin(conf) as ledger:
        claimed = work.claim(ledger, DUE, ["email"])
    assert claimed
    return claimed


def call(conf: Settings, claimed: tuple[work.Batch, str], seqs: list[int]) -> list[int]:
    """Write down that calls for these messages begin."""
    with begin(conf) as ledger:
        return work.open_requests(ledger, *claimed, "sendgrid", [([seq], None) for seq in seqs], DUE)


def give_back(conf: Settings, claimed: tuple[work.Batch, str], **states: list[int]) -> None:
    """End these requests, then the work on the batch."""
    with begin(conf) as ledger:
        rows = [{"request_id": i, "state": state} for state, ids in states.items() for i in ids]
        work.close_requests(ledger, *claimed, rows, DUE)
        work.release(ledger, *claimed, DUE)


def totals(conf: Settings) -> Iterator[reports.Totals]:
    """Of each version, the oldest first."""
    with begin(conf) as ledger:
        found = reports.totals(ledger)
    assert all(t.accounted for t in found)
    yield from reversed(found)


@pytest.mark.parametrize("stop", [pause_campaign, cancel_campaign])
def test_a_stop_reaches_what_a_worker_has_of_a_former_version(shop: Settings, stop: Callable[..., Any]) -> None:
    plan()
    batch, token = claim(shop)
    seqs = [m.seq for m in batch.messages]
    ids = call(shop, (batch, token), seqs[:2])
    second = edited(shop)
    assert (second["version"], second["messages"], second["not_sent"]["in_earlier_version"]) == (2, N - 2, 2)
    with pytest.raises(work.RunHeld):
        call(shop, (batch, token), seqs[2:])
    stop("spring")
    with pytest.raises(work.RunHeld):
        call(shop, (batch, token), seqs[2:])
    give_back(shop, (batch, token), sent=ids)
    with begin(shop) as ledger:
        assert work.claim(ledger, DUE, ["email"]) is None
    old, new = totals(shop)
    assert (old.accepted, old.cancelled, old.pending) == ({"sendgrid": 2}, N - 2, 0)
    assert (new.pending, new.cancelled) == ((N - 2, 0) if stop is pause_campaign else (0, N - 2))


@pytest.mark.parametrize("stop", [pause_campaign, cancel_campaign])
def test_a_former_versions_calls_are_something_to_stop(shop: Settings, stop: Callable[..., Any]) -> None:
    """The new version has nobody to write to, but the former is not all out."""
    plan()
    claimed = claim(shop)
    ids = call(shop, claimed, [m.seq for m in claimed[0].messages])
    assert edited(shop)["messages"] == 0
    assert stop("spring")["outcome"] in ("paused", "cancelled")
    give_back(shop, claimed, sent=ids[2:], retry=ids[:2])
    with begin(shop) as ledger:
        assert work.claim(ledger, DUE, ["email"]) is None
    old, _ = totals(shop)
    assert (old.accepted, old.cancelled, old.pending) == ({"sendgrid": N - 2}, 2, 0)
    if stop is pause_campaign:
        assert resume_campaign("spring")["outcome"] == "resumed"


def test_everybody_has_one_message_when_the_plan_is_made_anew_during_the_sending(shop: Settings) -> None:
    """Paused or not: what no call was begun for goes to the new version, and what was begun stays with the old."""
    plan()
    claimed = claim(shop)
    assert pause_campaign("spring")["outcome"] == "paused"
    second = edited(shop)
    assert (second["version"], second["hold"], second["messages"], second["pending"]) == (2, "pause", N, N)
    assert "paused, as the one before" in second["note"]
    give_back(shop, claimed)
    assert resume_campaign("spring")["outcome"] == "resumed"
    claimed = claim(shop)
    seqs = [m.seq for m in claimed[0].messages]
    ids = call(shop, claimed, seqs[:3])
    third = edited(shop, "Spring?")
    assert (third["version"], third["messages"]) == (3, N - 3)
    give_back(shop, claimed, sent=ids)
    claimed = claim(shop)
    assert {m.seq for m in claimed[0].messages}.isdisjoint(seqs)
    give_back(shop, claimed, sent=call(shop, claimed, [m.seq for m in claimed[0].messages]))
    first, second_totals, third_totals = totals(shop)
    assert first.cancelled == N
    assert (second_totals.accepted, second_totals.cancelled) == ({"sendgrid": 3}, N - 3)
    assert (third_totals.accepted, third_totals.pending) == ({"sendgrid": N - 3}, 0)


def test_what_a_worker_refuses_or_defers_too_late_stays_cancelled(shop: Settings) -> None:
    plan()
    batch, token = claim(shop)
    edited(shop)
    seqs = [m.seq for m in batch.messages]
    with begin(shop) as ledger:
        work.drop(ledger, batch, token, [(seqs[0], "not_sent", "no_consent")], DUE)
        work.defer(ledger, batch, token, seqs[1:], DUE + timedelta(hours=1))
        work.release(ledger, batch, token, DUE)
    old, new = totals(shop)
    assert (old.cancelled, old.not_sent) == (N, {"no_consent": 1})  # who is silent has no consent at all
    assert (new.pending, pause_campaign("spring")["outcome"]) == (N, "paused")
    assert cancel_campaign("spring")["cancelled"] == N
    assert pause_campaign("spring")["outcome"] == "cancelled_before"


@pytest.mark.parametrize("stop", [pause_campaign, cancel_campaign])
def test_a_stop_is_not_lost_while_the_occasion_is_planned_again(
    shop: Settings, monkeypatch: pytest.MonkeyPatch, stop: Callable[..., Any]
) -> None:
    plan()
    planning_now, asked = Event(), Event()
    real = planning.decide_and_freeze

    def slow(*args: Any, **known: Any) -> int:
        planning_now.set()
        asked.wait(PATIENCE)
        return real(*args, **known)

    monkeypatch.setattr(planning, "decide_and_freeze", slow)
    planner = Thread(target=lambda: plan(replan=True))
    found: dict[str, Any] = {}
    stopper = Thread(target=lambda: found.update(stop("spring")))
    planner.start()
    assert planning_now.wait(PATIENCE)
    stopper.start()
    stopper.join(0.3)  # it waits for the plan
    assert stopper.is_alive()
    asked.set()
    for thread in (planner, stopper):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert (found["outcome"], found["version"]) == (("paused", 2) if stop is pause_campaign else ("cancelled", 2))
    with begin(shop) as ledger:
        assert work.claim(ledger, DUE, ["email"]) is None


@pytest.mark.parametrize("decide", ["approve", "reject"])
def test_a_decision_waits_for_a_plan_that_is_being_made(
    shop: Settings, monkeypatch: pytest.MonkeyPatch, decide: str
) -> None:
    scored_shop.write_shop(shop, approve_above=5)
    first = plan()
    planning_now = Event()
    real = planning.decide_and_freeze
    found: dict[str, Any] = {}

    def deciding() -> None:
        planning_now.wait(PATIENCE)
        found.update(
            approve_campaign(first["run_id"], first["plan_hash"], "ann")
            if decide == "approve"
            else reject_campaign(first["run_id"], "ann")
        )

    decider = Thread(target=deciding)

    def slow(*args: Any, **known: Any) -> int:
        planning_now.set()
        decider.join(0.3)
        assert decider.is_alive()
        return real(*args, **known)

    monkeypatch.setattr(planning, "decide_and_freeze", slow)
    decider.start()
    second = plan(replan=True)
    decider.join(PATIENCE)
    assert found["outcome"] == ("replaced" if decide == "approve" else "superseded")
    with begin(shop) as ledger:
        assert runs.known(ledger, second["run_id"]).state == "planned"


def test_a_pause_and_an_approval_are_two_facts(shop: Settings) -> None:
    plan()
    assert pause_campaign("spring")["outcome"] == "paused"
    scored_shop.write_shop(shop, approve_above=5)
    second = edited(shop)
    assert (second["version"], second["hold"]) == (2, "approval")
    approved = approve_campaign(second["run_id"], second["plan_hash"], "ann")
    assert (approved["outcome"], approved["hold"]) == ("approved", "pause")
    with begin(shop) as ledger:
        assert work.claim(ledger, DUE, ["email"]) is None
        assert reports.held(ledger) == {"pause": N}
    assert resume_campaign("spring")["hold"] is None
    claim(shop)


def test_what_waits_for_approval_can_be_paused_and_resumed(shop: Settings) -> None:
    scored_shop.write_shop(shop, approve_above=5)
    plan()
    assert [pause_campaign("spring")["outcome"] for _ in range(2)] == ["paused", "paused_before"]
    resumed = resume_campaign("spring")
    assert (resumed["outcome"], resumed["hold"]) == ("resumed", "approval")
    assert pause_campaign("spring")["hold"] == "approval"
    with begin(shop) as ledger:
        assert reports.held(ledger) == {"approval": N}
        waiting = runs.known(ledger, 1)
    assert (waiting.hold, waiting.paused) == ("approval", True)
    assert approve_campaign(1, waiting.plan_hash or "", "ann")["hold"] == "pause"


def test_planning_again_is_done_once_for_a_trigger(shop: Settings) -> None:
    scored_shop.write_shop(shop, approve_above=5)
    plan()
    again = {"replan": True, "trigger_id": "manual__1"}
    second = plan(**again)
    assert second["version"] == 2
    approve_campaign(second["run_id"], second["plan_hash"], "ann")
    retried = plan(**again)
    assert (retried["version"], retried["hold"], retried["note"]) == (2, None, "planned before: nothing added")
    claimed = claim(shop)
    give_back(shop, claimed, sent=call(shop, claimed, [claimed[0].messages[0].seq]))
    cleared = plan(**again)
    assert (cleared["version"], cleared["cancelled"], cleared["pending"]) == (2, 0, N - 1)
    scored_shop.write_shop(shop, approve_above=None)
    edited(shop)
    assert plan(**again)["version"] == 3, "what took its place stands"
    assert plan(replan=True, trigger_id="manual__2")["cancelled"] == N - 1
