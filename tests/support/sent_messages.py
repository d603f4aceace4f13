"""Messages that were planned, sent and answered, written straight into a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from controltower.ledger import events, plans, work
from controltower.ledger.database import begin
from controltower.ledger.decisions import Decision, tabulate
from controltower.ledger.tables import batches, messages
from controltower.settings import Settings


def plan(
    settings: Settings,
    at: datetime,
    arms: Sequence[str],
    *,
    campaign: str = "spring",
    occurrence: str | None = None,
    channel: str = "email",
    at_most: int | None = None,
    hold: str | None = None,
    choices: Sequence[dict[str, Any]] = (),
    held: Sequence[tuple[str, str]] = (),
) -> int:
    """An occurrence (by the day of `at` unless told), due at once: customer c0 gets arms[0], and so on, none where it
    is empty; of the first of them it is said what was chosen. `held`: customers with the holdout they are in. Returns
    the run id."""
    with begin(settings) as ledger:
        subjects = plans.subject_ids(ledger, [*(f"c{n}" for n in range(len(arms))), *(who for who, _ in held)], at)
        return plans.freeze(
            ledger, occurrence_id=plans.lock_occurrence(ledger, campaign, occurrence or at.date().isoformat(), at),
            campaign=campaign, as_of=at, now=at, spec={"name": campaign, "audience": {"at_most": at_most}},
            spec_hash="s", content_hash="t", policy={"holdout": 0.1, "global_holdout": 0.05}, key=b"a home's key",
            policy_version="2", triggered_by=None, expires_in=timedelta(days=1), hold=hold,
            plan=tabulate([
                Decision(f"c{n}", subjects[f"c{n}"], "message", 0.45, arm=arm, share=0.5, channel=channel, due_at=at,
                         choices=choices[n] if n < len(choices) else {})
                for n, arm in enumerate(arms) if arm
            ] + [
                Decision(who, subjects[who], "holdout", 0.095 if arm == "holdout" else 0.05, reason=arm, arm=arm,
                         choices={"channels": [channel], "refused": {}})
                for who, arm in held
            ]),
        )  # fmt: skip


def send(settings: Settings, at: datetime, states: Sequence[str] = (), channel: str = "email") -> None:
    """One request a message of the batches due; c0's ends in states[0], and so on, those beyond the last in `sent`."""
    with begin(settings) as ledger:
        while claimed := work.claim(ledger, at, [channel]):
            batch, token = claimed
            members = [([m.seq], None) for m in batch.unsettled]
            ids = work.open_requests(ledger, batch, token, {"email": "sendgrid", "push": "fcm"}[channel], members, at)
            numbers = [int(m.customer_id[1:]) for m in batch.unsettled]
            ended = [states[n] if n < len(states) else "sent" for n in numbers]
            rows = [{"request_id": i, "state": s, "reason": None} for i, s in zip(ids, ended, strict=True)]
            work.close_requests(ledger, batch, token, rows, at)
            work.release(ledger, batch, token, at)


def message_ids(settings: Settings, run_id: int) -> dict[str, str]:
    """The run's messages by customer."""
    with begin(settings) as ledger:
        mine = sa.select(batches.c.batch_id).where(batches.c.run_id == run_id)
        m = messages.c
        rows = ledger.execute(sa.select(m.customer_id, m.message_id).where(m.batch_id.in_(mine)))
        return dict(rows.tuples().all())


def answer(
    settings: Settings, message_id: str, event: str, at: datetime, *, happened: datetime | None = None,
    machine: bool = False, provider: str = "controltower", detail: dict | None = None,
) -> None:  # fmt: skip
    """An event received at `at`."""
    row = {
        "provider": provider, "provider_event_id": f"{event}:{message_id}:{at.timestamp()}", "message_id": message_id,
        "event": event, "occurred_at": happened or at, "received_at": at, "machine": machine, "detail": detail,
    }  # fmt: skip
    with begin(settings) as ledger:
        events.record(ledger, [row])
