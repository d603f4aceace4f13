"""Frozen plans: an occurrence's versions, their decisions and their messages."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from controltower.ledger import holds, work
from controltower.ledger.database import epoch
from controltower.ledger.insert import insert_new
from controltower.ledger.tables import (
    arms,
    batches,
    campaign_runs,
    decisions,
    messages,
    occurrences,
    requests,
    subjects,
)

BATCH_SIZE = 1000
_NUMBERING_LOCK = 0x736571


@dataclass(frozen=True)
class Decision:
    """What a run does about one member of its audience."""

    customer_id: str
    subject_id: int
    outcome: str  # message | holdout | not_sent
    probability: float
    reason: str | None = None
    arm: str | None = None
    share: float | None = None  # of the arm among the treated, when it was drawn
    channel: str | None = None
    due_at: datetime | None = None
    algorithm: str | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)


def kept_subjects(connection: sa.Connection, customers: Sequence[str]) -> dict[str, int]:
    """The subjects of those customers who have been seen before."""
    found: dict[str, int] = {}
    for start in range(0, len(customers), 1000):
        chunk = customers[start : start + 1000]
        rows = connection.execute(
            sa.select(subjects.c.customer_id, subjects.c.subject_id).where(subjects.c.customer_id.in_(chunk))
        )
        found.update(rows.tuples().all())
    return found


def new_subject(customer: str) -> int:
    """The subject of a customer at first sight: made from the id, so that a rebuilt ledger has the same."""
    return int.from_bytes(hashlib.blake2b(customer.encode(), digest_size=8).digest()) >> 1


def subject_ids(connection: sa.Connection, customers: Sequence[str], now: datetime) -> dict[str, int]:
    """Each customer's subject, kept from the first sight on."""
    kept = kept_subjects(connection, customers)
    fresh = {c: new_subject(c) for c in customers if c not in kept}
    insert_new(connection, subjects, [{"customer_id": c, "subject_id": s, "created_at": now} for c, s in fresh.items()])
    return kept | fresh


def stored_arms(connection: sa.Connection, campaign: str, as_of: datetime) -> dict[int, tuple[str, float]]:
    """The variant that each subject of a campaign was first assigned to, and its share of the treated then."""
    a = arms.c
    rows = connection.execute(
        sa.select(a.subject_id, a.arm, a.share).where(a.campaign == campaign, a.assigned_at <= as_of)
    )
    return {subject: (arm, share) for subject, arm, share in rows}


def messaged(connection: sa.Connection, occurrence_id: int) -> set[int]:
    """The subjects with a live message in an occurrence."""
    live = sa.select(messages.c.subject_id).where(messages.c.occurrence_id == occurrence_id, ~messages.c.superseded)
    return set(connection.execute(live).scalars())


