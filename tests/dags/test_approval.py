"""The second person's part in a campaign's DAG: who is asked, what is kept meanwhile, what an answer does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import sqlalchemy as sa
from controltower.jobs.campaigns import plan_campaign
from controltower.ledger import tables
from controltower.ledger.database import reading
from controltower.settings import Settings
from support import scored_shop
from support.airflow_process import ROOT, airflow_environment

BY_BEN = {"option": "Approve", "by": "ben"}
# name -> what is special of it; the others' run is triggered by ann, and ann and ben may approve
CASES: dict[str, dict[str, Any]] = {
    "approved": {},
    "rejected": {"answer": {"option": "Reject", "by": "ben"}},
    "void": {"edit": True},
    "nobody answers": {"answer": None},
    "somebody else answers": {"answer": {"option": "Approve", "by": "carl"}},
    "who asked answers": {"answer": {"option": "Approve", "by": "ann"}},
    "nobody is left": {"approvers": "ann"},
    "nobody is named": {"approvers": "", "answer": {"option": "Approve", "by": "carl"}},
    "by the schedule": {"user": None},
    "small": {"at_most": 3},
    "said to wait": {"at_most": 3, "say": "approval"},
    "said not to wait": {"say": None},
}


class Played:
    """A case: its home, the report of its plan, and what happened."""

    def __init__(self, settings: Settings, planned: dict[str, Any]) -> None:
        self.settings, self.planned = settings, planned
        self.seen: dict[str, Any] = {}

    @property
    def decisions(self) -> list[tuple[str, str, str]]:
        a = tables.approvals.c
        with reading(self.settings) as ledger:
            return list(ledger.execute(sa.select(a.decision, a.decided_by, a.plan_hash)).tuples())

    @property
    def run(self) -> tuple[str, str | None]:
        r = tables.campaign_runs.c
        with reading(self.settings) as ledger:
            return ledger.execute(sa.select(r.state, r.hold)).tuples().one()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """Every case, all in one process with Airflow in it."""
    root, found, cases = tmp_path_factory.mktemp("approval"), {}, []
    for number, (name, case) in enumerate(CASES.items()):
        home, user = root / str(number), case.get("user", "ann")
        home.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CONTROLTOWER_HOME", str(home))
            patch.setenv("CONTROLTOWER_APPROVERS", case.get("approvers", "ann, ben"))
            settings = scored_shop.make(home, patch)
            planned = plan_campaign("spring", form={"at_most": case.get("at_most")}, asked_by=user)
            environment = {
                "CONTROLTOWER_HOME": str(home),
                "CONTROLTOWER_APPROVERS": settings.approvers,
                "CONTROLTOWER_CAMPAIGNS": str(settings.campaigns),
                "CONTROLTOWER_TEMPLATES": str(settings.templates),
            }
        found[name] = Played(settings, planned)
        cases.append(
            {
                "environment": environment,
                "user": user,
                "planned": [planned | {"hold": case.get("say", planned["hold"])}],
                "edit": str(settings.templates / "email" / "win_back.txt") if case.get("edit") else None,
                "answer": case.get("answer", BY_BEN),
            }
        )
    command = [sys.executable, str(ROOT / "tests" / "support" / "second_person.py"), json.dumps(cases)]
    environment = airflow_environment(root / "airflow", root)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for one, seen in zip(found.values(), json.loads(done.stdout.splitlines()[-1]), strict=True):
        one.seen = seen
    return found


def test_everybody_who_may_approve_is_asked_but_who_triggered_it(played: dict[str, Played]) -> None:
    asked = played["approved"].seen["question"]
    assert asked["assigned_users"] == [{"id": "ben", "name": "ben"}]
    assert asked["subject"].startswith("Spring, 2026-06-15")
    assert asked["options"] == ["Approve", "Reject"]
    assert asked["defaults"] is None, "no answer is no approval"
    scheduled = played["by the schedule"].seen["question"]
    assert [u["name"] for u in scheduled["assigned_users"]] == ["ann", "ben"]
    assert played["nobody is named"].seen["question"]["assigned_users"] == []


def test_what_was_asked_is_kept_with_the_waiting_task(played: dict[str, Played]) -> None:
    one = played["approved"]
    assert one.seen["parked"] == {"run_id": one.planned["run_id"], "plan_hash": one.planned["plan_hash"]}


def test_an_approval_is_written_down_by_name_and_lets_the_run_go(played: dict[str, Played]) -> None:
    for name, by in (("approved", "ben"), ("by the schedule", "ben"), ("nobody is named", "carl")):
        one = played[name]
        assert one.decisions == [("approved", by, one.planned["plan_hash"])], name
        assert one.run == ("planned", None)
        assert one.seen["released"]["returned"]["outcome"] == "approved"


def test_a_rejection_is_written_down_and_skips(played: dict[str, Played]) -> None:
    one = played["rejected"]
    assert one.decisions == [("rejected", "ben", one.planned["plan_hash"])]
    assert one.run[0] == "cancelled"
    assert "rejected" in one.seen["released"]["skipped"]


def test_an_approval_of_what_was_changed_since_is_void_and_fails(played: dict[str, Played]) -> None:
    one = played["void"]
    assert one.decisions == [("void", "ben", one.planned["plan_hash"])]
    assert one.run[0] == "cancelled"
    assert "void" in one.seen["released"]["failed"]


def test_without_an_answer_it_fails_with_the_remedy_and_the_run_still_waits(played: dict[str, Played]) -> None:
    one = played["nobody answers"]
    assert "Nobody answered in 24 hours: nothing of it is sent" in one.seen["answered"]["failed"]
    assert "clear this task to ask again" in one.seen["answered"]["failed"]
    assert (one.run, one.decisions) == (("planned", "approval"), [])


@pytest.mark.parametrize(
    ("name", "says"), [("somebody else answers", "not one of the approvers"), ("who asked answers", "asked for it")]
)
def test_an_answer_of_somebody_who_may_not_decide_changes_nothing(
    played: dict[str, Played], name: str, says: str
) -> None:
    one = played[name]
    assert says in one.seen["answered"]["failed"]
    assert (one.run, one.decisions) == (("planned", "approval"), [])


def test_where_nobody_is_left_to_ask_it_says_whom_to_name(played: dict[str, Played]) -> None:
    failed = played["nobody is left"].seen["asked"]["failed"]
    assert "Nobody is left to approve" in failed
    assert "CONTROLTOWER_APPROVERS" in failed
    assert played["nobody is left"].run == ("planned", "approval")


def test_nobody_is_asked_about_a_run_that_does_not_wait_whatever_the_plan_task_is_said_to_have_returned(
    played: dict[str, Played],
) -> None:
    for name in ("small", "said to wait"):
        assert "No run waits" in played[name].seen["asked"]["skipped"]
        assert played[name].run == ("planned", None)
    assert "No run waits" in played["said not to wait"].seen["asked"]["skipped"]
    assert played["said not to wait"].run == ("planned", "approval"), "it stays held"
