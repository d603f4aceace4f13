"""The trigger form of a campaign: what a marketer may change for one occasion."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param
from controltower import settings
from controltower.campaigns import approval
from controltower.campaigns.specs import Spec


def form(spec: Spec) -> dict[str, Param]:
    """The fields, filled with what the spec says; an emptied field means the spec's value."""
    window, variants = spec.window, [v.name for v in spec.variants]
    here = settings.load()
    shop = settings.load_shop(here) if here.shop_file.is_file() else None
    zone = f"the shop's zone, {shop.timezone}" if shop else "the shop's zone"
    limit = approval.threshold(shop, spec) if shop else spec.approve_above
    return {
        "occasion": _field(
            None, "string", "When", "Occasion", f"The day it is for, in {zone}. Empty: today.", format="date"
        ),
        "window_start": _time(window.start.strftime("%H:%M"), "Not before", zone),
        "window_end": _time(window.end.strftime("%H:%M"), "Not after", zone),
        "holdout": _field(
            spec.holdout, "number", "Who", "Holdout", "Share withheld to measure the campaign.", minimum=0, maximum=0.9
        ),
        "at_most": _field(
            spec.audience.at_most, "integer", "Who", "Size limit", "Highest score first. Empty: the spec's.", minimum=1
        ),
        "variants": _field(variants, "array", "What", "Variants", "The arms to send.", examples=variants),
        "channels": _field(
            list(spec.channels),
            "array",
            "What",
            "Channels",
            "A message takes the first that the customer allows.",
            examples=list(spec.channels),
        ),
        "replan": Param(
            False,
            type="boolean",
            section="What",
            title="Plan again",
            description="Decides afresh while nothing was sent; else cancels what is unsent.",
        ),
        "approve_above": _field(
            limit,
            "integer",
            "Approval",
            "Approval above",
            "More messages than this wait until a second person approves. It may only be lowered: 0 asks in any case.",
            minimum=0,
            **({} if limit is None else {"maximum": limit}),
        ),
        "despite_anomaly": Param(
            False,
            type="boolean",
            section="Approval",
            title="Plan despite an anomaly",
            description="Plans it although its counts are unusual. A second person must approve it.",
        ),
    }


def _field(default: Any, kind: str, section: str, title: str, description: str, **more: Any) -> Param:
    return Param(default, type=[kind, "null"], section=section, title=title, description=description, **more)


def _time(default: str, title: str, zone: str) -> Param:
    clock_time = r"^([01]\d|2[0-3]):[0-5]\d$"
    about = f"HH:MM in the customer's own time zone; where that is unknown, in {zone}."
    return _field(default, "string", "When", title, about, pattern=clock_time)