def picks(connection: sa.Connection, run_id: int, customers: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The products that a run chose for the customers given."""
    rows = connection.execute(
        sa.select(decisions.c.customer_id, decisions.c.choices).where(
            decisions.c.run_id == run_id, decisions.c.customer_id.in_(customers)
        )
    )
    return {customer: choices["products"] for customer, choices in rows}


def plan_hash(content_hash: str, spec_hash: str, plan: Iterable[Decision]) -> str:
    """What an approval is bound to: SHA-256 of words, spec, and who gets which variant on which channel when."""
    audience = sorted(
        [d.customer_id, d.arm, d.channel, d.due_at and d.due_at.astimezone(UTC).isoformat()]
        for d in plan
        if d.outcome == "message"
    )
    return hashlib.sha256(json.dumps([content_hash, spec_hash, audience]).encode()).hexdigest()


def decided(connection: sa.Connection, run_id: int, customers: Sequence[str] | None = None) -> Iterator[Decision]:
    """The messages that a run decided on, by customer; all of them, or those to the customers given."""
    d = decisions.c
    names = [f.name for f in fields(Decision) if f.name in d]
    rows = sa.select(*(d[n] for n in names)).where(d.run_id == run_id, d.outcome == "message").order_by(d.customer_id)
    if customers is not None:
        rows = rows.where(d.customer_id.in_(customers))
    for row in connection.execution_options(yield_per=5000).execute(rows):
        yield Decision(**row._mapping)


def varied(connection: sa.Connection, run_id: int, most: int) -> list[Decision]:
    """A few of a run's messages: one of each variant on each channel, then others, by customer id."""
    d = decisions.c
    messages_of_run = (d.run_id == run_id, d.outcome == "message")
    each = sa.select(sa.func.min(d.customer_id)).where(*messages_of_run).group_by(d.arm, d.channel)
    others = sa.select(d.customer_id).where(*messages_of_run).order_by(d.customer_id).limit(most)
    found = sorted(connection.execute(each).scalars()) + list(connection.execute(others).scalars())
    return list(decided(connection, run_id, list(dict.fromkeys(found))[:most]))


def lock_occurrence(connection: sa.Connection, campaign: str, occurrence: str, now: datetime) -> int:
    """The occurrence's id, made if new; no other transaction plans it until this one ends."""
    insert_new(connection, occurrences, [{"campaign": campaign, "occurrence": occurrence, "created_at": now}])
    return int(
        connection.execute(
            sa.select(occurrences.c.occurrence_id)
            .where(occurrences.c.campaign == campaign, occurrences.c.occurrence == occurrence)
            .with_for_update()
        ).scalar_one()
    )


def freeze(
    connection: sa.Connection,
    *,
    occurrence_id: int,
    campaign: str,
    as_of: datetime,
    now: datetime,
    spec: Mapping[str, Any],
    spec_hash: str,
    content_hash: str,
    policy: Mapping[str, Any],
    policy_version: str,
    triggered_by: str | None,
    expires_in: timedelta,
    plan: Sequence[Decision],
    asked_by: str | None = None,
    hold: str | None = None,
) -> int:
    """Write a new version with its decisions, arms, messages and batches. Returns its run id.

    A message that is not sent within `expires_in` of its due time will be dropped. With a `hold`, nothing of it leaves.
    """
    last = sa.select(sa.func.coalesce(sa.func.max(campaign_runs.c.version), 0))
    version = connection.execute(last.where(campaign_runs.c.occurrence_id == occurrence_id)).scalar_one() + 1
    run_id = connection.execute(
        sa.insert(campaign_runs)
        .values(
            occurrence_id=occurrence_id, version=version, state="planned", as_of=as_of, planned_at=now,
            spec=dict(spec), spec_hash=spec_hash, content_hash=content_hash, policy=dict(policy),
            policy_version=policy_version, triggered_by=triggered_by, asked_by=asked_by, hold=hold,
            plan_hash=plan_hash(content_hash, spec_hash, plan),
        )
        .returning(campaign_runs.c.run_id)
    ).scalar_one()  # fmt: skip
    rows = [
        {
            "run_id": run_id, "subject_id": d.subject_id, "customer_id": d.customer_id, "outcome": d.outcome,
            "reason": d.reason, "arm": d.arm, "probability": d.probability, "channel": d.channel,
            "due_at": d.due_at, "algorithm": d.algorithm, "choices": dict(d.choices),
        }
        for d in plan
    ]  # fmt: skip
    if rows:
        connection.execute(sa.insert(decisions), rows)
    insert_new(
        connection,
        arms,
        [
            {"campaign": campaign, "subject_id": d.subject_id, "arm": d.arm, "share": d.share, "assigned_at": now}
            for d in plan
            if d.outcome == "message"
        ],
    )
    _write_messages(connection, run_id, occurrence_id, [d for d in plan if d.outcome == "message"], expires_in)
    return int(run_id)


def _write_messages(
    connection: sa.Connection, run_id: int, occurrence_id: int, plan: Iterable[Decision], expires_in: timedelta
) -> None:
    def slot(d: Decision) -> tuple[datetime, str]:
        assert d.due_at is not None and d.channel is not None
        return d.due_at, d.channel

    if connection.dialect.name == "postgresql":  # two plans at once take their numbers one after the other
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_NUMBERING_LOCK)))
    seq = connection.execute(sa.select(sa.func.coalesce(sa.func.max(messages.c.seq), 0))).scalar_one()
    for (due_at, channel), group in groupby(sorted(plan, key=lambda d: (*slot(d), d.customer_id)), key=slot):
        members_of_slot = list(group)
        for start in range(0, len(members_of_slot), BATCH_SIZE):
            chunk = members_of_slot[start : start + BATCH_SIZE]
            batch_id = connection.execute(
                sa.insert(batches)
                .values(
                    run_id=run_id,
                    channel=channel,
                    due_at=due_at,
                    expires_at=due_at + expires_in,
                    first_seq=seq + 1,
                    size=len(chunk),
                    state="pending",
                )
                .returning(batches.c.batch_id)
            ).scalar_one()
            connection.execute(
                sa.insert(messages),
                [
                    {
                        "seq": seq + 1 + n, "message_id": uuid.uuid4().hex, "occurrence_id": occurrence_id,
                        "run_id": run_id, "batch_id": batch_id, "subject_id": d.subject_id,
                        "customer_id": d.customer_id, "step": 1, "channel": channel, "variant": d.arm,
                    }
                    for n, d in enumerate(chunk)
                ],
            )  # fmt: skip
            seq += len(chunk)


