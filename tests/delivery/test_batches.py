"""Mails that share a request: the same mails to the customers, and a fault of the request is never a batch's end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from controltower.data.lake import Lake
from controltower.delivery.providers.sendgrid import SendGrid
from controltower.ledger import tables
from controltower.ledger.database import begin
from support.lakes import publish_rows
from support.small_shop import rows

from .conftest import CUSTOMERS, NOW, Desk

N = len(CUSTOMERS)
Messages = Callable[[str], list[dict[str, Any]]]


def ids(desk: Desk) -> dict[str, str]:
    m = tables.messages.c
    with begin(desk.settings) as ledger:
        return dict(ledger.execute(sa.select(m.customer_id, m.message_id)).tuples().all())


def rename(desk: Desk, names: dict[str, str], **more: str) -> None:
    """Newer versions of customers."""
    known = NOW - timedelta(days=1)
    publish_rows(Lake(desk.settings), "customers", "later",
        rows("customers", *({"customer_id": c, "updated_at": known, "email": more.get(c, f"{c}@customers.example"),
                             "country": "KR", "locale": "ko-KR", "timezone": "Asia/Seoul", "first_name": name}
                            for c, name in names.items())),
    )  # fmt: skip


def test_one_request_carries_all_and_each_customer_gets_the_mail_made_whole(
    batching_desk: Desk, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = batching_desk
    rename(desk, {"c0": "{{ customer }} -x1- %name%", "c1": "\u202eمحمد 👩‍👩‍👧", "c2": "a" * 300, "c3": "<b>&amp;"})
    desk.plan()
    report = desk.dispatch()
    assert (report.requests, report.refused, report.trouble) == ({"sent": 1}, {}, {})
    assert desk.totals().accepted == {"sendgrid": N}
    of = ids(desk)
    together = {c: messages(of[c])[0]["content"] for c in CUSTOMERS}
    desk.sandbox.http.delete("/api/messages")
    monkeypatch.setattr(SendGrid, "splits", False)
    with begin(desk.settings) as ledger:  # as if nothing had left
        ledger.execute(sa.delete(tables.requests))
        ledger.execute(sa.update(tables.batches).values(state="pending", done_at=None))
    assert desk.dispatch().requests == {"sent": N}
    for customer in CUSTOMERS:
        (whole,) = messages(of[customer])
        assert whole["content"] | {"others": N - 1} == together[customer], customer  # who else is in the request


def test_one_bad_address_takes_nobody_with_it(batching_desk: Desk) -> None:
    """What we can tell is refused alone; what only the provider can tell is found by halves."""
    desk = batching_desk
    rename(desk, {"c4": "민지", "c5": "민지"}, c4="two@@customers.example", c5="x" * 65 + "@customers.example")
    desk.plan()
    report = desk.dispatch()
    assert report.trouble == {}
    totals = desk.totals()
    assert totals.accepted == {"sendgrid": N - 2}
    assert sum(totals.rejected.values()) == 2
    assert desk.caught()["duplicates"] == 0


@pytest.mark.parametrize("kind", ["429", "503", "reset"])
def test_a_request_that_was_not_taken_is_made_again(batching_desk: Desk, kind: str) -> None:
    desk = batching_desk
    desk.plan()
    desk.fault(kind, seconds=0)
    desk.dispatch()
    desk.retry_now()
    desk.dispatch()
    totals, caught = desk.totals(), desk.caught()
    assert caught["duplicates"] == 0
    if kind == "reset":  # nothing tells whether it was taken
        assert (totals.unknown, caught["mails"]) == (N, 0)
    else:
        assert (totals.accepted, caught["mails"]) == ({"sendgrid": N}, N)


def test_an_unsplittable_template_goes_out_one_by_one(batching_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from controltower.content import splitting

    monkeypatch.setattr(splitting, "LAYOUTS", 0)
    desk = batching_desk
    desk.plan()
    assert desk.dispatch().requests == {"sent": N}
