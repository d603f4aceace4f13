"""Settling what is unknown: messages whose answer from the provider was lost."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from controltower import clock, settings

if TYPE_CHECKING:
    from datetime import datetime

    import sqlalchemy as sa

    from controltower.delivery.unknowns import Policy

log = logging.getLogger(__name__)

_AT_ONCE = 500  # messages a transaction


def reconcile() -> dict[str, Any]:
    """Accept what an event shows to have left; let the rest wait, and once its grace is over end it or send it again.

    Twice or two at once change nothing more. An event counts when it was read, so grace is counted up to the oldest
    that waits to be read. Returns counts: accepted, reopened, given_up (unknown for good), waiting; and as_of.
    """
    from controltower.delivery.unknowns import Policy
    from controltower.ledger import runs, unknowns, webhooks
    from controltower.ledger.database import begin, reading

    conf = settings.load()
    now = clock.now(conf)
    with reading(conf) as ledger:
        heard = webhooks.heard_until(ledger, now)
        specs = {run_id: runs.known(ledger, run_id).spec for run_id in unknowns.runs(ledger)}
    counts: Counter[str] = Counter()
    for run_id, spec in specs.items():
        policy = Policy.of(spec, settings.load_shop(conf))
        after: int | None = 0
        while after is not None:
            with begin(conf) as ledger:
                after = judge(ledger, run_id, policy, counts, heard=heard, now=now, after=after)
    log.info("unknown messages: %s", dict(counts) or "none")
    return {name: counts[name] for name in ("accepted", "reopened", "given_up", "waiting")} | {"as_of": now.isoformat()}


def judge(
    ledger: sa.Connection,
    run_id: int,
    policy: Policy,
    counts: Counter[str],
    *,
    heard: datetime,
    now: datetime,
    after: int = 0,
) -> int | None:
    """Settle some messages of a run, in the order in which they became unknown, and count them.

    Returns after which outcome to go on; None: that was all. Nobody stops or replaces the run meanwhile.
    """
    from controltower.ledger import holds, unknowns

    state, _ = holds.standing(ledger, run_id)
    lost = unknowns.lost(ledger, run_id, after, _AT_ONCE)
    settled = unknowns.settle(ledger, [one.message_id for one in lost])
    counts["accepted"] += len(settled)
    late: list[int] = []
    again: dict[int, list[int]] = {}
    for one in lost:
        if one.message_id in settled:
            continue
        verdict = policy.verdict(one, planned=state == "planned", heard=heard, now=now)
        if verdict == "wait":
            counts["waiting"] += 1
        elif verdict == "give_up":
            late.append(one.seq)
        else:
            again.setdefault(one.batch_id, []).append(one.seq)
    unknowns.give_up(ledger, late, now)
    for batch_id, seqs in again.items():
        unknowns.reopen(ledger, batch_id, seqs, now)
    counts["given_up"] += len(late)
    counts["reopened"] += sum(map(len, again.values()))
    return lost[-1].outcome_id if len(lost) == _AT_ONCE else None
