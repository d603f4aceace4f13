"""What the trigger form may change in a spec for one occasion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controltower.campaigns.specs import Spec, validate
from controltower.errors import BadSpec

FIELDS = ("holdout", "variants", "channels", "window_start", "window_end", "at_most")


def apply(spec: Spec, form: Mapping[str, Any] | None) -> Spec:
    """The spec as the form wants it; empty fields leave it as it is. BadSpec where the values don't go together."""
    given = {k: v for k, v in (form or {}).items() if v not in (None, "", [])}
    unknown = set(given) - set(FIELDS)
    if unknown:
        raise BadSpec(f"The form has no field {', '.join(sorted(unknown))}.", f"Fields: {', '.join(FIELDS)}.")
    raw = spec.model_dump(mode="json")
    if "holdout" in given:
        raw["holdout"] = given["holdout"]
    if "variants" in given:
        missing = set(given["variants"]) - {v.name for v in spec.variants}
        if missing:
            raise BadSpec(f"{spec.name} has no variant {', '.join(sorted(missing))}.")
        raw["variants"] = [v for v in raw["variants"] if v["name"] in given["variants"]]
    if "channels" in given:
        added = set(given["channels"]) - set(spec.channels)
        if added:
            raise BadSpec(f"{spec.name} is not made for the channel {', '.join(sorted(added))}.")
        raw["channels"] = [c for c in spec.channels if c in given["channels"]]
    for field, key in (("window_start", "start"), ("window_end", "end")):
        if field in given:
            raw["window"][key] = given[field]
    if "at_most" in given:
        raw["audience"]["at_most"] = given["at_most"]
    return validate(raw, f"The form of {spec.name}")
