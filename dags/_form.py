"""The trigger form of a campaign: what a marketer may change for one occasion."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param
from controltower.campaigns.specs import Spec


def form(spec: Spec) -> dict[str, Param]:
    """The fields, filled with what the spec says; an emptied field means the spec's value."""
    window, variants = spec.window, [v.name for v in spec.variants]
    return {
        "occasion": _field(
            None, "string", "When", "Occasion", "The day it is for. Empty: today in the shop's zone.", format="date"
        ),
        "window_start": _time(window.start.strftime("%H:%M"), "Not before"),
        "window_end": _time(window.end.strftime("%H:%M"), "Not after"),
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
    }


def _field(default: Any, kind: str, section: str, title: str, description: str, **more: Any) -> Param:
    return Param(default, type=[kind, "null"], section=section, title=title, description=description, **more)


def _time(default: str, title: str) -> Param:
    clock_time = r"^([01]\d|2[0-3]):[0-5]\d$"
    return _field(default, "string", "When", title, "HH:MM, the customer's local time.", pattern=clock_time)
