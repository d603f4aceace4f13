"""The days through a real Airflow, and what its buttons do to the ledger: the table in docs/airflow.md."""

from __future__ import annotations

import csv
from contextlib import suppress
from datetime import timedelta

import psutil
import pytest
from controltower import clock
from support.running_demo import Demo

from demo.processes import marked

pytestmark = [pytest.mark.airflow, pytest.mark.slow]
FIRST, DAY = "2026-06-15", "2026-06-16"  # the tests work on the last one
CAMPAIGN = "campaign_picked_for_you"


def run_of_the_day(demo: Demo) -> str:
    """The campaign's run that the scores of the demo's day triggered."""
    run = demo.api.runs(CAMPAIGN, run_type="asset_triggered", state="success")[0]
    return str(run["dag_run_id"])


def by_form(demo: Demo, **form: object) -> dict[str, object]:
    """Trigger the campaign as its form does; gives the report."""
    run_id = demo.api.trigger(CAMPAIGN, form)
    assert demo.wait(CAMPAIGN, run_id) == "success"
    (report,) = demo.api.result(CAMPAIGN, run_id, "plan")
    assert isinstance(report, dict)
    return report


def test_the_summary_accounts_for_everybody(demo: Demo) -> None:
    ledger, caught = demo.ledger(), demo.caught()
    assert [run["accounted"] for run in ledger["runs"]] == [True] * 4
    planned = {(run["campaign"], run["occurrence"]) for run in ledger["runs"]}
    assert planned == {(campaign, day) for campaign in ("picked_for_you", "win_back") for day in (FIRST, DAY)}
    assert sum(ledger["accepted"].values()) == caught["message_ids"] > 0
    assert caught["duplicates"] == ledger["pending"] == 0
    for word in (
        "customers",
        "known when planned",
        "audience",
        "held out",
        "not sent",
        "accepted",
        "mails",
        "propensity_7d",
    ):
        assert word in demo.said


