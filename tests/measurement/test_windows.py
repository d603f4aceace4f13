"""When a window begins, when its orders are known to its end, and what keeps a verdict from being given."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from controltower import clock
from controltower.data.lake import Lake
from controltower.errors import BadSource
from controltower.jobs.ingest import ingest_data
from controltower.jobs.measurement import measure_campaigns
from controltower.ledger import holds
from controltower.ledger.database import begin
from controltower.measurement.worth import BEGINNING, known_until
from support import shop_tables
from support.lakes import publish_rows

from .conftest import DAY, HOUR, NOW, Story

TREATED, HELD_OUT = [f"m{n}" for n in range(200)], [f"h{n}" for n in range(100)]
DRAWN = dict.fromkeys(TREATED, "email/a") | dict.fromkeys(HELD_OUT, "holdout")


def every_third_ordered(story: Story, at: datetime) -> None:
    for customer in (*TREATED[::3], *HELD_OUT[::3]):
        story.order(customer, at, ("x", 1, 1_000))


def verdict(story: Story, **which: Any) -> str:
    return str(story.report(**which)["readout"]["verdict"])


def codes(report: dict[str, Any]) -> set[str]:
    return {note["code"] for note in report["notes"]}


# -- up to when orders are known


def day(n: float) -> datetime:
    return NOW + n * DAY


@pytest.mark.parametrize(("loads", "until"), [
    ([(BEGINNING, day(3))], 3),
    ([(BEGINNING, day(1)), (day(1), day(2)), (day(2), day(3))], 3),
    ([(BEGINNING, day(1)), (day(0), day(2)), (day(1.5), day(3))], 3),  # they overlap
    ([(BEGINNING, day(1)), (day(2), day(7))], 1),  # a day is missing
    ([(BEGINNING, day(1)), (day(1), day(1)), (day(2), day(7))], 1),
    ([(BEGINNING, day(-9)), (day(-8), day(3))], 3),  # what was missed before doesn't matter
    ([(BEGINNING, day(-1)), (day(1), day(7))], -1),
    ([(BEGINNING, day(9))], 7),  # as of day 7
    ([(day(1), day(7))], None),
    ([], None),
])  # fmt: skip
def test_orders_are_known_as_far_as_loads_join_up(loads: list[Any], until: float | None) -> None:
    all_of_it = [(BEGINNING, day(30))]
    wanted = None if until is None else day(until)
    assert known_until([loads, all_of_it], NOW, day(7)) == known_until([all_of_it, loads], NOW, day(7)) == wanted


@pytest.fixture
def source(tmp_path: Path) -> Any:
    """A folder whose orders and their lines are written with an order at each of these moments."""
    (tmp_path / "shop").mkdir()

    def write(moments: dict[str, datetime], currency: str = "KRW", known: float = 2) -> str:
        orders = [f"o{c},{c},{at.isoformat()},{currency}" for c, at in moments.items()]
        lines = [f"o{c},1,p1,1,100" for c in moments]
        for table, header, rows in (
            ("orders", "order_id,customer_id,ordered_at,currency", orders),
            ("order_lines", "order_id,line_no,product_id,quantity,unit_price", lines),
            ("products", "product_id,title,price,currency", ["p1,Lamp,100,KRW"]),
        ):
            file = tmp_path / "shop" / f"{table}.csv"
            file.write_text("\n".join([header, *rows]) + "\n")
            os.utime(file, (day(known).timestamp(),) * 2)
        return str(tmp_path / "shop")

    return write


def test_a_refused_load_tells_nothing_of_orders(story: Story, source: Any) -> None:
    """The held out ordered early, the treated late: what was loaded before the refused load looks like an effect."""
    story.plan(DRAWN)
    story.send()
    early = dict.fromkeys(HELD_OUT[::3], day(1))
    late = dict.fromkeys(TREATED[::3], day(6))
    ingest_data(source(early), end=day(3).isoformat())
    with pytest.raises(BadSource, match="rule 'currency'"):
        ingest_data(source(early | late, "KRWX", known=7), day(3).isoformat(), (day(7) + HOUR).isoformat())
    assert verdict(story) == "window open"
    assert measure_campaigns(day(8).isoformat())["verdicts"] == {}
    ingest_data(source(early | late, known=7), day(3).isoformat(), (day(7) + HOUR).isoformat())
    assert measure_campaigns(day(8).isoformat())["verdicts"] == {"no effect shown": 1}
    assert verdict(story) == "no effect shown"


def test_a_load_ends_when_it_is_made(story: Story, source: Any) -> None:
    story.plan(DRAWN)
    story.send()
    clock.set_clock(story.settings, day(3), speed=0)
    report = ingest_data(source({"m0": day(1)}), end="2027-01-01")
    assert report["interval"] == "../2026-06-18T00:00:00Z"
    assert Lake(story.settings).intervals("orders") == [report["interval"]]
    assert story.report()["readout"]["window"]["days_so_far"] == 3
    ingest_data(source({"m0": day(1)}), "2027-01-01", "2027-02-01")  # all of it is still to come
    assert story.report()["readout"]["window"]["days_so_far"] == 3


def test_a_missing_day_keeps_the_window_open_until_it_is_loaded(story: Story) -> None:
    story.plan(DRAWN)
    story.send()
    every_third_ordered(story, day(1))
    story.orders_are_loaded(f"../{day(2).isoformat()}")
    story.orders_are_loaded(f"{day(3).isoformat()}/{day(9).isoformat()}")
    found = story.report()
    assert (found["readout"]["verdict"], found["readout"]["window"]["days_so_far"]) == ("window open", 2)
    story.orders_are_loaded(f"{day(2).isoformat()}/{day(3).isoformat()}")
    assert verdict(story) == "no effect shown"


def test_without_orders_or_their_lines_nothing_is_known(story: Story) -> None:
    story.plan(DRAWN)
    story.send()
    publish_rows(Lake(story.settings), "orders", f"../{day(9).isoformat()}", shop_tables.table("orders", []))
    found = story.report()
    assert found["readout"]["verdict"] == "window open" and found["readout"]["window"]["known_until"] is None
    assert "orders_not_loaded" in codes(found)


# -- versions of an occasion


def test_an_edit_after_sending_leaves_the_comparison_as_it_was(story: Story) -> None:
    story.plan(DRAWN)
    story.send()
    story.plan(dict.fromkeys(TREATED, "in_earlier_version") | dict.fromkeys(HELD_OUT, "holdout"), now=NOW + 3 * HOUR)
    for customer in (*TREATED[:100], *HELD_OUT[:10]):
        story.order(customer, NOW + 5 * HOUR, ("x", 1, 1_000))
    story.orders_are_loaded()
    assert measure_campaigns(day(8).isoformat())["verdicts"] == {"effect": 1}
    found = story.report()
    assert (found["version"], found["sent"], found["readout"]["verdict"]) == (2, 0, "effect")


# -- held-out customers who get a message all the same


def test_a_version_without_a_holdout_spoils_the_comparison(story: Story) -> None:
    first = story.plan(DRAWN)
    story.send()
    again = dict.fromkeys(TREATED, "in_earlier_version") | dict.fromkeys(HELD_OUT, "email/a")
    story.plan(again, now=NOW + 3 * HOUR, holdout=0.0)
    every_third_ordered(story, NOW + 5 * HOUR)
    story.orders_are_loaded()
    assert verdict(story) == "no effect shown"  # nothing of it has left yet
    story.send(NOW + 4 * HOUR)
    for which in ({}, {"run_id": first}):
        found = story.report(**which)
        assert (found["readout"]["verdict"], found["readout"]["written_to"]) == ("contaminated", 100)
        assert "held_out_and_written_to" in codes(found)
    assert verdict(story, as_of=NOW + 3 * HOUR) == "window open"
    assert measure_campaigns(day(8).isoformat())["verdicts"] == {"contaminated": 1}


@pytest.mark.parametrize(("written_to", "after", "campaign", "word"), [
    (100, 1, "spring", "contaminated"),
    (2, 1, "spring", "contaminated"),
    (1, 1, "spring", "no effect shown"),  # of 100: too few to matter
    (100, 7, "spring", "no effect shown"),  # the window is over
    (100, 1, "summer", "no effect shown"),  # another campaign writes to both groups
])  # fmt: skip
def test_a_later_run_that_writes_to_the_held_out(
    story: Story, written_to: int, after: int, campaign: str, word: str
) -> None:
    first = story.plan(DRAWN)
    story.send()
    again = dict.fromkeys(TREATED, "frequency_cap") | dict.fromkeys(HELD_OUT[:written_to], "email/a")
    story.plan(again, campaign=campaign, occurrence="later", now=day(after), holdout=0.0)
    story.send(day(after) + HOUR)
    every_third_ordered(story, day(2))
    story.orders_are_loaded()
    found = story.report(run_id=first)
    inside = written_to if (after, campaign) == (1, "spring") else 0
    assert (found["readout"]["verdict"], found["readout"]["written_to"]) == (word, inside)
    assert ("held_out_and_written_to" in codes(found)) == bool(inside)


# -- a run that was held back


def decide(story: Story, run_id: int, what: holds.Intervention, at: datetime) -> None:
    with begin(story.settings) as ledger:
        holds.record(ledger, run_id, None, what, "ann", at)
        if what == "approved":
            holds.set_hold(ledger, run_id, None)
        else:
            (holds.resume if what == "resumed" else holds.pause)(ledger, run_id)


@pytest.mark.parametrize("decision", ["approved", "resumed"])
def test_the_window_of_a_run_that_was_held_back_begins_when_it_was_let_go(story: Story, decision: Any) -> None:
    run_id = story.plan({"m1": "email/a", "m2": "email/a", "h1": "holdout", "h2": "holdout"})
    story.held(run_id, "approval" if decision == "approved" else "pause")
    decide(story, run_id, decision, NOW + 12 * HOUR)
    story.send(NOW + 13 * HOUR)
    decide(story, run_id, "paused", day(2))
    decide(story, run_id, "resumed", day(3))  # something had left by then
    for customer, at in (("m1", NOW + 11 * HOUR), ("h1", NOW + 11 * HOUR), ("m2", day(7)), ("h2", day(7))):
        story.order(customer, at, ("x", 1, 1_000))  # the first two before it was let go
    story.orders_are_loaded()
    found = story.report()["readout"]
    assert datetime.fromisoformat(found["window"]["from"]) == NOW + 12 * HOUR
    assert (found["treated"]["ordered"], found["holdout"]["ordered"]) == (1, 1)
    before = story.report(as_of=NOW + 6 * HOUR)["readout"]
    assert datetime.fromisoformat(before["window"]["from"]) == NOW


def test_no_verdict_on_a_run_that_still_waits(story: Story) -> None:
    run_id = story.plan(DRAWN, attribution_days=1)
    story.held(run_id, "approval")
    story.orders_are_loaded()
    assert measure_campaigns(day(2).isoformat())["verdicts"] == {}
    decide(story, run_id, "approved", day(2) + HOUR)
    assert measure_campaigns((day(2) + 2 * HOUR).isoformat())["verdicts"] == {}
    assert measure_campaigns((day(3) + HOUR).isoformat())["verdicts"] == {"nothing left": 1}
