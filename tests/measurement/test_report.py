"""A run told line by line, with figures worked out by hand; and what a report says when there is little to say."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from controltower.cli import app
from controltower.errors import BadSpec, NoData
from controltower.jobs import measurement as jobs
from controltower.ledger import work
from controltower.ledger.database import begin, reading
from controltower.ledger.reports import totals
from controltower.ledger.sends import sends
from controltower.measurement import report as reports
from controltower.measurement import wording
from controltower.measurement.kpis import KPIS
from typer.testing import CliRunner

from .conftest import DAY, HOUR, NOW, Story, reasons, values


@pytest.fixture
def told(story: Story) -> Story:
    """Twelve members: seven messages (four mails, three pushes), three held out, one global, one without consent."""
    story.plan({
        "m1": "email/a", "m2": "email/a", "m3": "email/b", "m4": "email/b",
        "p1": "push/a", "p2": "push/b", "p3": "push/b",
        "h1": "holdout", "h2": "holdout", "h3": "holdout", "g1": "global_holdout", "n1": "no_consent",
    })  # fmt: skip
    story.send(only={"m1", "m2", "m3", "p1", "p2", "p3"})  # m4 is suppressed at the last check
    story.back("m1", "clicked", "opened", "delivered", "delivered", "queued")  # in any order, some twice
    story.back("m2", "delivered", "unsubscribed")
    story.back("m2", "opened", machine=True)
    story.back("m3", "bounced", "delivered", at=NOW + 3 * HOUR)
    story.back("p1", "clicked", at=NOW + 4 * HOUR)
    story.order("m1", NOW + 5 * HOUR, ("x", 2, 10_000), ("y", 1, 5_000), discount=1_000)  # 24,000
    story.order("m1", NOW + 2 * DAY, ("x", 1, 10_000))
    story.order("m2", NOW, ("x", 1, 99_000))  # before its message
    story.order("m3", NOW + 5 * HOUR, ("x", 1, 50_000))  # its message bounced
    story.order("p1", NOW + DAY, ("x", 2, 10_000), ("x", -1, 10_000))  # one of two came back: 10,000
    story.order("p2", NOW + 8 * DAY, ("x", 1, 10_000))  # too late
    story.order("p3", NOW + DAY, ("x", 1, 10_000), status="cancelled")
    story.order("p3", NOW + DAY, ("x", 1, 30), currency="USD")
    story.order("h1", NOW + DAY, ("x", 1, 7_000))
    story.order("g1", NOW + DAY, ("x", 1, 7_000))
    story.order(None, NOW + DAY, ("x", 1, 7_000))
    story.orders_are_loaded()
    return story


def test_figures_worked_out_by_hand(told: Story) -> None:
    found = told.report()
    run = values(found)
    counted = {name: run[name] for name in (
        "audience", "held_out", "not_sent", "messages", "stopped", "waiting", "accepted", "delivered", "bounced",
        "opened", "opened_by_machine", "clicked", "unsubscribed", "complained", "ordered", "orders", "revenue",
    )}  # fmt: skip
    assert counted == {
        "audience": 12, "held_out": 4, "not_sent": 1, "messages": 7, "stopped": 1, "waiting": 0, "accepted": 6,
        "delivered": 2, "bounced": 1, "opened": 1, "opened_by_machine": 1, "clicked": 2, "unsubscribed": 1,
        "complained": 0, "ordered": 3, "orders": 4, "revenue": "44000.0000",
    }  # fmt: skip
    assert run["delivery_rate"] == pytest.approx(2 / 3) and run["open_rate"] == pytest.approx(1 / 2)
    assert run["click_rate"] == pytest.approx(2 / 5)  # two mails delivered, three pushes accepted
    assert run["revenue_per_message"] == "8800.0000"
    assert found["other_currencies"] == [{"currency": "USD", "orders": 1, "revenue": "30.0000"}]
    assert found["accounted"] and found["outcome"] == "sent"
    assert found["not_sent"] == [
        {"when": "at the last check", "reason": "suppressed", "customers": 1},
        {"when": "when planned", "reason": "no_consent", "customers": 1},
    ]


def test_a_push_is_accepted_and_never_delivered(told: Story) -> None:
    found = told.report()
    push = values(found, "channel", "push")
    assert (push["accepted"], push["clicked"], push["ordered"]) == (3, 1, 2)
    why = reasons(found, "channel", "push")
    for name in ("delivered", "bounced", "opened", "complained", "delivery_rate", "open_rate"):
        assert push[name] is None and why[name] == "not_told"
    assert push["click_rate"] == pytest.approx(1 / 3)
    assert "audience" not in push  # known of the run only


def test_variants_and_channels_sum_to_the_run(told: Story) -> None:
    found = told.report()
    run = values(found)
    for level in ("channel", "variant"):
        parts = [values(found, level, x["of"]) for x in found["levels"] if x["level"] == level]
        assert len(parts) == 2
        for kpi in KPIS:
            if kpi.top is None and not kpi.run_only:
                assert sum(float(p[kpi.name] or 0) for p in parts) == float(run[kpi.name]), (level, kpi.name)


def test_the_comparison_counts_all_that_were_drawn(told: Story) -> None:
    """Also m4, whose message never left, and m2, who ordered before it did; not the global holdout."""
    compared = told.report()["readout"]
    assert (compared["treated"]["customers"], compared["treated"]["ordered"]) == (7, 5)  # m1 m2 m3 p1 p3
    assert compared["treated"]["revenue"] == "193000.0000"  # 34,000 + 99,000 + 50,000 + 10,000, no dollars
    assert (compared["holdout"]["customers"], compared["holdout"]["ordered"]) == (3, 1)
    assert compared["difference"] == pytest.approx(5 / 7 - 1 / 3)
    assert compared["verdict"] == "too small"
    assert compared["left_out"] == {"global_holdout": 1}


def test_as_of_an_earlier_moment_less_is_known(told: Story) -> None:
    early = told.report(as_of=NOW + 2 * HOUR)
    run = values(early)
    assert (run["delivered"], run["bounced"], run["clicked"], run["orders"]) == (2, 0, 1, 0)
    assert early["readout"]["verdict"] == "window open"
    late = told.report(as_of=NOW + 6 * DAY + 23 * HOUR)
    assert late["readout"]["verdict"] == "window open"


def test_no_verdict_before_the_orders_of_the_window_are_loaded(story: Story) -> None:
    story.plan({"m1": "email/a", "h1": "holdout"})
    story.send()
    story.order("m1", NOW + DAY, ("x", 1, 1_000))
    story.orders_are_loaded(f"../{(NOW + 3 * DAY).isoformat()}")
    found = story.report()
    told = wording.tell(found, "en")
    assert told["verdict"] == "window open: 3 of 7 days"
    assert "Orders are known until 2026-06-18 09:00 KST (Asia/Seoul)." in told["notes"]


def test_a_cancelled_order_changes_nothing(told: Story) -> None:
    before = told.report()
    told.order("m1", NOW + 6 * HOUR, ("x", 9, 99_000), status="cancelled")
    told.order("h2", NOW + 6 * HOUR, ("x", 9, 99_000), status="cancelled")
    told.orders_are_loaded("2026-07-15T00:00:00Z/2026-07-16T00:00:00Z")
    assert told.report() == before


def test_an_order_cancelled_later_is_taken_back(told: Story) -> None:
    told.order("m2", NOW + DAY, ("x", 1, 500), order_id="taken-back")
    told.orders_are_loaded("a/2026-07-15T00:00:00Z")
    assert values(told.report())["orders"] == 5
    told.order("m2", NOW + DAY, ("x", 1, 500), order_id="taken-back", status="cancelled", updated_at=NOW + 2 * DAY)
    told.orders_are_loaded("b/2026-07-15T00:00:00Z")
    assert values(told.report())["orders"] == 4


def test_returned_as_a_whole_an_order_counts_without_money(story: Story) -> None:
    story.plan({"m1": "email/a", "m2": "email/a", "m3": "email/a"})
    story.send()
    story.order("m1", NOW + DAY, ("x", 2, 1_000), status="returned")  # no line says so
    story.order("m2", NOW + DAY, ("x", 2, 1_000), ("x", -2, 1_000), status="returned")  # the lines say so
    story.order("m3", NOW + DAY, ("x", -2, 1_000), status="returned", discount=100)  # a document of its own
    story.orders_are_loaded()
    run = values(story.report())
    assert (run["orders"], run["revenue"]) == (2, "-1900.0000")


@pytest.mark.parametrize(("prepare", "outcome", "verdict"), [
    (lambda s: s.plan({}), "audience_empty", "no holdout"),
    (lambda s: s.plan({"n": "no_consent"}), "nobody_to_write_to", "no holdout"),
    (lambda s: s.plan({"m": "email/a", "h": "holdout"}), "not_started", "nothing left"),
    (lambda s: s.held(s.plan({"m": "email/a", "h": "holdout"}), "approval"),
     "waits_for_approval", "nothing left"),
    (lambda s: s.held(s.plan({"m": "email/a", "h": "holdout"}), "pause"),
     "paused", "nothing left"),
    (lambda s: s.cancelled(s.plan({"m": "email/a", "h": "holdout"})), "cancelled_before", "nothing left"),
    (lambda s: (s.plan({"m": "email/a", "h": "holdout"}), s.send(only=set())),
     "all_stopped", "nothing left"),
])  # fmt: skip
def test_a_run_that_sent_nothing_says_why(story: Story, prepare: Any, outcome: str, verdict: str) -> None:
    prepare(story)
    story.orders_are_loaded()
    found = story.report()
    assert (found["outcome"], found["readout"]["verdict"]) == (outcome, verdict)
    run = values(found)
    assert run["revenue"] == "0" and run["click_rate"] is None
    assert reasons(found)["click_rate"] == "nobody_reached"
    assert "–" in reports.page(found)


def test_late_events_of_a_cancelled_run_are_counted_and_said(story: Story) -> None:
    run_id = story.plan({"m1": "email/a", "m2": "email/a", "h1": "holdout"})
    story.send()
    story.cancelled(run_id)
    story.back("m1", "delivered", "clicked", at=NOW + 3 * DAY)
    story.orders_are_loaded()
    found = story.report()
    assert values(found)["clicked"] == 1
    told = wording.tell(found, "en")
    assert told["outcome"] == "cancelled: 2 of 2 messages had left"
    assert any("What came back for the 2 messages that had left is counted" in n for n in told["notes"])


def test_an_unknown_message_counts_once_something_came_back(story: Story) -> None:
    story.plan({"m1": "email/a", "m2": "email/a"})
    story.send(state="unknown")
    story.orders_are_loaded()
    assert values(story.report())["accepted"] == 0
    story.back("m1", "delivered")
    found = story.report()
    assert (values(found)["accepted"], values(found)["stopped"], found["accounted"]) == (1, 1, True)
    assert found["not_sent"] == [{"when": "no answer from the provider", "reason": "unknown", "customers": 1}]


def test_who_is_asked_for_is_found_or_said_not_to_be(story: Story) -> None:
    first = story.plan({"m1": "email/a"})
    story.plan({"m1": "email/a"}, occurrence="2026-06-16", now=NOW + DAY)
    story.orders_are_loaded()
    assert story.report()["occasion"] == "2026-06-16"
    assert story.report(occasion="2026-06-15")["run_id"] == story.report(run_id=first)["run_id"] == first
    with pytest.raises(NoData, match=r"no run for 2026-06-20\. It has them for 2026-06-15, 2026-06-16"):
        story.report(occasion="2026-06-20")
    with pytest.raises(NoData, match="no run 99"):
        story.report(run_id=99)
    with pytest.raises(NoData, match="win_back has no run by"):
        story.report("win_back")
    with pytest.raises(BadSpec, match="no campaign 'nonsense'"):
        story.report("nonsense")
    with pytest.raises(NoData, match="spring has no run by"):
        story.report("spring", as_of=NOW - DAY)


def test_a_recorded_shop_makes_no_claim(story: Story) -> None:
    story.shop(recorded_orders=True, simulated=["the orders are real, the <addresses> are not"])
    treated = {f"m{n}": "email/a" for n in range(60)}
    story.plan(treated | {f"h{n}": "holdout" for n in range(60)})
    story.send()
    for n in range(50):
        story.order(f"m{n}", NOW + DAY, ("x", 1, 1_000))
    story.order("h1", NOW + DAY, ("x", 1, 1_000))
    story.orders_are_loaded()
    found = story.report()
    assert found["readout"]["verdict"] == "placebo test" and found["readout"]["low"] > 0
    told = json.dumps(wording.tell(found, "en"))
    for text in (told, reports.page(found), reports.csv_text(found)):
        assert "recording of the past" in text and "placebo" in text.lower()
        assert "the orders are real" in text
    assert "the &lt;addresses&gt; are not" in reports.page(found)


def test_every_form_says_the_same(told: Story) -> None:
    told.shop(simulated=["the whole shop is made up"])
    found = told.report()
    assert json.loads(json.dumps(found)) == found
    rows = list(csv.DictReader(io.StringIO(reports.csv_text(found))))
    by = {(r["level"], r["of"], r["kpi"]): r for r in rows}
    assert by["run", "", "revenue"] | {"value": "44000.0000", "currency": "KRW"} == by["run", "", "revenue"]
    assert by["channel", "push", "delivered"]["value"] == ""
    assert "nothing after acceptance" in by["channel", "push", "delivered"]["reason"]
    assert by["comparison", "holdout", "customers"]["value"] == "3"
    assert {r["kpi"] for r in rows if r["level"] == "variant"} == {k.name for k in KPIS if not k.run_only}
    assert any(r["kpi"] == "note" and "the whole shop is made up" in r["label"] + r["value"] for r in rows)
    page = reports.page(found)
    for said in ("₩44,000", "Difference to the holdout", "Too small", "(Asia/Seoul)", "the whole shop is made up"):
        assert said in page
    assert str(reports.fragment(found)) in page


def test_a_korean_shops_page_is_in_korean_and_its_table_for_programs_in_english(told: Story, tmp_path: Path) -> None:
    told.shop(locale="ko", simulated=[{"en": "made up", "ko": "가상의 상점"}, "plain"])
    found = told.report()
    for suffix, language, said in (
        (".html", None, "대상에서 주문까지"), (".html", "en", "From the audience"), (".csv", None, "Accepted"),
        (".csv", "ko", "접수"), (".json", None, "too small"), (".json", "ko-KR", "판단하기에 너무 적음"),
    ):  # fmt: skip
        out = tmp_path / f"{language}{suffix}"
        jobs.write_report(found, out, language)
        assert said in out.read_text(encoding="utf-8"), out
    page = reports.page(found)
    assert '<html lang="ko">' in page and "시연용 자료: 가상의 상점." in page and "시연용 자료: plain." in page
    assert "수신 동의 없음" in page and "44,000원" in page
    body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S)
    # Names, units and who published it; whatever else is in Latin letters would be left in English.
    assert set(re.findall(r"[A-Za-z]{4,}", body)) <= {"Spring", "Haru", "spring", "Asia", "Seoul", "plain"}


def test_the_page_needs_nothing_else_and_holds_no_script(told: Story) -> None:
    page = reports.page(told.report())
    for alien in ("<script", "http://", "https://", "<link", "<img", "style=", "@import", "url("):
        assert alien not in page
    for said in ("prefers-color-scheme: dark", "@media print", 'role="img"', "<svg"):
        assert said in page


def test_markup_in_a_title_stays_text(story: Story) -> None:
    story.plan({"m1": "email/a"}, title="<script>alert(1)</script> & co")
    story.orders_are_loaded()
    page = reports.page(story.report())
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in page


def test_a_text_like_a_formula_is_plain_in_the_csv(story: Story) -> None:
    story.shop(simulated=[])
    story.plan({"n1": "=cmd()"})
    story.orders_are_loaded()
    assert "'=cmd()" in reports.csv_text(story.report())


def test_a_verdict_is_given_once_when_the_window_has_closed(told: Story) -> None:
    def measure(days: float, again: bool = False) -> dict[str, Any]:
        return jobs.measure_campaigns((NOW + days * DAY).isoformat(), again)

    assert measure(2) | {"as_of": ""} == {"as_of": "", "measured": 0, "open": 1, "kept": 0, "verdicts": {}}
    closed = measure(7)
    assert (closed["measured"], closed["open"], closed["verdicts"]) == (1, 0, {"too small": 1})
    assert (measure(8)["measured"], measure(8)["kept"]) == (0, 1)
    told.order("h2", NOW + DAY, ("x", 1, 1), updated_at=NOW + 8 * DAY)
    told.orders_are_loaded("later/2026-07-16T00:00:00Z")
    later = told.report(as_of=NOW + 9 * DAY)
    assert later["readout"]["holdout"]["ordered"] == 1  # what was found when the window closed stands
    assert later["readout"]["measured_at"].startswith("2026-06-22")
    assert measure(9, again=True)["measured"] == 1
    assert told.report(as_of=NOW + 9 * DAY)["readout"]["holdout"]["ordered"] == 2
    assert measure(60)["measured"] == 0


def test_without_any_run_there_is_nothing_to_measure(story: Story) -> None:
    story.orders_are_loaded()
    assert jobs.measure_campaigns()["measured"] == 0


def test_what_the_funnel_calls_accepted_is_what_left(told: Story) -> None:
    """Also of batches that still wait: one message is out, the other is to be tried again."""
    told.plan({"x1": "email/a", "x2": "email/b", "x3": "push/a"}, campaign="summer")
    with begin(told.settings) as ledger:
        for state in ("sent", "retry"):  # a batch of each variant
            batch, token = work.claim(ledger, NOW + HOUR, ("email",)) or pytest.fail("nothing is due")
            (m,) = batch.messages
            (call,) = work.open_requests(ledger, batch, token, "sendgrid", [([m.seq], None)], NOW + HOUR)
            work.close_requests(ledger, batch, token, [{"request_id": call, "state": state}], NOW + HOUR)
            work.release(ledger, work.read(ledger, batch.batch_id), token, NOW + HOUR, retry_in=60)
    for campaign, run_id in (("spring", 1), ("summer", 2)):
        found = told.report(campaign)
        with reading(told.settings) as ledger:
            left = Counter(s.variant for s in sends(ledger, run_id=run_id))
            by_run = {t.run_id: t for t in totals(ledger)}
            assert totals(ledger, [run_id]) == [by_run[run_id]]
        told_elsewhere, run = by_run[run_id], values(found)
        assert sum(told_elsewhere.accepted.values()) == run["accepted"] and told_elsewhere.pending == run["waiting"]
        assert (told_elsewhere.audience, told_elsewhere.accounted) == (run["audience"], True)
        assert left and found["accounted"]
        assert {v: values(found, "variant", v)["accepted"] for v in ("a", "b")} == {v: left[v] for v in ("a", "b")}
    assert (values(found)["accepted"], values(found)["waiting"]) == (1, 2)
    assert wording.tell(found, "en")["outcome"] == "sending: 1 of 3 messages have left"


def test_the_order_in_which_events_come_does_not_matter(story: Story) -> None:
    """Nor how often, nor who is told first."""
    events = ["queued", "deferred", "delivered", "opened", "clicked", "complained", "unsubscribed", "unknown"]
    found = []
    for n, mixed in enumerate((events, events[::-1], events[::2] * 2 + events[1::2])):
        story.plan({"m": "email/a"}, campaign=f"c{n}")
        story.send()
        for step, event in enumerate(mixed):
            story.back("m", event, at=NOW + 2 * HOUR + step * HOUR / 60)
        story.orders_are_loaded()
        found.append(values(story.report(f"c{n}")))
    assert found[0] == found[1] == found[2]
    assert [found[0][k] for k in ("delivered", "opened", "clicked", "complained", "unsubscribed")] == [1] * 5


def test_the_command_line_reports_and_writes(told: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def cli(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, result.output + str(result.exception or "")

    for suffix in (".html", ".json", ".csv"):
        out = tmp_path / f"report{suffix}"
        code, text = cli("campaign", "report", "spring", "--occasion", "2026-06-15", "--out", str(out))
        assert code == 0, text
        assert "Accepted" in text and "too small" in text and "₩44,000" in text and "(Asia/Seoul)" in text
        assert "spring" in out.read_text(encoding="utf-8")
    code, text = cli("campaign", "report", "spring", "--language", "ko")
    assert code == 0 and "접수" in text and "판단하기에 너무 적음" in text and "Accepted" not in text
    assert "can't hold a report" in cli("campaign", "report", "spring", "--out", str(tmp_path / "x.pdf"))[1]
    assert "has no run for 2026-06-01" in cli("campaign", "report", "spring", "--occasion", "2026-06-01")[1]
    code, text = cli("measure", "--as-of", (NOW + 7 * DAY).isoformat())
    assert code == 0 and "too small 1" in text.replace(":", "")