def test_it_listens_on_loopback_only(demo: Demo) -> None:
    listening = set()
    for process in marked(demo.home):
        with suppress(psutil.NoSuchProcess):  # one of a task, which has ended
            found = process.net_connections("tcp")
            listening |= {connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_loads_and_scores_carry_the_moment_they_are_for(demo: Demo) -> None:
    scored = demo.api.runs("score_customers", state="success")
    reports = [demo.api.result("score_customers", run["dag_run_id"], "score") for run in reversed(scored)]
    as_of = [report["as_of"][:19] for (report,) in reports]
    assert as_of == ["2026-06-14T15:00:00", "2026-06-15T15:00:00"]  # midnights of both days in Seoul


def test_a_broken_spec_fails_with_its_error(demo: Demo) -> None:
    run_id = demo.api.trigger("campaign_half_made")
    assert demo.wait("campaign_half_made", run_id) == "failed"
    (task,) = demo.api.tasks("campaign_half_made", run_id)
    assert task["try_number"] == 1  # a person must mend it: no retries
    assert "half_made.yaml is not valid YAML" in "\n".join(demo.api.log("campaign_half_made", run_id, task))


def test_the_example_exports_the_likeliest_buyers(demo: Demo) -> None:
    dag = "example_export_top_customers"
    demo.api.call("PATCH", f"/dags/{dag}", json={"is_paused": False})
    run_id = demo.api.trigger(dag, {"at_most": 5})
    assert demo.wait(dag, run_id) == "success"
    (report,) = demo.api.result(dag, run_id, "export")
    header, *rows = csv.reader((demo.home / "exports" / report["file"]).read_text().splitlines())
    assert header == ["customer_id", "propensity_7d", "model_version"]
    assert len(rows) == 5
    assert [float(r[1]) for r in rows] == sorted((float(r[1]) for r in rows), reverse=True)


@pytest.mark.parametrize(("dag", "task"), [(CAMPAIGN, "plan"), ("dispatch_messages", "send")])
def test_clear(demo: Demo, dag: str, task: str) -> None:
    demo.set_clock(f"{DAY}T20:00")
    before = demo.ledger(), demo.caught()["message_ids"]
    run_id = run_of_the_day(demo) if dag == CAMPAIGN else demo.api.runs(dag, state="success")[0]["dag_run_id"]
    demo.api.call(
        "POST", f"/dags/{dag}/clearTaskInstances", json={"dry_run": False, "dag_run_id": run_id, "only_failed": False}
    )
    assert demo.wait(dag, run_id) == "success"
    assert {t["task_id"]: t["try_number"] for t in demo.api.tasks(dag, run_id)}[task] == 2
    demo.settle()
    assert (demo.ledger(), demo.caught()["message_ids"]) == before


def test_clear_the_load(demo: Demo) -> None:
    """Its chain runs again, with the models of before, up to campaigns that find their frozen plans."""
    demo.set_clock(f"{DAY}T20:00")
    before = demo.ledger(), demo.caught()["message_ids"]
    planned = {run["dag_run_id"] for run in demo.api.runs(CAMPAIGN, run_type="asset_triggered")}
    (loaded,) = (run for run in demo.api.runs("ingest_data") if run["conf"]["end"] == DAY)
    body = {"dry_run": False, "dag_run_id": loaded["dag_run_id"], "only_failed": False}
    demo.api.call("POST", "/dags/ingest_data/clearTaskInstances", json=body)
    assert demo.wait("ingest_data", loaded["dag_run_id"]) == "success"
    demo.settle()
    trained = demo.api.runs("train_models")[0]
    (report,) = demo.api.result("train_models", trained["dag_run_id"], "train")
    assert report["note"].startswith("skipped") and not report["models"]
    (again,) = {run["dag_run_id"] for run in demo.api.runs(CAMPAIGN, run_type="asset_triggered")} - planned
    (report,) = demo.api.result(CAMPAIGN, again, "plan")
    assert report["note"] == "planned before: nothing added"
    assert (demo.ledger(), demo.caught()["message_ids"]) == before


def test_pause_a_campaign(demo: Demo) -> None:
    """Scores don't start it, also not afterwards; a run by hand waits until it is unpaused."""
    demo.set_clock(f"{DAY}T20:00")
    before = demo.ledger()
    known = {run["dag_run_id"] for run in demo.api.runs(CAMPAIGN)}
    demo.api.call("PATCH", f"/dags/{CAMPAIGN}", json={"is_paused": True})
    by_hand = demo.api.trigger(CAMPAIGN, {"occasion": DAY})
    assert demo.wait("score_customers", demo.api.trigger("score_customers")) == "success"
    demo.settle(waiting=1)
    assert {run["dag_run_id"] for run in demo.api.runs(CAMPAIGN)} == known | {by_hand}
    assert demo.api.state(CAMPAIGN, by_hand) == "queued"
    demo.api.call("PATCH", f"/dags/{CAMPAIGN}", json={"is_paused": False})
    assert demo.wait(CAMPAIGN, by_hand) == "success"
    demo.settle()
    assert {run["dag_run_id"] for run in demo.api.runs(CAMPAIGN)} == known | {by_hand}
    assert demo.ledger() == before


def test_mark_failed_and_delete(demo: Demo) -> None:
    before = demo.ledger()
    run_id = demo.api.trigger(CAMPAIGN, {"occasion": DAY})
    demo.wait(CAMPAIGN, run_id)
    demo.api.call("PATCH", f"/dags/{CAMPAIGN}/dagRuns/{run_id}", json={"state": "failed"})
    assert demo.ledger() == before
    demo.api.call("DELETE", f"/dags/{CAMPAIGN}/dagRuns/{run_id}")
    assert demo.ledger() == before


def test_trigger_again(demo: Demo) -> None:
    before = demo.ledger(), demo.caught()["message_ids"]
    demo.set_clock(f"{DAY}T20:00")
    for form in ({}, {"occasion": DAY}):
        report = by_form(demo, **form)
        assert report["note"] == "planned before: nothing added"
    assert (demo.ledger(), demo.caught()["message_ids"]) == before


def test_pause(demo: Demo) -> None:
    """A paused dispatch keeps the next day's plan waiting; unpaused, it goes out."""
    here = demo.settings
    demo.api.call("PATCH", "/dags/dispatch_messages", json={"is_paused": True})
    demo.set_clock("2026-06-18T12:00")
    caught = demo.caught()["message_ids"]
    report = by_form(demo, window_start="00:00", window_end="23:59", holdout=0)
    assert not report["rehearsed"]
    waiting = demo.ledger()["pending"]
    assert waiting
    assert waiting == report["messages"] - sum(report["accepted"].values())
    assert demo.caught()["message_ids"] == caught
    demo.api.call("PATCH", "/dags/dispatch_messages", json={"is_paused": False})
    clock.set_clock(here, clock.now(here) + timedelta(hours=24))
    assert demo.wait("dispatch_messages", demo.api.trigger("dispatch_messages")) == "success"
    demo.settle()
    after = demo.ledger()
    assert after["pending"] == 0
    assert demo.caught()["message_ids"] == sum(after["accepted"].values())


def test_cancel(demo: Demo) -> None:
    """What is unsent of an occasion is cancelled; another day's plan and what was sent stay."""
    here = demo.settings
    demo.api.call("PATCH", "/dags/dispatch_messages", json={"is_paused": True})
    demo.set_clock("2026-06-29T12:00")
    before, caught = demo.ledger(), demo.caught()["message_ids"]
    planned = by_form(demo, holdout=0)
    assert planned["pending"]
    assert demo.ledger()["pending"] == planned["pending"]
    run_id = demo.api.trigger("cancel_campaign", {"campaign": "picked_for_you"})
    assert demo.wait("cancel_campaign", run_id) == "success"
    report = demo.api.result("cancel_campaign", run_id, "cancel")
    assert (report["occurrence"], report["cancelled"]) == ("2026-06-29", planned["pending"])
    assert by_form(demo, holdout=0)["note"] == "planned before: nothing added"
    demo.api.call("PATCH", "/dags/dispatch_messages", json={"is_paused": False})
    clock.set_clock(here, clock.now(here) + timedelta(hours=12))
    assert demo.wait("dispatch_messages", demo.api.trigger("dispatch_messages")) == "success"
    after = demo.ledger()
    assert (after["accepted"], after["pending"]) == (before["accepted"], 0)
    assert demo.caught()["message_ids"] == caught


def test_backfill(demo: Demo) -> None:
    """Past days are loaded, scored and rehearsed; the ledger and the inbox stay as they are."""
    before = demo.ledger(), demo.caught()
    dates = "--from-date 2025-11-01 --to-date 2025-11-03"
    demo.shell(f"airflow backfill create --dag-id ingest_data {dates} --max-active-runs 1")
    demo.settle()
    loaded = demo.api.runs("ingest_data", run_type="backfill")
    assert [run["state"] for run in loaded] == ["success"] * len(loaded)
    assert len(loaded) == 2  # dates are UTC: the intervals that end on the 3rd and the 4th at 05:00 in Seoul
    (newest, *_) = demo.api.runs(CAMPAIGN, run_type="asset_triggered")
    reports = demo.api.result(CAMPAIGN, newest["dag_run_id"], "plan")
    assert reports and all(report["rehearsed"] for report in reports)
    assert reports[-1]["occurrence"] == "2025-11-04"
    assert by_form(demo, occasion="2025-11-03")["rehearsed"]
    assert (demo.ledger(), demo.caught()) == before
