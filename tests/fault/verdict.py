"""Comparing the sandbox's own record with the ledger, when a schedule is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlalchemy as sa
from controltower.ledger import reports, unknowns
from controltower.ledger.database import reading
from controltower.ledger.members import unpack
from controltower.ledger.states import message_states
from controltower.ledger.tables import batches, decisions, outcomes, requests

from fault import shop
from fault.run import Play

# How a request's answer came to be unknown, and which of the sandbox's faults do that.
_LOST_BY = {"http_500": ("500", "late_500"), "no_answer": ("drop", "reset", "hang")}


@dataclass
class Verdict:
    """What came of a schedule; `wrong` is empty where all holds."""

    seed: int
    database: str
    schedule: str
    met: list[str]
    places: list[str]
    wrong: list[str]
    messages: int = 0
    twice: int = 0  # messages that came more often than their campaign allows
    unknown: int = 0
    resent: int = 0  # at_least_once: messages that came again, after an unknown
    seconds: float = 0.0
    states: dict[str, int] = field(default_factory=dict)


class Message(NamedTuple):
    """Where a message stands, and what was done about it."""

    message_id: str
    campaign: str
    channel: str
    state: str
    reason: str | None
    reopened: int
    lost: frozenset[str]  # why its calls are unknown
    sent: int  # calls that were answered well


def judge(play: Play) -> Verdict:
    """Nothing twice, nobody forgotten, and `unknown` only where the answer and all events were destroyed."""
    verdict = Verdict(play.schedule.seed, play.schedule.database, str(play.schedule), play.met, play.places, play.wrong)
    caught = play.world.sandbox.caught()
    came = Counter[str]()
    for (message, _), times in caught.items():
        came[message] = max(came[message], times)
    with reading(play.conf) as ledger:
        _account(ledger, verdict)
        found = _messages(ledger)
        _count_lost_answers(ledger, play, verdict)
    verdict.messages = len(found)
    verdict.states = dict(Counter(m.state for m in found.values()))
    for message in found.values():
        if wrong := _wrong(message, came[message.message_id], message.message_id in play.told):
            verdict.wrong.append(f"message {message.message_id} of {message.campaign} {wrong}: {message}")
        verdict.unknown += message.state == "unknown"
        verdict.twice += came[message.message_id] > 1 + message.reopened
        verdict.resent += came[message.message_id] > 1
    to = Counter(recipient for _, recipient in caught)
    verdict.wrong += [f"{n} messages came to one address" for n in to.values() if n > 1]
    verdict.wrong += [f"message {m} came and is in no ledger" for m in came.keys() - found.keys()]
    return verdict


def _wrong(m: Message, came: int, told: bool) -> str | None:
    """What is wrong with a message that came so many times to an address, and whose event was taken in or not."""
    once = shop.CAMPAIGNS[m.campaign][2] == "at_most_once"
    if once and m.reopened:
        return "was sent again"
    if came > 1 + m.reopened:
        return f"came {came} times"
    if m.state == "accepted":
        if not came:
            return "is accepted and never came"
        if came > 1 and told and m.sent and m.channel == "email" and m.reason != unknowns.TWICE:
            return "came twice, and its events didn't show it"
        return None
    if came and m.state != "unknown":
        return f"came and is {m.state}"
    if m.state == "waiting":
        return "waits although everything is over"
    if not m.reason:
        return "has no reason"
    if m.state == "unknown":
        if m.reason != unknowns.GRACE_OVER and not m.reopened:
            return "is unknown although its grace is over"
        if m.sent or not m.lost:
            return "is unknown although no answer was lost"
        if came and told:
            return "is unknown although its event came back"
    return None


def _account(ledger: sa.Connection, verdict: Verdict) -> None:
    """Every member of the frozen audiences has a message or a reason; nothing is held, open or waits."""
    d, b, r = decisions.c, batches.c, requests.c
    for totals in reports.totals(ledger):
        if not totals.accounted:
            verdict.wrong.append(f"run {totals.run_id} doesn't account for everybody: {totals.as_dict()}")
    rows = ledger.execute(sa.select(d.customer_id).where(sa.or_(d.seq.is_not(None), d.reason.is_not(None))))
    decided = set(rows.scalars())
    for campaign in shop.CAMPAIGNS:
        missing = set(shop.members(campaign)) - decided
        if missing and (campaign != "late" or len(missing) < shop.CAMPAIGNS["late"][0]):
            verdict.wrong.append(f"{len(missing)} of {campaign} were never decided about")
    for what, rows_left in (
        ("batches are pending", sa.select(sa.func.count()).where(b.state == "pending")),
        ("batches are held", sa.select(sa.func.count()).where(b.lease_token.is_not(None))),
        ("requests are open", sa.select(sa.func.count()).where(r.state == "open")),
    ):
        if n := ledger.execute(rows_left).scalar_one():
            verdict.wrong.append(f"{n} {what}")


def _messages(ledger: sa.Connection) -> dict[str, Message]:
    """The live messages of all runs."""
    s, o, b, r = message_states.c, outcomes.c, batches.c, requests.c
    again = sa.select(o.seq, sa.func.count()).where(o.state == "reopened").group_by(o.seq)
    reopened: Mapping[int, int] = dict(ledger.execute(again).tuples().all())
    lost: dict[int, set[str]] = {}
    sent = Counter[int]()
    calls = sa.select(b.first_seq, r.members, r.state, r.reason).join(batches, b.batch_id == r.batch_id)
    for first, members, state, reason in ledger.execute(calls.where(r.state.in_(("sent", "unknown")))):
        for seq in unpack(members, first):
            if state == "sent":
                sent[seq] += 1
            else:
                lost.setdefault(seq, set()).add(reason)
    rows = sa.select(s.seq, s.message_id, s.campaign, s.channel, s.state, s.reason).where(s.message_id.is_not(None))
    return {
        row.message_id: Message(
            row.message_id, row.campaign, row.channel, row.state, row.reason, reopened.get(row.seq, 0),
            frozenset(lost.get(row.seq, ())), sent[row.seq],
        )
        for row in ledger.execute(rows)
    }  # fmt: skip


def _count_lost_answers(ledger: sa.Connection, play: Play, verdict: Verdict) -> None:
    """No more calls are unknown than answers were destroyed: by the sandbox's faults, or with the worker."""
    r = requests.c
    unknown = ledger.execute(sa.select(r.reason, r.lease_token).where(r.state == "unknown")).all()
    by_reason = Counter(str(row.reason).split(":", 1)[0] for row in unknown if row.reason != "worker_lost")
    for reason, n in by_reason.items():
        destroyed = sum(play.lost_answers[kind] for kind in _LOST_BY.get(reason, ()))
        if n > destroyed:
            verdict.wrong.append(f"{n} calls are unknown as {reason}, and {destroyed} such answers were destroyed")
    workers = {row.lease_token for row in unknown if row.reason == "worker_lost"}
    if len(workers) > play.gone:
        verdict.wrong.append(f"{len(workers)} workers are lost, and {play.gone} went")
