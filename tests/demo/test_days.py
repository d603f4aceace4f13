"""Two days of the simulated shop: the second uses what came back on the first, and all figures agree."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.jobs.measurement import report_campaign
from controltower.ledger.database import reading
from controltower.ledger.tables import batches, campaign_runs, decisions, delivery_events, messages, occurrences
from controltower.measurement.wording import shown, tell
from support.running_demo import Demo

from demo.summary import NO_MORE

pytestmark = [pytest.mark.airflow, pytest.mark.slow]
FIRST, SECOND = "2026-06-15", "2026-06-16"
CAME_BACK = ("delivered", "opened", "clicked", "unsubscribed", "bounced", "ordered", "revenue")


@pytest.fixture
def moment(demo: Demo) -> Iterator[datetime]:
    """When the summary was made; the home's clock stands there meanwhile, since its customers go on answering."""
    said = re.search(r", as of (\S+)$", demo.said, re.M)
    assert said
    moment = datetime.fromisoformat(said[1])
    clock.set_clock(demo.settings, moment, speed=0)
    yield moment
    clock.set_clock(demo.settings, moment)


def printed(demo: Demo) -> dict[tuple[str, str], dict[str, str]]:
    """The summary's figures by name, of each campaign and occurrence."""
    runs: dict[tuple[str, str], dict[str, str]] = {}
    for part in demo.said.split("\n\n"):
        if head := re.match(r"  (\w+), occurrence (\S+), version 1 \(planned\)\n", part):
            lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in part.splitlines()[1:]]
            runs[head[1], head[2]] = dict(lines)
    return runs


def run_ids(demo: Demo) -> dict[tuple[str, str], int]:
    with reading(demo.settings) as ledger:
        joined = campaign_runs.join(occurrences, campaign_runs.c.occurrence_id == occurrences.c.occurrence_id)
        rows = ledger.execute(
            sa.select(occurrences.c.campaign, occurrences.c.occurrence, campaign_runs.c.run_id).select_from(joined)
        )
        return {(campaign, occurrence): run_id for campaign, occurrence, run_id in rows}


def second_day(demo: Demo, event: str) -> list[tuple[str, str | None, str | None]]:
    """(outcome, reason, channel) of the second day's decisions on customers who had an event on the first."""
    m, b, e, d = messages.c, batches.c, delivery_events.c, decisions.c
    runs = run_ids(demo)
    first = [run for (_, day), run in runs.items() if day == FIRST]
    second = [run for (_, day), run in runs.items() if day == SECOND]
    with reading(demo.settings) as ledger:
        had = sa.select(m.customer_id).join(delivery_events, e.message_id == m.message_id)
        had = had.join(batches, b.batch_id == m.batch_id).where(
            NO_MORE[event], b.run_id.in_(first), b.channel == "email"
        )
        planned = sa.select(sa.func.min(campaign_runs.c.planned_at)).where(campaign_runs.c.run_id.in_(second))
        had = had.where(e.received_at < planned.scalar_subquery())
        rows = ledger.execute(
            sa.select(d.outcome, d.reason, d.channel).where(d.run_id.in_(second), d.customer_id.in_(had))
        )
        return [tuple(row) for row in rows]


@pytest.mark.parametrize(("event", "reason"), [("unsubscribed from", "no_consent"), ("bounced for good", "suppressed")])
def test_who_left_or_bounced_on_the_first_day_gets_no_mail_on_the_second(demo: Demo, event: str, reason: str) -> None:
    found = second_day(demo, event)
    assert ("not_sent", reason, None) in found
    assert "email" not in {channel for _, _, channel in found}


def test_the_summary_tells_what_came_back(demo: Demo) -> None:
    runs = printed(demo)
    assert runs.keys() == {(c, day) for c in ("picked_for_you", "win_back") for day in (FIRST, SECOND)}
    for figures in runs.values():
        assert {*CAME_BACK, "difference to holdout"} <= figures.keys()
    total = {name: sum(int(f[name].replace(",", "")) for f in runs.values()) for name in CAME_BACK if name != "revenue"}
    assert all(total.values()), total
    differences = [f["difference to holdout"] for f in runs.values()]
    interval = r"[+-]\d+\.\d % points ordered \(95 % interval [+-]\d+\.\d to [+-]\d+\.\d\): "
    assert any(re.match(interval, d) for d in differences), differences
    for event in NO_MORE:
        assert re.search(rf"{event} +[1-9]\d* customers; messages planned for them afterwards: 0", demo.said)


def test_summary_report_page_and_ledger_tell_the_same(
    demo: Demo, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLTOWER_HOME", str(demo.home))
    marketer = demo.user("marketer").client
    ids = run_ids(demo)
    for (campaign, occurrence), said in printed(demo).items():
        run_id = ids[campaign, occurrence]
        report = report_campaign(campaign, run_id=run_id, as_of=moment.isoformat())
        page = marketer.get(f"/tower/runs/{run_id}").raise_for_status().text
        words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
        figures, told = report["levels"][0]["figures"], tell(report, "en")
        for kpi in report["kpis"]:
            if (name := kpi["name"]) in CAME_BACK:
                value = shown(figures[name]["value"], kpi["unit"], report["currency"])
                assert said[name] == value, (campaign, occurrence, name)
                assert f"{told['kpis'][name]['label']} {value}" in words, (campaign, occurrence, name)
        counted = counted_in_ledger(demo, run_id, moment)
        assert counted == {name: figures[name]["value"] for name in counted}, (campaign, occurrence)


def counted_in_ledger(demo: Demo, run_id: int, moment: datetime) -> dict[str, int]:
    """The funnel anew, from the events themselves."""
    m, b, e = messages.c, batches.c, delivery_events.c
    query = sa.select(m.message_id, e.event).join(messages, m.message_id == e.message_id)
    query = query.join(batches, b.batch_id == m.batch_id).where(
        b.run_id == run_id, e.received_at <= moment, e.machine.is_(False)
    )
    events: dict[str, set[str]] = defaultdict(set)
    with reading(demo.settings) as ledger:
        mails = set(
            ledger.execute(
                sa.select(m.message_id)
                .join(batches, b.batch_id == m.batch_id)
                .where(b.run_id == run_id, b.channel == "email")
            ).scalars()
        )
        for message_id, event in ledger.execute(query):
            events[message_id].add(event)
    gone = {i for i, found in events.items() if found & {"bounced", "dropped"}}
    arrived = {i for i, found in events.items() if found & {"delivered", "opened", "clicked"}}
    return {
        "delivered": len(arrived & mails - gone),
        "bounced": len(gone & mails),
        "opened": sum("opened" in found for i, found in events.items() if i in mails),
        "clicked": sum("clicked" in found for found in events.values()),
        "unsubscribed": sum("unsubscribed" in found for found in events.values()),
    }
