"""What came back for our messages, with what probability they were sent, and whom they were kept from by lot: ids only,
for those who learn from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger.database import among
from controltower.ledger.tables import (
    batches,
    campaign_runs,
    choices,
    decisions,
    delivery_events,
    messages,
    occurrences,
    requests,
)

_RUNS_AT_ONCE = 500  # a query


@dataclass(frozen=True, slots=True)
class Answer:
    """A delivery event of a message that is ours."""

    provider: str
    provider_event_id: str
    message_id: str
    customer_id: str
    event: str
    occurred_at: datetime
    received_at: datetime
    detail: Any  # a small JSON object, or None
    machine: bool


@dataclass(frozen=True, slots=True)
class Withheld:
    """Who was held out of a run, and what they would have got."""

    run_id: int
    campaign: str
    occurrence: str
    customer_id: str
    subject_id: int
    channel: str
    probability: float  # of being held out, by either holdout
    due_at: datetime  # when the occurrence's first message was, of the versions of which some were tried


def withheld(connection: sa.Connection, run_ids: Collection[int]) -> Iterator[Withheld]:
    """Whom these runs held out, the older runs first. Who is held out of all campaigns is among them."""
    for run_id in sorted(run_ids):
        r, o, d = campaign_runs.c, occurrences.c, decisions.c
        about = sa.select(o.occurrence_id, o.campaign, o.occurrence, r.policy).join(
            occurrences, o.occurrence_id == r.occurrence_id
        ).where(r.run_id == run_id)  # fmt: skip
        occurrence_id, campaign, occurrence, policy = connection.execute(about).one()
        tried = _tried(occurrence_id)
        due = sa.select(sa.func.min(d.due_at)).where(d.run_id.in_(tried), d.outcome == "message")
        first = connection.execute(due).scalar_one()  # a batch's own may be put off
        everywhere, own = policy.get("global_holdout", 0.0), policy.get("holdout", 0.0)
        probability = everywhere + (1 - everywhere) * own
        held = sa.select(d.customer_id, d.subject_id, d.choices).where(d.run_id == run_id, d.outcome == "holdout")
        rows = connection.execute(held.order_by(d.customer_id)).all()
        c = choices.c
        numbered = among(connection, c.number, {row.choices[0] for row in rows})
        wanted = sa.select(c.number, c.choice).where(c.run_id == run_id, numbered)
        chosen = dict(connection.execute(wanted).tuples().all())
        for customer_id, subject_id, numbers in rows:
            channel = chosen[numbers[0]]["channels"][0]
            yield Withheld(run_id, campaign, occurrence, customer_id, subject_id, channel, probability, first)


def hold_out(connection: sa.Connection) -> bool:
    """Whether any run drew a holdout, by its policy."""
    policies = connection.execute(sa.select(campaign_runs.c.policy)).scalars()
    return any(policy.get("holdout") or policy.get("global_holdout") for policy in policies)


def _tried(occurrence_id: int) -> sa.Select[Any]:
    """The runs of an occurrence that called a provider."""
    r, b = campaign_runs.c, batches.c
    called = sa.exists().where(requests.c.batch_id == b.batch_id)
    return sa.select(b.run_id).join(campaign_runs, r.run_id == b.run_id).where(r.occurrence_id == occurrence_id, called)


def answers(connection: sa.Connection, since: datetime | None) -> Iterator[Answer]:
    """The delivery events received from `since` on (None: all), oldest first; those of unknown messages left out."""
    e = delivery_events.c
    columns = (
        e.provider, e.provider_event_id, e.message_id, messages.c.customer_id, e.event, e.occurred_at, e.received_at,
        e.detail, e.machine,
    )  # fmt: skip
    rows = sa.select(*columns).join(messages, messages.c.message_id == e.message_id)
    if since is not None:
        rows = rows.where(e.received_at >= since)
    for row in connection.execute(rows.order_by(e.received_at, e.event_id)):
        yield Answer(*row)


def probabilities(connection: sa.Connection, run_ids: Collection[int]) -> dict[tuple[int, str], float]:
    """With what probability the messages of these runs were decided, by run and customer."""
    d = decisions.c
    wanted, found = sorted(run_ids), {}
    for start in range(0, len(wanted), _RUNS_AT_ONCE):
        chunk = wanted[start : start + _RUNS_AT_ONCE]
        rows = sa.select(d.run_id, d.customer_id, d.probability).where(d.run_id.in_(chunk), d.outcome == "message")
        found.update({(run_id, customer): p for run_id, customer, p in connection.execute(rows)})
    return found