def dispatched(connection: sa.Connection, occurrence_id: int) -> bool:
    """Whether a request was ever opened for any version of an occurrence."""
    of_occurrence = sa.select(messages.c.batch_id).where(messages.c.occurrence_id == occurrence_id)
    return connection.execute(sa.select(sa.exists().where(requests.c.batch_id.in_(of_occurrence)))).scalar_one()


def cancel_unsent(
    connection: sa.Connection,
    occurrence_id: int,
    *,
    reason: str,
    now: datetime,
    superseded: bool,
    freed: bool = False,
) -> int:
    """Cancel each message of an occurrence, in all its versions, that isn't sent and for which no call is under way.

    A version that is `superseded`, or cancelled and `freed`, leaves their customers to the next one. Returns how many
    messages were cancelled. A worker that holds a batch of it begins no further call, and gives the batch back.
    """
    b = batches.c
    holds.lock(connection, occurrence_id)
    connection.execute(
        sa.update(campaign_runs)
        .where(campaign_runs.c.occurrence_id == occurrence_id, campaign_runs.c.state == "planned")
        .values(state="superseded" if superseded else "cancelled")
    )
    runs = sa.select(campaign_runs.c.run_id).where(campaign_runs.c.occurrence_id == occurrence_id)
    pending = (
        sa.select(b.batch_id, sa.func.coalesce(b.lease_until > epoch(connection), sa.false()).label("held"))
        .where(b.run_id.in_(runs), b.state == "pending")
        .order_by(b.batch_id)
        .with_for_update()
    )
    cancelled = 0
    for batch_id, held in connection.execute(pending).tuples().all():
        if not held:
            work.recover(connection, batch_id, now)
        batch = work.read(connection, batch_id)
        unsent = batch.unsent
        for seq in unsent:
            work.write_outcome(connection, seq, "cancelled", reason, now)
        if superseded or freed:
            connection.execute(sa.update(messages).where(messages.c.seq.in_(unsent)).values(superseded=True))
        cancelled += len(unsent)
        if not held:
            state = {"state": "done", "done_at": now} if batch.touched else {"state": "cancelled"}
            connection.execute(
                sa.update(batches).where(b.batch_id == batch_id).values(lease_token=None, lease_until=None, **state)
            )
    return cancelled
