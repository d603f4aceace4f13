"""Tomorrow's plan knows today's clicks, and stops before something odd: on SQLite and PostgreSQL."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.errors import Anomaly
from controltower.jobs.campaigns import plan_campaign, preview_campaign
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import batches, campaign_runs, decisions, messages
from controltower.settings import Settings
from support.daily_shop import open_shop, score
from support.sent_messages import answer, message_ids, send

MORNING = datetime.fromisoformat("2026-06-15T06:30+09:00")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
CUSTOMERS = [f"c{n}" for n in range(260)]
NAME = "picked_for_you"


@pytest.fixture
def shop(ledger_settings: Settings) -> Settings:
    open_shop(ledger_settings, MORNING, CUSTOMERS)
    return ledger_settings


def morning(settings: Settings, day: int, customers: list[str] = CUSTOMERS) -> datetime:
    """The day begins: its scores are made as of midnight, and the clock shows half past six."""
    at = MORNING + day * DAY
    score(settings, at - 6.5 * HOUR, customers)
    clock.set_clock(settings, at, speed=0)
    return at


def policy(settings: Settings, run_id: int) -> dict:
    with reading(settings) as ledger:
        return ledger.execute(sa.select(campaign_runs.c.policy).filter_by(run_id=run_id)).scalar_one()


def variants(settings: Settings, run_id: int) -> dict[str, str]:
    with reading(settings) as ledger:
        rows = ledger.execute(
            sa.select(messages.c.customer_id, batches.c.variant)
            .join(batches, batches.c.batch_id == messages.c.batch_id)
            .where(batches.c.run_id == run_id)
        )
        return dict(rows.tuples().all())


def test_clicks_of_one_day_are_the_shares_of_the_next(shop: Settings) -> None:
    at = morning(shop, 0)
    first = plan_campaign(NAME)["run_id"]
    assert policy(shop, first)["learned"]["personal"] == {"share": 0.5, "messages": 0, "clicked": 0}
    send(shop, at + 10 * HOUR)
    given, ids = variants(shop, first), message_ids(shop, first)
    liked = sorted(c for c, variant in given.items() if variant == "product_first")
    assert min(Counter(given.values()).values()) >= 100
    for customer in liked[::3]:
        answer(shop, ids[customer], "clicked", at + 12 * HOUR)

    at = morning(shop, 1)
    rehearsed = preview_campaign(NAME, customers=0)
    second = plan_campaign(NAME)["run_id"]
    record = policy(shop, second)["learned"]
    assert record["product_first"] == {
        "share": pytest.approx(0.9), "messages": len(liked), "clicked": len(liked[::3])
    }  # fmt: skip
    then = variants(shop, second)
    assert rehearsed["messages"] == len(then)
    assert 0.8 < Counter(then.values())["product_first"] / len(then) < 0.97
    assert set(then) <= set(given), "who is held out, stays held out"
    assert any(given[c] != variant for c, variant in then.items())
    with reading(shop) as ledger:
        rows = ledger.execute(
            sa.select(decisions.c.arm, decisions.c.probability).filter_by(run_id=second, outcome="message").distinct()
        ).all()
    treated = 0.9 * (1 - policy(shop, second)["global_holdout"])
    assert dict(rows) == pytest.approx({n: treated * r["share"] for n, r in record.items()})
    assert plan_campaign(NAME)["run_id"] == second, "frozen, though the clicks go on"


def runs(settings: Settings) -> int:
    with begin(settings) as ledger:
        return ledger.execute(sa.select(sa.func.count()).select_from(campaign_runs)).scalar_one()


def test_an_odd_audience_stops_and_freezes_nothing(shop: Settings) -> None:
    for day in range(2):
        morning(shop, day)
        plan_campaign(NAME)
    morning(shop, 2, CUSTOMERS[:20])
    with pytest.raises(Anomaly, match=r"the audience is 20, less than one in 10 of the usual.* it was 260 \(median\)"):
        plan_campaign(NAME)
    assert runs(shop) == 2
    assert plan_campaign(NAME, form={"at_most": 3})["audience"] == 3, "asked for"
    morning(shop, 3, [])
    with pytest.raises(Anomaly, match="the audience is empty") as stopped:
        plan_campaign(NAME)
    assert len(str(stopped.value).splitlines()) == 1
    assert "despite_anomaly" in stopped.value.remedy
    assert runs(shop) == 3


def test_an_empty_audience_stops_the_first_occurrence_too_until_somebody_lets_it_through(shop: Settings) -> None:
    morning(shop, 0, [])
    with pytest.raises(Anomaly, match="the audience is empty at the campaign's first occurrence") as stopped:
        plan_campaign(NAME)
    assert "there are no features" in str(stopped.value)
    assert runs(shop) == 0
    let = plan_campaign(NAME, form={"despite_anomaly": True})
    assert (let["audience"], let["messages"], let["hold"]) == (0, 0, None), "nothing to send, nothing to approve"


def test_stale_scores_stop_and_a_second_person_may_let_them_through(shop: Settings) -> None:
    at = morning(shop, 0)
    clock.set_clock(shop, at + 40 * HOUR, speed=0)
    with pytest.raises(Anomaly, match=r"the features are 47 hours old, of 2026-06-15 00:00 .*, and may be 36 at most"):
        plan_campaign(NAME)
    assert runs(shop) == 0
    assert plan_campaign(NAME, "2026-06-15")["rehearsed"], "a rehearsal sends nothing, so nothing stops it"
    assert preview_campaign(NAME, customers=0)["messages"] > 0
    let = plan_campaign(NAME, form={"despite_anomaly": True})
    assert (let["hold"], let["pending"]) == ("approval", let["messages"])
    assert [a["table"] for a in policy(shop, let["run_id"])["anomalies"]] == ["features", "scores"]
