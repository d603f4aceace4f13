"""Deciding what a run does about each member of its audience: a function of values, without reading or writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from controltower.campaigns import timing
from controltower.campaigns.allocation import Learned
from controltower.campaigns.arms import GLOBAL_HOLDOUT, HOLDOUT, assign
from controltower.campaigns.specs import Spec
from controltower.ledger.plans import Decision
from controltower.shop import Shop

POLICY_VERSION = "3"  # raise it when the meaning of a decision changes


class Pick(NamedTuple):
    """A product for a message: why it was chosen, and by what."""

    product_id: str
    algorithm: str
    reason_code: str | None = None
    reason_value: str | None = None


class Member(NamedTuple):
    """A customer of the audience with all that deciding needs, the highest score first."""

    customer_id: str
    subject_id: int
    address_hash: str | None
    devices: frozenset[str]
    zone: ZoneInfo
    country: str
    send_hour: int
    picks: tuple[Pick, ...]


@dataclass(frozen=True)
class Permissions:
    """What the ledger says by channel, as sets of customer ids, address hashes and device ids."""

    granted: Mapping[str, AbstractSet[str]]
    night: Mapping[str, AbstractSet[str]]
    suppressed: Mapping[str, AbstractSet[str]]
    capped: Mapping[str, AbstractSet[str]]
    suppressed_addresses: AbstractSet[str] = frozenset()
    suppressed_devices: AbstractSet[str] = frozenset()
    stored_arms: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    in_earlier_version: AbstractSet[int] = frozenset()  # subjects


def decide(
    members: Sequence[Member],
    spec: Spec,
    shop: Shop,
    permissions: Permissions,
    now: datetime,
    learned: Learned | None = None,
) -> list[Decision]:
    """One decision a member, in the audience's order. `learned`: shares of the variants instead of the spec's weights.

    Whoever can't be written to leaves before arms are assigned, so that held-out and treated customers are alike.
    """
    first_of = {m.subject_id: m.customer_id for m in reversed(members)}
    common = _Common(spec, shop, permissions, now, learned)
    return [
        _decide(member, common, same_person=first_of[member.subject_id] != member.customer_id) for member in members
    ]


class _Common:
    """What all decisions share; what many have in common is worked out once."""

    def __init__(
        self, spec: Spec, shop: Shop, permissions: Permissions, now: datetime, learned: Learned | None
    ) -> None:
        self.spec, self.shop, self.permissions = spec, shop, permissions
        self.weights = learned.shares if learned else {v.name: v.weight for v in spec.variants}
        self.occurrence = learned.occurrence if learned else None

        @cache
        def slot(zone: ZoneInfo, avoid_night: bool, hour: int) -> tuple[datetime, list[int]] | None:
            return timing.due_at(now, hour, timing.Hours(spec.window, zone, avoid_night, shop.quiet_hours))

        @cache
        def product(pick: Pick) -> dict[str, Any]:
            reason, value = pick.reason_code, pick.reason_value
            return {"product_id": pick.product_id, "algorithm": pick.algorithm, "reason": reason, "value": value}

        self.slot, self.product = slot, product


def _decide(member: Member, common: _Common, same_person: bool) -> Decision:
    spec, permissions = common.spec, common.permissions
    refused = {c: r for c in spec.channels if (r := _refusal(member, c, permissions))}
    open_channels = [c for c in spec.channels if c not in refused]
    picks = member.picks[: spec.recommend.products]
    choices: dict[str, Any] = {
        "channels": open_channels,
        "refused": refused,
        "products": [common.product(p) for p in picks],
    }

    def end(outcome: str, reason: str, probability: float = 1.0, arm: str | None = None) -> Decision:
        return Decision(
            member.customer_id, member.subject_id, outcome, probability, reason=reason, arm=arm, choices=choices
        )

    if same_person:
        return end("not_sent", "same_person")
    if member.subject_id in permissions.in_earlier_version:
        return end("not_sent", "in_earlier_version")
    if not open_channels:
        consented = [reason for reason in refused.values() if reason != "no_consent"]
        return end("not_sent", consented[-1] if consented else "no_consent")
    if len(picks) < spec.recommend.minimum:
        return end("not_sent", "too_few_products")
    channel = open_channels[0]
    avoid_night = timing.night_rule_applies(channel, member.country, member.zone)
    avoid_night = avoid_night and member.customer_id not in permissions.night[channel]
    slot = common.slot(member.zone, avoid_night, member.send_hour)
    if slot is None:
        return end("not_sent", "no_hour_in_window")
    arm = assign(
        spec.name,
        member.subject_id,
        holdout=spec.holdout,
        global_holdout=common.shop.global_holdout,
        weights=common.weights,
        stored=permissions.stored_arms.get(member.subject_id),
        occurrence=common.occurrence,
    )
    if arm.name in (HOLDOUT, GLOBAL_HOLDOUT):
        return end("holdout", arm.name, arm.probability, arm.name)
    due_at, choices["hours"] = slot
    choices["best_hour"] = member.send_hour
    return Decision(
        member.customer_id,
        member.subject_id,
        "message",
        arm.probability,
        arm=arm.name,
        share=arm.share,
        channel=channel,
        due_at=due_at,
        algorithm=picks[0].algorithm if picks else None,
        choices=choices,
    )


def _refusal(member: Member, channel: str, permissions: Permissions) -> str | None:
    """Why a customer may not be written to on a channel; the first reason in a fixed order."""
    if member.customer_id not in permissions.granted[channel]:
        return "no_consent"
    if member.customer_id in permissions.suppressed[channel]:
        return "suppressed"
    if channel == "email" and member.address_hash is None:
        return "no_address"
    if channel == "email" and member.address_hash in permissions.suppressed_addresses:
        return "suppressed"
    if channel == "push" and not member.devices - permissions.suppressed_devices:
        return "suppressed" if member.devices else "no_device"
    if member.customer_id in permissions.capped[channel]:
        return "frequency_cap"
    return None
