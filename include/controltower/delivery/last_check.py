"""The last look at the ledger before messages leave: who may still be written to, at this moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from controltower.campaigns.specs import Spec
from controltower.delivery.policy import Check, Facts, without_suppressed_devices
from controltower.ledger import caps, consents, doubles, plans, suppressions, work
from controltower.profiles.contacts import Contact
from controltower.shop import Shop


@dataclass
class Verdicts:
    """What the last check says of some messages: which may leave, which end, which wait until when."""

    may_leave: list[tuple[work.Message, Contact]] = field(default_factory=list)
    dropped: list[tuple[int, str, str]] = field(default_factory=list)  # seq, outcome, reason
    deferred: dict[tuple[datetime, str], list[int]] = field(default_factory=dict)  # until when, why -> seqs


def check(
    batch: work.Batch,
    some: Sequence[work.Message],
    who: Mapping[str, Contact],
    facts: Facts,
    spec: Spec,
    shop: Shop,
    now: datetime,
) -> Verdicts:
    """Judge messages of a batch one by one."""
    found = Verdicts()
    refusal = Check(batch.channel, facts, now, batch.expires_at, spec.window, shop.quiet_hours).refusal
    for message in some:
        contact = who.get(message.customer_id)
        if contact is not None and facts.suppressed_devices:
            contact = without_suppressed_devices(contact, facts)
        refused = refusal(contact)
        if refused is None and contact is not None:
            found.may_leave.append((message, contact))
        elif refused and refused.until:
            found.deferred.setdefault((refused.until, refused.reason), []).append(message.seq)
        else:
            found.dropped.append((message.seq, "not_sent", refused.reason if refused else "customer_gone"))
    return found


def gather(
    ledger: sa.Connection,
    shop: Shop,
    spec: Spec,
    batch: work.Batch,
    who: Mapping[str, Contact],
    now: datetime,
    key: bytes,
) -> Facts:
    """What the ledger says at this moment of the customers of a batch. It is asked for as little as can be."""
    customers, channel, purpose = list(who), batch.channel, spec.purpose
    full = caps.full(
        ledger, shop.frequency_caps, [channel], now, customers=customers, but_run=batch.run_id, with_planned=False
    )
    kinds = suppressions.kinds(ledger)
    suppressed: set[str] = set()
    if "customer" in kinds:
        suppressed = suppressions.held(ledger, "customer", channel, purpose, now, customers)
    if "address" in kinds and channel == "email":
        hashes = {c: suppressions.address_hash(key, contact.email) for c, contact in who.items() if contact.email}
        held = suppressions.held(ledger, "address", channel, purpose, now, set(hashes.values()))
        suppressed |= {c for c, hashed in hashes.items() if hashed in held}
    devices: set[str] = set()
    if channel == "push" and kinds & {"address", "device"}:
        tokens = {d.device_id: suppressions.address_hash(key, d.push_token) for c in who.values() for d in c.devices}
        devices = suppressions.held(ledger, "device", channel, purpose, now, tokens)
        devices |= suppressions.dead_devices(ledger, tokens, purpose, now)
    return Facts(
        granted=consents.granted(ledger, channel, purpose, now, customers),
        night=set() if channel == "email" else consents.granted(ledger, channel, "night_marketing", now, customers),
        suppressed=suppressed,
        suppressed_devices=devices,
        capped=full[channel],
        unprofiled=unprofiled(ledger, batch.run_id, now, customers) if spec.audience.inferred else frozenset(),
        doubled=doubles.find(ledger, batch, customers),
    )


def unprofiled(ledger: sa.Connection, run_id: int, now: datetime, customers: Collection[str]) -> set[str]:
    """Whom a run chose by what was inferred of them, though they don't agree to profiling now."""
    guessed = plans.by_inference(ledger, run_id, customers)
    return guessed - consents.agreed(ledger, consents.PROFILING, now, guessed) if guessed else guessed
