"""Deciding what a run does about each member of its audience: a function of values, without reading or writing.

It works in columns: what depends on few values (a zone, an hour, which channels are open) is worked out once for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from controltower.campaigns import timing
from controltower.campaigns.allocation import Learned
from controltower.campaigns.arms import GLOBAL_HOLDOUT, HOLDOUT, assign
from controltower.campaigns.specs import Spec
from controltower.ledger import decisions
from controltower.models.send_time import exploring
from controltower.models.send_time.evidence import HOURS
from controltower.shop import Shop

POLICY_VERSION = "4"  # raise it when the meaning of a decision changes

_CODES = pa.dictionary(pa.int32(), pa.string())
MEMBERS = pa.schema(
    [
        ("customer_id", pa.string()),
        ("subject_id", pa.int64()),
        ("zone", _CODES),
        ("country", _CODES),
        ("hours", pa.large_list(pa.uint8())),  # a table of the week's hours for each of the spec's channels, in order
        ("address", pa.bool_()),  # true: one to write to; false: it is suppressed; null: there is none
        ("device", pa.bool_()),  # the same of their devices: true, if one is open
        ("products", pa.list_(_CODES)),  # as JSON: product_id, algorithm, reason, value
        ("algorithm", _CODES),  # of the first
        ("expected", pa.list_(pa.float64())),  # of each of the spec's channels: worth of a message; null: not weighed
        ("inferred", pa.bool_()),  # without what is inferred of them they wouldn't be here
    ]
)

_OUTCOMES = ("message", "holdout", "not_sent")
REFUSALS = ("no_consent", "suppressed", "no_address", "no_device", "frequency_cap")  # of a channel
REASONS = (*REFUSALS, "same_person", "in_earlier_version", "too_few_products", "no_hour_in_window")
_REASONS = (*REASONS, HOLDOUT, GLOBAL_HOLDOUT)
_NO_CONSENT, _OPEN = 0, len(REFUSALS)
_BLOCK = 50_000  # members whose hours are compared at a time
_MEANS = {"email": ("address", "no_address"), "push": ("device", "no_device")}

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]


class Slot(NamedTuple):
    """When a message is due: nowhere, if there is no hour to choose from."""

    due_at: datetime | None = None
    about: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Permissions:
    """What the ledger says by channel, as sets of customer ids."""

    granted: Mapping[str, AbstractSet[str]]
    night: Mapping[str, AbstractSet[str]]
    suppressed: Mapping[str, AbstractSet[str]]
    capped: Mapping[str, AbstractSet[str]]
    stored_arms: pa.Table | None = None  # subject_id, arm, share
    in_earlier_version: AbstractSet[int] = field(default=frozenset())  # subjects


def decide(
    members: pa.Table,
    spec: Spec,
    shop: Shop,
    permissions: Permissions,
    now: datetime,
    occurrence: str,
    learned: Learned | None = None,
) -> pa.Table:
    """One decision a member (see MEMBERS), in their order, the highest score first; see ledger/decisions.py.

    Of the hours allowed a message takes the one that is best by the member's table for its channel, or, for the share
    `shop.explore_hours`, any of them. `learned`: shares of the variants instead of the spec's weights. Whoever can't be
    written to leaves before arms are assigned, so that held-out and treated customers are alike.
    """
    subjects = members["subject_id"].to_numpy()
    reason = np.full(len(subjects), -1)  # the first in this order

    def refuse(which: Mask, why: Codes | int) -> None:
        which = which & (reason < 0)
        reason[which] = why[which] if isinstance(why, np.ndarray) else why

    same_person = np.ones(len(subjects), bool)
    same_person[np.unique(subjects, return_index=True)[1]] = False
    refuse(same_person, _REASONS.index("same_person"))
    refuse(np.isin(subjects, list(permissions.in_earlier_version)), _REASONS.index("in_earlier_version"))
    channels = _Channels.of(members, spec.channels, permissions)
    refuse(channels.first < 0, channels.reason)
    few = pc.less(pc.list_value_length(members["products"]), spec.recommend.minimum)
    refuse(few.to_numpy(), _REASONS.index("too_few_products"))
    slots, slot = _slots(members, spec, shop, permissions, now, occurrence, channels.first, reason < 0)
    refuse(np.array([s.due_at is None for s in slots])[slot], _REASONS.index("no_hour_in_window"))

    left = np.flatnonzero(reason < 0)
    given = assign(
        spec.name,
        subjects[left],
        holdout=spec.holdout,
        global_holdout=shop.global_holdout,
        weights=learned.shares if learned else {v.name: v.weight for v in spec.variants},
        stored=permissions.stored_arms,
        occurrence=learned.occurrence if learned else None,
    )
    arm = np.full(len(subjects), -1)
    probability, share = np.ones(len(subjects)), np.full(len(subjects), np.nan)
    arm[left], probability[left], share[left] = given.code, given.probability, given.share
    for name in (HOLDOUT, GLOBAL_HOLDOUT):
        refuse(arm == given.names.index(name), _REASONS.index(name))
    sent = reason < 0
    slot = np.where(sent, slot, 0)
    due = pa.array([s.due_at for s in slots], pa.timestamp("us", "UTC"))
    columns = {
        "customer_id": members["customer_id"],
        "subject_id": members["subject_id"],
        "outcome": _named(_OUTCOMES, np.where(sent, 0, np.where(arm < 0, 2, 1))),
        "reason": _named(_REASONS, reason),
        "arm": _named(given.names, arm),
        "probability": probability,
        "share": pa.array(share, mask=np.isnan(share)),
        "channel": _named(spec.channels, np.where(sent, channels.first, -1)),
        "due_at": due.take(pa.array(slot)),
        "algorithm": members["algorithm"].take(pa.array(np.arange(len(sent)), mask=~sent)),
        "about": _about(channels, slots, slot, members["inferred"]),
        "products": members["products"],
    }
    return pa.table(columns).cast(decisions.SCHEMA)


@dataclass(frozen=True)
class _Channels:
    """Which channels are open to each member, the one that is taken first: many have the same ones."""

    distinct: Sequence[Mapping[str, Any]]  # channels, refused with the reason, what is expected of each if weighed
    which: Codes  # of these
    first: Codes  # the number of the channel that is taken; none: -1
    reason: Codes  # where none is: why

    @classmethod
    def of(cls, members: pa.Table, channels: Sequence[str], permissions: Permissions) -> _Channels:
        base = _OPEN + 1
        whole = np.zeros(members.num_rows, np.int64)
        for channel in channels:
            whole = whole * base + _refusals(members, channel, permissions)
        worths, worth = _worths(members["expected"], len(channels))
        found, which = np.unique(whole * len(worths) + worth, return_inverse=True)
        distinct, first, reasons = [], [], []
        for coded in found.tolist():
            code, (order, expected) = coded // len(worths), worths[coded % len(worths)]
            each = [code // base**n % base for n in reversed(range(len(channels)))]
            refused = {c: REFUSALS[why] for c, why in zip(channels, each, strict=True) if why != _OPEN}
            opened = [n for n in order or range(len(channels)) if each[n] == _OPEN]
            weighed = {"expected": dict(zip(channels, expected, strict=True))} if expected else {}
            distinct.append({"channels": [channels[n] for n in opened], "refused": refused, **weighed})
            first.append(opened[0] if opened else -1)
            reasons.append(next((why for why in reversed(each) if why != _NO_CONSENT), _NO_CONSENT))
        return cls(distinct, which, np.array(first, int)[which], np.array(reasons, int)[which])


def open_channels(
    members: pa.Table, channels: Sequence[str], permissions: Permissions
) -> tuple[Mask, NDArray[np.object_]]:
    """By member (see MEMBERS) and channel, whether they may be written to there; and of each whom on none, the reason
    that a decision has (None of the others)."""
    found = _Channels.of(members, channels, permissions)
    opened = np.array([[channel in one["channels"] for channel in channels] for one in found.distinct], bool)
    reasons = np.array(REASONS, object)[found.reason]
    reasons[found.first >= 0] = None
    return opened.reshape(-1, len(channels))[found.which], reasons


def _worths(expected: pa.ChunkedArray, channels: int) -> tuple[list[tuple[list[int], list[float]]], Codes]:
    """What is expected of channels: the channels' numbers, the best first, of equal ones (to two digits) as the spec
    has them; and the values in five steps a decade, so that many members share them. And which of these each member's
    is; the first is empty: nothing is weighed."""
    which = np.zeros(len(expected), np.int64)
    there = expected.is_valid().to_numpy()
    if not there.any():
        return [([], [])], which
    values = np.nan_to_num(pc.list_flatten(expected).to_numpy().reshape(-1, channels))
    size = np.abs(values)
    digits = 10.0 ** (np.floor(np.log10(np.maximum(size, 1e-12))) - 1)
    order = np.argsort(-np.rint(values / digits) * digits, axis=1, kind="stable")
    little = size <= np.maximum(size.max(axis=1, keepdims=True) / 100, 1e-9)
    steps = 10 ** (np.rint(np.log10(np.where(little, 1, size)) * 5) / 5)
    rows = np.column_stack([order, np.where(little, 0, np.sign(values) * steps)])
    found, which[there] = np.unique(rows, axis=0, return_inverse=True)
    which[there] += 1
    told = [([int(n) for n in row[:channels]], [float(f"{v:.2g}") for v in row[channels:]]) for row in found]
    return [([], []), *told], which


def _refusals(members: pa.Table, channel: str, permissions: Permissions) -> Codes:
    """Why each customer may not be written to on a channel; the first reason in a fixed order."""
    customers = members["customer_id"]
    refused = [
        (~_among(customers, permissions.granted[channel]), "no_consent"),
        (_among(customers, permissions.suppressed[channel]), "suppressed"),
    ]
    if channel in _MEANS:
        column, missing = _MEANS[channel]
        refused.append((members[column].is_null().to_numpy(), missing))
        refused.append((pc.invert(members[column]).fill_null(False).to_numpy(), "suppressed"))
    refused.append((_among(customers, permissions.capped[channel]), "frequency_cap"))
    return np.select([mask for mask, _ in refused], [REFUSALS.index(why) for _, why in refused], _OPEN)


def _slots(
    members: pa.Table, spec: Spec, shop: Shop, permissions: Permissions, now: datetime, occurrence: str,
    channel: Codes, asked: Mask,
) -> tuple[list[Slot], Codes]:  # fmt: skip
    """The slots that there are, and whose is which.

    Only of the members asked about: the others have the first one, which is nowhere. Who has the same zone and rule has
    the same hours to choose from.
    """
    zones, zone = _coded(members["zone"])
    countries, country = _coded(members["country"])
    clocks = [ZoneInfo(name) for name in zones]
    night = np.zeros(len(channel), bool)
    for n, name in enumerate(spec.channels):
        rule = np.array([[timing.night_rule_applies(name, c, z) for z in clocks] for c in countries], bool)
        if rule.any():
            bound = asked & (channel == n) & rule[country, zone]
            night |= bound & ~_among(members["customer_id"], permissions.night[name])
    slots, slot = [Slot()], np.zeros(len(channel), np.int64)
    same = np.where(asked, zone * 2 + night, -1)
    for code in np.unique(same[asked]).tolist():
        clock = clocks[code // 2]
        hours = timing.Hours(spec.window, clock, bool(code % 2), shop.quiet_hours)
        if not (allowed := list(hours.following(now, spec.window.hours))):
            continue
        rows = np.flatnonzero(same == code)
        local = [moment.astimezone(clock) for moment in allowed]
        chosen = _chosen(members, rows, channel, local, shop.explore_hours, f"{spec.name}:{occurrence}")
        _, first, which = np.unique(
            (chosen.hour * len(allowed) + chosen.best) * 2 + chosen.explored, return_index=True, return_inverse=True
        )
        slot[rows] = which + len(slots)
        candidates = sorted({moment.hour for moment in local})
        for n in first.tolist():
            about = {
                "hours": candidates,
                "best_hour": local[chosen.best[n]].hour,
                "hour": local[chosen.hour[n]].hour,
                "hour_probability": round(float(chosen.probability[n]), 6),
                "explored": bool(chosen.explored[n]),
            }
            slots.append(Slot(allowed[chosen.hour[n]], about))
    return slots, slot


def _chosen(
    members: pa.Table, rows: Codes, channel: Codes, local: Sequence[datetime], share: float, key: str
) -> exploring.Chosen:
    """Which of some moments each of these members' messages goes at, by the tables of their channels."""
    hours = np.array([moment.weekday() * 24 + moment.hour for moment in local])
    tables = members["hours"].combine_chunks().flatten().to_numpy().reshape(members.num_rows, -1, HOURS)
    customers = members["customer_id"].take(pa.array(rows)).to_pylist()
    parts = []
    for n in range(0, len(rows), _BLOCK):
        some = rows[n : n + _BLOCK]
        scores = exploring.scores(tables[some, channel[some]], hours)
        parts.append(exploring.choose(scores, np.ones(len(hours), bool), share, key, customers[n : n + _BLOCK]))
    return exploring.Chosen(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _about(channels: _Channels, slots: Sequence[Slot], slot: Codes, inferred: pa.ChunkedArray) -> pa.Array:
    """What was chosen but for the products: channels, of messages (those with a slot) the hours, and whether a member
    was by what is inferred of them."""
    codes, which = np.unique((channels.which * len(slots) + slot) * 2 + inferred.to_numpy(), return_inverse=True)
    texts = []
    for code in codes.tolist():
        chosen, n = divmod(code // 2, len(slots))
        guessed = {"inferred": True} if code % 2 else {}
        texts.append(decisions.about({**channels.distinct[chosen], **slots[n].about, **guessed}))
    return _named(texts, which)


def _coded(column: pa.ChunkedArray) -> tuple[list[Any], Codes]:
    """The values that there are, and which each row has."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks()
    return whole.dictionary.to_pylist(), whole.indices.to_numpy().astype(np.int64)


def _named(names: Sequence[str], codes: Codes) -> pa.Array:
    """Codes as the names that they stand for; below 0: null."""
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32), mask=codes < 0), pa.array(names, pa.string())
    )


def _among(customers: pa.ChunkedArray, some: AbstractSet[str]) -> Mask:
    found: Mask = pc.is_in(customers, pa.array(list(some), pa.string())).to_numpy()
    return found
