"""Which products the last messages showed, on each database."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import pytest
from controltower.ledger import persons, plans, work
from controltower.ledger.database import begin, reading
from controltower.ledger.shown import SCHEMA, shown_lately
from controltower.settings import Settings

from ledger.conftest import DUE, NOW, message, write_plan

DAY = timedelta(days=1)


def send(
    settings: Settings, day: int, shown: dict[str, list[str]], *, unsent: Collection[str] = (), channel: str = "email",
    lost: Collection[str] = (),
) -> None:  # fmt: skip
    """A campaign with these products by customer; those unsent are refused, what became of those lost is unknown."""
    due = DUE + day * DAY
    with begin(settings) as ledger:
        subjects = plans.subject_ids(ledger, list(shown), NOW)
    plan = [
        message(0, due, channel)._replace(
            customer_id=c, subject_id=subjects[c],
            choices={"products": [{"product_id": p, "algorithm": "als", "reason": f"why {day}"} for p in ids]},
        )
        for c, ids in shown.items()
    ]  # fmt: skip
    write_plan(settings, plan, campaign=f"campaign-{day}-{channel}", occurrence=str(day), now=NOW + day * DAY)
    with begin(settings) as ledger:
        claimed = work.claim(ledger, due, (channel,))
        assert claimed
        batch, token = claimed
        for state, some in (
            ("sent", set(shown) - set(unsent) - set(lost)), ("rejected", set(unsent)), ("unknown", set(lost)),
        ):  # fmt: skip
            seqs = [m.seq for m in batch.messages if m.customer_id in some]
            if seqs:
                (request,) = work.open_requests(ledger, batch, token, "sendgrid", [(seqs, None)], due)
                work.close_requests(ledger, batch, token, [{"request_id": request, "state": state}], due)
        work.release(ledger, batch, token, due)


def lately(
    settings: Settings, most: int, customers: Collection[str] | None = None, since: datetime = NOW - DAY,
    until: datetime = DUE + 30 * DAY,
) -> dict[str, dict[str, int]]:  # fmt: skip
    with reading(settings) as ledger:
        table = shown_lately(ledger, most, since, until, customers)
    assert table.schema == SCHEMA
    found: dict[str, dict[str, int]] = {}
    for row in table.to_pylist():
        assert row["product_id"] not in found.get(row["customer_id"], {}), "each product once"
        found.setdefault(row["customer_id"], {})[row["product_id"]] = row["ago"]
    return found


def test_products_are_counted_by_messages_of_any_campaign_and_channel(ledger_settings: Settings) -> None:
    assert lately(ledger_settings, 3) == {}
    send(ledger_settings, 0, {"ann": ["a", "b"], "bob": ["a"]})
    send(ledger_settings, 1, {"ann": ["b", "c"]}, channel="push")
    send(ledger_settings, 2, {"ann": [], "bob": ["d", "e"]})
    send(ledger_settings, 3, {"ann": ["d"]})
    assert lately(ledger_settings, 4) == {"ann": {"d": 1, "b": 3, "c": 3, "a": 4}, "bob": {"d": 1, "e": 1, "a": 2}}
    assert lately(ledger_settings, 3) == {"ann": {"d": 1, "b": 3, "c": 3}, "bob": {"d": 1, "e": 1, "a": 2}}
    assert lately(ledger_settings, 1, ["ann", "nobody"]) == {"ann": {"d": 1}}


def test_only_what_left_in_the_time_counts(ledger_settings: Settings) -> None:
    send(ledger_settings, 0, {"ann": ["a"], "bob": ["a"], "cat": ["a"]})
    send(ledger_settings, 1, {"ann": ["b"], "bob": ["b"], "cat": ["b"]}, unsent=["bob"], lost=["cat"])
    write_plan(ledger_settings, [message(7)._replace(customer_id="ann", subject_id=1)], campaign="waits")
    assert lately(ledger_settings, 1) == {"ann": {"b": 1}, "bob": {"a": 1}, "cat": {"b": 1}}  # a lost one may have left
    assert lately(ledger_settings, 2, until=DUE) == {"ann": {"a": 1}, "bob": {"a": 1}, "cat": {"a": 1}}
    assert lately(ledger_settings, 2, since=DUE) == {"ann": {"b": 1}, "cat": {"b": 1}}


def test_a_person_has_seen_what_any_id_of_theirs_was_shown(ledger_settings: Settings) -> None:
    send(ledger_settings, 0, {"ann": ["a"], "bob": ["x"]})
    send(ledger_settings, 1, {"anna": ["b"]})
    send(ledger_settings, 2, {"ann": ["c"]})
    with begin(ledger_settings) as ledger:
        persons.follow(ledger, {"anna": "ann"}, NOW + 3 * DAY)
    both = {"c": 1, "b": 2}
    assert lately(ledger_settings, 2) == {"ann": both, "anna": both, "bob": {"x": 1}}
    assert lately(ledger_settings, 2, ["anna"]) == {"anna": both}


def test_many_are_read_piece_by_piece(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controltower.ledger.shown._PIECE", 2)
    for day in range(2):
        send(ledger_settings, day, {f"c{n}": [f"p{n}", f"q{day}"] for n in range(5)})
    assert lately(ledger_settings, 2) == {f"c{n}": {f"p{n}": 1, "q1": 1, "q0": 2} for n in range(5)}
