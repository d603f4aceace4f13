"""The last look at the ledger before messages leave: who may still be written to, at this moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from controltower.campaigns.specs import Spec
from controltower.delivery.policy import Facts, refusal, without_suppressed_devices
from controltower.ledger import caps, consents, suppressions, work
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
    hashes: Mapping[str, str],
    facts: Facts,
    spec: Spec,
    shop: Shop,
    now: datetime,
) -> Verdicts:
    """Judge messages of a batch one by one; `hashes` are their address hashes by customer."""
    found = Verdicts()
    for message in some:
        contact = who.get(message.customer_id)
        if contact is not None and facts.suppressed_devices:
            contact = without_suppressed_devices(contact, facts)
        refused = refusal(
            contact, batch.channel, hashes.get(message.customer_id), facts,
            now=now, expires_at=batch.expires_at, window=spec.window, quiet=shop.quiet_hours,
        )  # fmt: skip
        if refused and refused.until:
            found.deferred.setdefault((refused.until, refused.reason), []).append(message.seq)
        elif refused or contact is None:
            found.dropped.append((message.seq, "not_sent", refused.reason if refused else "customer_gone"))
        else:
            found.may_leave.append((message, contact))
    return found


def gather(
    ledger: sa.Connection,
    shop: Shop,
    purpose: str,
    batch: work.Batch,
    who: Mapping[str, Contact],
    hashes: Mapping[str, str],
    now: datetime,
    key: bytes,
) -> Facts:
    """What the ledger says at this moment of the customers of a batch."""
    customers, channel = list(who), batch.channel
    full = caps.full(
        ledger, shop.frequency_caps, [channel], now, customers=customers, but_run=batch.run_id, with_planned=False
    )
    email, push = channel == "email", channel == "push"
    tokens = {
        d.device_id: suppressions.address_hash(key, d.push_token) for c in who.values() for d in c.devices if push
    }
    none: frozenset[str] = frozenset()
    return Facts(
        granted=consents.granted(ledger, channel, purpose, now, customers),
        night=none if email else consents.granted(ledger, channel, "night_marketing", now, customers),
        suppressed_customers=suppressions.held(ledger, "customer", channel, purpose, now, customers),
        suppressed_addresses=suppressions.held(ledger, "address", channel, purpose, now, hashes.values())
        if email
        else none,
        suppressed_devices=suppressions.held(ledger, "device", channel, purpose, now, tokens)
        | suppressions.dead_devices(ledger, tokens, purpose, now)
        if push
        else none,
        capped=full[channel],
    )
