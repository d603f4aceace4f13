"""Large runs wait for a second person, and leave only as what was approved: on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from click.testing import Result
from controltower import clock
from controltower.cli import app
from controltower.errors import BadSettings, BadSpec, ControlTowerError, NotAllowed, ProviderDown
from controltower.jobs.approvals import approve_campaign, newest_run, question, reject_campaign
from controltower.jobs.campaigns import plan_campaign
from controltower.jobs.control import cancel_campaign, change_run, pause_campaign, resume_campaign
from controltower.jobs.dispatch import dispatch_messages
from controltower.ledger import plans, runs, tables
from controltower.ledger.database import begin
from controltower.ledger.decisions import tabulate
from controltower.settings import Settings
from support import scored_shop
from support.scored_shop import DAY
from typer.testing import CliRunner

N = 8


@pytest.fixture
def shop(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A scored shop whose campaign has 8 messages, where more than 5 need approval; ann and ben may approve."""
    monkeypatch.setenv("CONTROLTOWER_APPROVERS", "ann, ben")
    return scored_shop.make(home, monkeypatch, N)


@pytest.fixture
def shop_on_each(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same on each database."""
    monkeypatch.setenv("CONTROLTOWER_APPROVERS", "ann, ben")
    return scored_shop.make(ledger_settings.home, monkeypatch, N)


def plan(by: str | None = "mia", **form: Any) -> dict[str, Any]:
    return plan_campaign("spring", form=form, asked_by=by)


def approve(report: dict[str, Any], by: str = "ann", plan_hash: str | None = None) -> dict[str, Any]:
    return approve_campaign(report["run_id"], plan_hash or report["plan_hash"], by)


def decisions(conf: Settings) -> list[tuple[str, str]]:
    a = tables.approvals.c
    with begin(conf) as ledger:
        rows = ledger.execute(sa.select(a.decision, a.decided_by).order_by(a.approval_id))
        return list(rows.tuples())


def test_a_large_plan_waits_and_leaves_when_a_second_person_approves(shop_on_each: Settings) -> None:
    report = plan()
    assert (report["messages"], report["hold"], report["asked_by"]) == (N, "approval", "mia")
    again = plan()
    assert (again["run_id"], again["hold"]) == (report["run_id"], "approval")
    done = approve(report)
    assert (done["outcome"], done["hold"], done["pending"]) == ("approved", None, N)
    assert approve(report, "ben")["outcome"] == "approved_before"
    assert reject_campaign(report["run_id"], "ben")["outcome"] == "not_waiting"
    assert decisions(shop_on_each) == [("approved", "ann")]
    assert plan()["hold"] is None


def test_the_hash_is_of_what_is_frozen_in_the_ledger(shop_on_each: Settings) -> None:
    report = plan()
    with begin(shop_on_each) as ledger:
        run = runs.known(ledger, report["run_id"])
        frozen = list(plans.decided(ledger, run.run_id))
    hashes = [run.content_hash, run.spec_hash, run.shop_hash]
    assert run.shop_hash and plans.plan_hash(*hashes, tabulate(frozen)) == report["plan_hash"]
    for other in (frozen[1:], [frozen[0]._replace(arm="other"), *frozen[1:]]):
        assert plans.plan_hash(*hashes, tabulate(other)) != report["plan_hash"]
    for n in range(3):
        assert plans.plan_hash(*[*hashes[:n], "other", *hashes[n + 1 :]], tabulate(frozen)) != report["plan_hash"]


@pytest.mark.parametrize("limits", [(None, None, None), (8, None, None), (None, 8, None), (8, 20, 8)])
def test_a_plan_within_every_limit_waits_for_nobody(
    shop: Settings, limits: tuple[int | None, int | None, int | None]
) -> None:
    of_shop, of_spec, of_form = limits
    scored_shop.write_shop(shop, approve_above=of_shop)
    scored_shop.write_spec(shop, approve_above=of_spec)
    assert plan(approve_above=of_form)["hold"] is None


@pytest.mark.parametrize("limits", [(7, None, None), (20, 7, None), (20, None, 7), (20, 9, 0)])
def test_the_lowest_limit_counts(shop: Settings, limits: tuple[int, int | None, int | None]) -> None:
    of_shop, of_spec, of_form = limits
    scored_shop.write_shop(shop, approve_above=of_shop)
    scored_shop.write_spec(shop, approve_above=of_spec)
    assert plan(approve_above=of_form)["hold"] == "approval"


@pytest.mark.parametrize(
    ("value", "says"), [(6, "It may only be lowered"), (-1, "approve_above"), ("x", "approve_above")]
)
def test_the_form_never_does_away_with_an_approval(shop: Settings, value: object, says: str) -> None:
    with pytest.raises(BadSpec, match=says):
        plan(approve_above=value)


def test_the_forms_own_threshold_is_the_same_plan(shop: Settings) -> None:
    assert plan(approve_above=5)["run_id"] == plan()["run_id"]


def test_a_changed_form_cannot_part_a_large_run_into_small_ones(shop_on_each: Settings) -> None:
    first = plan(at_most=5)
    assert (first["messages"], first["hold"]) == (5, None)
    with begin(shop_on_each) as ledger:  # they have left
        ledger.execute(sa.update(tables.batches).values(state="done", done_at=scored_shop.NOW))
    second = plan(at_most=N)
    assert (second["messages"], second["hold"]) == (N - 5, "approval")


def test_whoever_ticks_despite_an_anomaly_needs_a_second_person(shop: Settings) -> None:
    scored_shop.write_shop(shop, approve_above=None)
    assert plan(despite_anomaly=True)["hold"] == "approval"


@pytest.mark.parametrize(("person", "says"), [("mia", "asked for it"), ("Mia ", "asked for it"), ("carl", "approvers"),
                                              ("", "nobody")])  # fmt: skip
def test_only_an_approver_who_did_not_ask_may_decide(shop: Settings, person: str, says: str) -> None:
    report = plan()
    for decide in (lambda: approve(report, person), lambda: reject_campaign(report["run_id"], person)):
        with pytest.raises(NotAllowed, match=says) as caught:
            decide()
        assert "ann or ben" in caught.value.remedy
    assert (newest_run("spring")["hold"], decisions(shop)) == ("approval", [])


def test_an_approver_who_asked_is_nobodys_second_person(shop: Settings) -> None:
    report = plan("ann")
    with pytest.raises(NotAllowed, match="asked for it"):
        approve(report, "ann")
    assert approve(report, "ben")["outcome"] == "approved"


def test_where_nobody_is_named_anybody_else_may(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTROLTOWER_APPROVERS")
    report = plan()
    with pytest.raises(NotAllowed, match="asked for it"):
        approve(report, "mia")
    assert approve(report, "carl")["outcome"] == "approved"


def _edit_template(conf: Settings) -> None:
    with (conf.templates / "email" / "win_back.txt").open("a") as f:
        f.write("edited\n")


def _edit_shop(conf: Settings, **changes: Any) -> None:
    kept = yaml.safe_load(conf.shop_file.read_text())
    conf.shop_file.write_text(yaml.safe_dump(kept | changes))


def _edit_sender(conf: Settings, **changes: str) -> None:
    _edit_shop(conf, sender=yaml.safe_load(conf.shop_file.read_text())["sender"] | changes)


SEEN = {  # of the shop, by recipients
    "sender's name": lambda conf: _edit_sender(conf, name="Somebody else"),
    "sender's address": lambda conf: _edit_sender(conf, email="other@haru.example"),
    "reply-to": lambda conf: _edit_sender(conf, reply_to="answers@haru.example"),
    "contact": lambda conf: _edit_sender(conf, contact="02-0000-0000"),
    "unsubscribe group": lambda conf: _edit_shop(conf, sendgrid={"asm_group_id": 7}),
    "UTM rule": lambda conf: _edit_shop(conf, utm={"source": "elsewhere"}),
    "site": lambda conf: _edit_shop(conf, url="https://elsewhere.example"),
    "zone": lambda conf: _edit_shop(conf, timezone="Asia/Tokyo"),
}
EDITS = SEEN | {
    "template": _edit_template,
    "spec": lambda conf: scored_shop.write_spec(conf, title="Edited"),
    "variant": lambda conf: scored_shop.write_spec(conf, variants=[{"name": "a", "subject": {"en": "Edited"}}]),
    "spec gone": lambda conf: (conf.campaigns / "spring.yaml").unlink(),
    "spec broken": lambda conf: (conf.campaigns / "spring.yaml").write_text("name: [unclosed"),
    "template gone": lambda conf: (conf.templates / "email" / "win_back.mjml").unlink(),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_approval_after_an_edit_is_void_and_cancels_the_run(shop: Settings, edit: str) -> None:
    report = plan(at_most=7)  # the form is applied again to see what changed
    EDITS[edit](shop)
    done = approve(report)
    assert (done["outcome"], done["state"], done["cancelled"], done["pending"]) == ("void", "cancelled", 7, 0)
    assert "changed after planning" in done["note"]
    assert decisions(shop) == [("void", "ann")]
    with begin(shop) as ledger:
        reasons = set(ledger.execute(sa.select(tables.outcomes.c.reason)).scalars())
    assert reasons == {"changed_after_planning"}
    assert approve(report)["outcome"] == "cancelled_before"


def test_what_no_recipient_sees_of_the_shop_voids_nothing(shop: Settings) -> None:
    report = plan()
    _edit_shop(shop, approve_above=6, providers={"sendgrid": {"rate": "9/minute"}}, sendgrid={"ip_pool_name": "pool"})
    assert approve(report)["outcome"] == "approved"


@pytest.mark.parametrize("edit", [None, *SEEN])
def test_what_was_approved_leaves_as_it_was_or_not_at_all(
    shop: Settings, monkeypatch: pytest.MonkeyPatch, edit: str | None
) -> None:
    """No provider is there: what is tried to be sent says so."""
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", "SG.key")
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_URL", "http://127.0.0.1:9")
    report = plan()
    approve(report)
    clock.set_clock(shop, datetime.fromisoformat("2026-06-15T12:00+09:00"), speed=0)
    if edit is None:
        assert dispatch_messages()["requests"].keys() == {"retry"}
        return
    SEEN[edit](shop)
    with pytest.raises(ProviderDown, match=r"What recipients see of shop\.yaml .* has changed since run 1 was planned"):
        dispatch_messages()
    again = plan()
    assert (again["version"], again["messages"], again["hold"]) == (2, N, "approval")


def test_a_run_from_before_it_was_kept_leaves_as_before(shop: Settings) -> None:
    report = plan()
    with begin(shop) as ledger:
        ledger.execute(sa.update(tables.campaign_runs).values(shop_hash=None))
    _edit_sender(shop, name="Somebody else")
    assert plan()["run_id"] == report["run_id"]
    assert approve(report)["outcome"] == "approved"


def test_a_void_run_can_be_planned_again_with_all_its_customers(shop_on_each: Settings) -> None:
    report = plan()
    _edit_template(shop_on_each)
    assert approve(report)["outcome"] == "void"
    again = plan()
    assert (again["version"], again["messages"], again["hold"]) == (2, N, "approval")
    assert approve(again)["outcome"] == "approved"


def test_a_newer_version_needs_an_approval_of_its_own(shop_on_each: Settings) -> None:
    first = plan()
    assert approve(first)["outcome"] == "approved"
    scored_shop.write_spec(shop_on_each, title="Edited")
    second = plan()
    assert (second["version"], second["hold"]) == (2, "approval")
    assert approve(second, plan_hash=first["plan_hash"])["outcome"] == "other_plan"
    assert newest_run("spring")["hold"] == "approval"
    assert approve(first)["outcome"] == "replaced"
    assert reject_campaign(first["run_id"], "ann")["outcome"] == "superseded"
    assert approve(second)["outcome"] == "approved"
    assert [d for d, _ in decisions(shop_on_each)] == ["approved", "void", "void", "approved"]


def test_a_rejected_run_is_cancelled(shop_on_each: Settings) -> None:
    report = plan()
    done = reject_campaign(report["run_id"], "ben")
    assert (done["outcome"], done["state"], done["cancelled"]) == ("rejected", "cancelled", N)
    assert (approve(report)["outcome"], reject_campaign(report["run_id"], "ann")["outcome"]) == (
        "cancelled_before",
    ) * 2
    assert decisions(shop_on_each) == [("rejected", "ben")]
    assert plan()["run_id"] == report["run_id"]  # the same again is not asked again
    scored_shop.write_spec(shop_on_each, title="Edited")
    again = plan()
    assert (again["version"], again["messages"], again["hold"]) == (2, N, "approval")


def test_a_run_that_is_not_there_or_was_cancelled(shop: Settings) -> None:
    with pytest.raises(BadSettings, match="no run 99"):
        approve_campaign(99, "x", "ann")
    with pytest.raises(BadSettings, match="no plan"):
        newest_run("spring")
    report = plan()
    cancel_campaign("spring")
    assert approve(report)["outcome"] == "cancelled_before"


def test_no_hash_is_no_rejection(shop: Settings) -> None:
    report = plan()
    assert approve_campaign(report["run_id"], "", "ann")["outcome"] == "other_plan"
    assert newest_run("spring")["pending"] == N


def test_two_who_approve_at_once_are_one_approval(shop_on_each: Settings) -> None:
    report = plan()
    with ThreadPoolExecutor(4) as pool:
        done = [d["outcome"] for d in pool.map(lambda n: approve(report, ("ann", "ben")[n % 2]), range(4))]
    assert sorted(done) == ["approved", *["approved_before"] * 3]
    assert len(decisions(shop_on_each)) == 1


def test_a_pause_holds_for_the_version_that_takes_its_place(shop_on_each: Settings) -> None:
    scored_shop.write_shop(shop_on_each, approve_above=None)
    plan()
    assert pause_campaign("spring", by="mia")["outcome"] == "paused"
    scored_shop.write_spec(shop_on_each, title="Edited")
    assert plan()["hold"] == "pause"
    assert resume_campaign("spring")["hold"] is None
    scored_shop.write_spec(shop_on_each, title="Edited again")
    assert plan()["hold"] is None


def test_who_paused_resumed_or_cancelled_it_is_kept(shop_on_each: Settings) -> None:
    scored_shop.write_shop(shop_on_each, approve_above=None)
    report = plan()
    for _ in range(2):  # the second time nothing changes, and nothing is kept
        pause_campaign("spring", by="mia")
    resume_campaign("spring")
    assert cancel_campaign("spring", DAY, by="ann")["outcome"] == "cancelled"
    done = cancel_campaign("spring", by="ben")
    assert (done["outcome"], done["cancelled"], done["run_id"]) == ("cancelled_before", N, report["run_id"])
    assert decisions(shop_on_each) == [("paused", "mia"), ("resumed", "command line"), ("cancelled", "ann")]


def test_the_run_that_was_shown_is_changed_and_no_other(shop_on_each: Settings) -> None:
    scored_shop.write_shop(shop_on_each, approve_above=None)
    first = plan()["run_id"]
    scored_shop.write_spec(shop_on_each, title="Edited")
    second = plan()["run_id"]
    for action in ("pause", "resume", "cancel"):
        done = change_run(action, first, "mia")
        assert (done["run_id"], done["outcome"]) == (first, "superseded")
    assert decisions(shop_on_each) == []
    assert change_run("pause", second, "mia")["outcome"] == "paused"
    with pytest.raises(BadSettings, match="no run 99"):
        change_run("pause", 99, "mia")


def test_a_paused_run_was_approved_before(shop: Settings) -> None:
    report = plan()
    approve(report)
    pause_campaign("spring", by="ann")
    assert approve(report, "ben")["outcome"] == "approved_before"


def test_another_day_is_rehearsed_and_asks_nobody(shop: Settings) -> None:
    report = plan_campaign("spring", "2026-06-14")
    assert (report["rehearsed"], report.get("hold")) == (True, None)


def test_the_second_person_is_told_what_would_leave(shop: Settings) -> None:
    asked = question(plan()["run_id"], "ann", "https://airflow.example/")
    assert asked is not None
    assert asked["subject"] == "Spring, 2026-06-15: 메시지 8건을 보낼까요?"
    assert asked["approvers"] == ["ben"]
    for part in (
        "`spring`, 회차 2026-06-15, 버전 1, 요청자 mia.",
        "5건을 넘는 메시지",
        "| 대상 | 9 |",
        "| 이메일 메시지 | 8 |",
        "| 비교군 | 0 |",
        "| 보내지 않음: 수신 동의 없음 | 1 |",
        "발신자 하루상점 Haru (hello@haru.example), 회신 주소 hello@haru.example.",
        "첫 발송 2026-06-15 10:00 KST (Asia/Seoul)",
        "https://airflow.example/plugin/tower/tower/runs/1/samples",
        newest_run("spring")["plan_hash"][:12],
    ):
        assert part in asked["body"]
    assert "customers.example" not in asked["body"]


def test_nobody_is_asked_about_what_does_not_wait_and_somebody_must_be_left(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = plan("ann")
    monkeypatch.setenv("CONTROLTOWER_APPROVERS", "ann")
    with pytest.raises(NotAllowed, match="Nobody is left") as caught:
        question(report["run_id"], "ann")
    assert "CONTROLTOWER_APPROVERS" in caught.value.remedy
    monkeypatch.delenv("CONTROLTOWER_APPROVERS")
    assert (question(report["run_id"]) or {})["approvers"] == []
    assert approve(report, "ben")["outcome"] == "approved"
    assert question(report["run_id"], "ann") is None


def test_the_schedule_asks_any_approver(shop: Settings) -> None:
    report = plan(None)
    assert (question(report["run_id"]) or {})["approvers"] == ["ann", "ben"]
    assert approve(report, "ben")["outcome"] == "approved"
    assert newest_run("spring", DAY)["asked_by"] is None


def test_the_command_line_pauses_approves_and_rejects(shop: Settings) -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["campaign", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    assert "hold: approval" in said("plan", "spring", "--by", "mia")
    assert "hold: approval" in said("pause", "spring")
    assert "outcome: resumed" in said("resume", "spring", "--by", "mia")
    with pytest.raises(NotAllowed):
        command = ["campaign", "approve", "spring", "--by", "mia", "--plan", newest_run("spring")["plan_hash"]]
        CliRunner().invoke(app, command, catch_exceptions=False)
    waiting = newest_run("spring")["plan_hash"]
    assert "outcome: approved" in said("approve", "spring", "--by", "ann", "--occasion", DAY, "--plan", waiting)
    assert "outcome: paused" in said("pause", "spring")
    assert "outcome: resumed" in said("resume", "spring")
    assert "outcome: not_waiting" in said("reject", "spring", "--by", "ann")


def test_the_command_line_approves_only_a_plan_that_was_named(shop: Settings) -> None:
    """Who has read one plan doesn't let another go that took its place meanwhile."""

    def approve_by_command(*more: str) -> Result:
        return CliRunner().invoke(app, ["campaign", "approve", "spring", "--by", "ann", *more])

    first = plan()
    asked = approve_by_command()
    assert isinstance(asked.exception, ControlTowerError) and "Nothing is approved yet" in str(asked.exception)
    assert f"--plan {first['plan_hash']}" in str(asked.exception)
    for shown in (f"messages: {N}", "no_consent: 1", "asked_by: mia", f"plan_hash: {first['plan_hash']}"):
        assert shown in asked.output
    scored_shop.write_spec(shop, holdout=0.2)
    second = plan()
    assert "outcome: other_plan" in approve_by_command("--plan", first["plan_hash"]).output
    assert decisions(shop) == [("void", "ann")]
    assert "outcome: approved" in approve_by_command("--plan", second["plan_hash"]).output
    assert "doesn't wait for approval" in str(approve_by_command().exception)
