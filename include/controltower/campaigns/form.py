"""What the trigger form may change in a spec for one occasion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controltower.campaigns import approval
from controltower.campaigns.specs import Spec, validate
from controltower.errors import BadSpec
from controltower.shop import Shop

# Of these, `despite_anomaly` changes nothing in the spec: the planning job reads it.
FIELDS = (
    "holdout", "variants", "channels", "window_start", "window_end", "at_most", "approve_above", "despite_anomaly",
)  # fmt: skip


def apply(spec: Spec, form: Mapping[str, Any] | None, shop: Shop) -> Spec:
    """The spec as the form wants it; empty fields leave it as it is. BadSpec where the values don't go together.

    `approve_above` may only be lowered: the form asks for a second person's approval, and never does away with it.
    """
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
    if "approve_above" in given:
        raw["approve_above"] = _lowered(given["approve_above"], spec, shop)
    return validate(raw, f"The form of {spec.name}")


def _lowered(asked: Any, spec: Spec, shop: Shop) -> int | None:
    """The form's threshold of approval; the spec's own where the form says what holds anyway."""
    limit = approval.threshold(shop, spec)
    value = validate(spec.model_dump(mode="json") | {"approve_above": asked}, f"The form of {spec.name}").approve_above
    if limit is None or value is None or value < limit:
        return value
    if value > limit:
        raise BadSpec(
            f"The form of {spec.name}: approve_above: {value} is more than the {limit} that need no approval.",
            f"It may only be lowered: write {limit} or less.",
        )
    return spec.approve_above
