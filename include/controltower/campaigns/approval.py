"""When a run waits for a second person, and who that may be."""

from __future__ import annotations

from collections.abc import Collection

from controltower.campaigns.specs import Spec
from controltower.shop import Shop


def threshold(shop: Shop, spec: Spec) -> int | None:
    """How many messages may leave without a second person: the lower of the shop's and the spec's; none: any number."""
    return min((n for n in (shop.approve_above, spec.approve_above) if n is not None), default=None)


def must_wait(shop: Shop, spec: Spec, messages: int, earlier: int = 0) -> bool:
    """Whether a plan of so many messages waits, after `earlier` ones of the same occurrence's former versions.

    They count too: else a form changed again and again would send everybody a message without a second person.
    """
    limit = threshold(shop, spec)
    return messages > 0 and limit is not None and messages + earlier > limit


def same_person(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def refusal(person: str, asked_by: str | None, approvers: Collection[str]) -> str | None:
    """Why this person may not decide about a run that `asked_by` (none: the schedule) asked for; None: they may.

    Where no approvers are named, anybody may but the one who asked.
    """
    if not person.strip():
        return "nobody is named"
    if asked_by and same_person(person, asked_by):
        return f"{person} asked for it"
    if approvers and person not in approvers:
        return f"{person} is not one of the approvers"
    return None
