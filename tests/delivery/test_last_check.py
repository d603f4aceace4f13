"""The last check asks only for what can be there, and picks are read ahead: it must miss nothing by that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from controltower.delivery import people
from controltower.ledger import consents, suppressions, tables
from controltower.ledger.database import begin
from support import small_shop

from .conftest import CUSTOMERS, NOW, Desk

N = len(CUSTOMERS)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("channel", "kind", "of", "reason"),
    [
        ("email", "customer", "c0", "suppressed"),
        ("email", "address", "c0@customers.example", "suppressed"),
        ("push", "customer", "c0", "suppressed"),
        ("push", "device", "d-c0", "no_device"),
        ("push", "address", "token-c0", "no_device"),
    ],
)
def test_a_suppression_that_is_the_only_one_is_heeded(
    desk: Desk, channel: str, kind: str, of: str, reason: str
) -> None:
    desk.plan(channel)
    value = suppressions.address_hash(desk.settings.signing_key(), of) if kind == "address" else of
    with begin(desk.settings) as ledger:
        suppressions.add(ledger, kind, value, reason="bounced", source="test", now=NOW)
    assert desk.dispatch().refused == {reason: 1}
    assert desk.totals().accepted == {"sendgrid" if channel == "email" else "fcm": N - 1}


def test_an_address_suppression_does_not_hold_for_push(desk: Desk) -> None:
    desk.plan("push")
    dead = suppressions.address_hash(desk.settings.signing_key(), "c0@customers.example")
    with begin(desk.settings) as ledger:
        suppressions.add(ledger, "address", dead, reason="bounced", source="test", now=NOW)
    assert desk.dispatch().requests == {"sent": N}


def test_two_customers_of_one_suppressed_address_are_both_refused(desk: Desk) -> None:
    desk.customers = ["c0", "C0", "c1"]
    small_shop.write_shop(desk.settings, desk.customers, NOW)
    desk.plan()
    dead = suppressions.address_hash(desk.settings.signing_key(), "c0@customers.example")
    with begin(desk.settings) as ledger:
        suppressions.add(ledger, "address", dead, reason="bounced", source="test", now=NOW)
    assert desk.dispatch().refused == {"suppressed": 2}


def test_a_cap_that_others_filled_since_the_plan_holds(desk: Desk) -> None:
    """Two other campaigns leave after the plan, the second of them within the dispatch: its messages count at once."""
    desk.plan(due_at=NOW + 2 * DAY)
    for day in range(2):
        desk.plan(due_at=NOW + day * DAY)
    desk.dispatch(NOW)
    assert desk.dispatch(NOW + 2 * DAY).refused == {"frequency_cap": N}
    assert desk.caught()["mails"] == 2 * N


def test_what_was_withdrawn_in_a_transaction_that_began_before_the_plan_holds(desk: Desk) -> None:
    if desk.settings.ledger_url.startswith("sqlite"):
        pytest.skip("one writer at a time: the plan waits for it")
    withdrawn = {"customer_id": "c0", "channel": "email", "purpose": "marketing", "recorded_at": NOW - DAY,
                 "granted": False, "source": "page"}  # fmt: skip
    with begin(desk.settings) as slow:
        consents.record(slow, [withdrawn])
        suppressions.add(slow, "customer", "c1", reason="objected", source="desk", now=NOW - DAY)
        desk.plan()
    assert desk.dispatch().refused == {"no_consent": 1, "suppressed": 1}


def test_what_is_withdrawn_after_the_look_up_holds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.plan()
    real, withdrawn = people.People.fetch, []

    def fetch(self: people.People, batch: Any) -> Any:
        found = real(self, batch)
        if not withdrawn:
            withdrawn.append(batch)
            rows = [{"customer_id": c, "channel": "email", "purpose": "marketing", "recorded_at": NOW, "granted": False,
                     "source": "page"} for c in CUSTOMERS]  # fmt: skip
            with begin(desk.settings) as ledger:
                consents.record(ledger, rows)
        return found

    monkeypatch.setattr(people.People, "fetch", fetch)
    assert desk.dispatch().refused == {"no_consent": N}


def test_each_runs_own_picks_are_shown_also_where_they_are_read_ahead(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, messages: Callable[[str], list[dict[str, Any]]]
) -> None:
    """Runs for the same customers, one after the other planned, so that they are looked up together."""
    desk.customers = ["c0", "c1"]
    shown = {}
    for day, product in enumerate(("p0", "p1")):
        monkeypatch.setattr(small_shop, "PICKS", [{**small_shop.PICKS[0], "product_id": product}])
        shown[desk.plan(due_at=NOW + day * timedelta(days=1))] = product
    reads = []
    real = people.plans.picks

    def picks(*args: Any) -> dict[str, Any]:
        reads.append(args[1])
        return real(*args)

    monkeypatch.setattr(people.plans, "picks", picks)
    desk.dispatch(NOW + DAY)
    assert sorted(reads) == sorted(shown)  # once a run
    m, b = tables.messages.c, tables.batches.c
    with begin(desk.settings) as ledger:
        sent = ledger.execute(sa.select(m.message_id, b.run_id).join(tables.batches, b.batch_id == m.batch_id)).all()
    assert len(sent) == 4
    for message_id, run_id in sent:
        (mail,) = messages(message_id)
        other = "상품 1" if shown[run_id] == "p0" else "상품 0"
        assert f"상품 {shown[run_id][1]}" in str(mail["content"]) and other not in str(mail["content"])


def test_messages_far_apart_in_one_batch_find_their_picks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of deferred ones may reach further than is looked ahead."""
    monkeypatch.setattr(people, "_AHEAD", 2)
    desk.plan()
    m, b = tables.messages.c, tables.batches.c
    with begin(desk.settings) as ledger:
        first = ledger.execute(sa.select(sa.func.min(m.seq))).scalar_one()
        whole = ledger.execute(sa.select(tables.batches)).one()._asdict()
        apart = ledger.execute(
            sa.insert(tables.batches).values({**whole, "batch_id": whole["batch_id"] + 1}).returning(b.batch_id)
        ).scalar_one()
        ledger.execute(sa.update(tables.messages).where(m.seq.in_([first, first + N - 1])).values(batch_id=apart))
    assert desk.dispatch().batches == 2
    assert desk.totals().accepted == {"sendgrid": N}
