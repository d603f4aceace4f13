"""What variants and random hours came to, how many earlier occurrences were for: alike on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controltower.ledger import plans, reports
from controltower.ledger.database import begin
from controltower.ledger.sends import sends
from controltower.settings import Settings
from support.sent_messages import answer, message_ids, plan, send

AT = datetime(2026, 6, 15, 3, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def results(settings: Settings, until: datetime, campaign: str = "spring") -> dict[str, tuple[int, int]]:
    with begin(settings) as ledger:
        return reports.variant_results(ledger, campaign, until - 28 * DAY, until)


def test_messages_accepted_and_clicked_by_people(ledger_settings: Settings) -> None:
    run_id = plan(ledger_settings, AT, ["a", "a", "a", "b", "b", "b"])
    send(ledger_settings, AT, ["sent", "sent", "rejected", "sent", "unknown", "unknown"])
    ids = message_ids(ledger_settings, run_id)
    assert results(ledger_settings, AT) == {"a": (2, 0), "b": (1, 0)}
    for hours in (1, 2):
        answer(ledger_settings, ids["c0"], "clicked", AT + hours * HOUR)  # twice is one message clicked
    answer(ledger_settings, ids["c1"], "clicked", AT + HOUR, machine=True)
    answer(ledger_settings, ids["c1"], "opened", AT + HOUR)
    answer(ledger_settings, ids["c4"], "clicked", AT + 3 * HOUR)  # so it had arrived
    assert results(ledger_settings, AT + 2 * HOUR) == {"a": (2, 1), "b": (1, 0)}, "as was known by then"
    assert results(ledger_settings, AT + DAY) == {"a": (2, 1), "b": (2, 1)}
    with begin(ledger_settings) as ledger:
        assert len(list(sends(ledger, run_id=run_id))) == 4


def test_only_this_campaign_and_this_window(ledger_settings: Settings) -> None:
    for day in (0, 1, 30):
        plan(ledger_settings, AT + day * DAY, ["a"])
        send(ledger_settings, AT + day * DAY)
    plan(ledger_settings, AT, ["a"], campaign="autumn")
    plan(ledger_settings, AT + 31 * DAY, ["a", "b"])  # not sent yet
    assert results(ledger_settings, AT - HOUR) == {}
    assert results(ledger_settings, AT + 28 * DAY - HOUR) == {"a": (2, 0)}
    assert results(ledger_settings, AT + 31 * DAY) == {"a": (1, 0)}
    assert results(ledger_settings, AT + 31 * DAY, "autumn") == {}


def test_what_random_hours_came_to(ledger_settings: Settings) -> None:
    drawn = [{"hour": 9, "explored": n % 2 == 0, "products": [{"product_id": "p"}]} for n in range(6)]
    run_id = plan(ledger_settings, AT, ["a"] * 7, choices=drawn)  # nothing is said of c6's hour
    send(ledger_settings, AT, ["sent", "sent", "rejected"])
    ids = message_ids(ledger_settings, run_id)
    for who, when in (("c0", 1), ("c0", 2), ("c1", 1), ("c3", 3), ("c6", 1)):
        answer(ledger_settings, ids[who], "clicked", AT + when * HOUR)
    answer(ledger_settings, ids["c4"], "clicked", AT + HOUR, machine=True)
    another = plan(ledger_settings, AT + DAY, ["a"], choices=drawn)
    with begin(ledger_settings) as ledger:
        assert reports.hour_results(ledger, run_id, AT + 2 * HOUR) == {True: (2, 1), False: (3, 1)}
        assert reports.hour_results(ledger, run_id, AT + DAY) == {True: (2, 1), False: (3, 2)}
        assert reports.hour_results(ledger, another, AT + DAY) == {}


def test_earlier_audiences(ledger_settings: Settings) -> None:
    for day, size in enumerate((3, 4, 5)):
        plan(ledger_settings, AT + day * DAY, ["a"] * size, at_most=5 if size == 5 else None)
    plan(ledger_settings, AT + 3 * DAY, ["a"] * 9, hold="approval")
    plan(ledger_settings, AT, ["a"] * 8, campaign="autumn")
    with begin(ledger_settings) as ledger:
        cancelled = plans.lock_occurrence(ledger, "spring", (AT + DAY).date().isoformat(), AT)
        plans.cancel_unsent(ledger, cancelled, reason="cancelled", now=AT, superseded=False)
        today = plans.lock_occurrence(ledger, "spring", "2026-06-20", AT)
        found = reports.earlier_audiences(ledger, "spring", today, 7)
        assert [(f["size"], f["spec"]["audience"]["at_most"]) for f in found] == [(5, 5), (3, None)]
        assert len(reports.earlier_audiences(ledger, "spring", today, 1)) == 1
        first = plans.lock_occurrence(ledger, "spring", AT.date().isoformat(), AT)
        assert [f["size"] for f in reports.earlier_audiences(ledger, "spring", first, 7)] == [5]
        assert reports.earlier_audiences(ledger, "never", today, 7) == []
