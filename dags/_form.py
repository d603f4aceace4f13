"""The trigger form of a campaign: what a marketer may change for one occasion, in the shop's language. And the fields
that name an occasion of any campaign, for the DAGs that hold or stop it, or what of it to try on our own people.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param
from controltower import settings
from controltower.campaigns import approval
from controltower.campaigns.specs import Spec, load_specs
from controltower.content import words

CLOCK_TIME = r"^([01]\d|2[0-3]):[0-5]\d$"


def occasion_form() -> dict[str, Param]:
    """Whose messages, and of which day."""
    return {
        "campaign": _campaign("Whose unsent messages."),
        "occasion": Param(
            None,
            type=["string", "null"],
            format="date",
            title="Occasion",
            description="The day it was for. Empty: today in the shop's zone.",
        ),
    }


def test_form() -> dict[str, Param]:
    """What to send to the seed list. No addresses: Airflow keeps what it is triggered with."""

    def text(title: str, about: str) -> Param:
        return Param(None, type=["string", "null"], title=title, description=about)

    return {
        "campaign": _campaign("Whose messages."),
        "variant": text("Variant", "Empty: each of them."),
        "customer": text("As whom", "A customer's id: their name, language and products. Empty: a made-up customer."),
        "sandbox_mode": Param(
            False, type="boolean", title="Only check", description="The provider checks it and sends nothing."
        ),
    }


def _campaign(about: str) -> Param:
    names = sorted(spec.name for spec in load_specs(settings.load().campaigns))  # of broken ones too: messages may wait
    return Param(type="string", enum=names, title="Campaign", description=about)


def form(spec: Spec) -> dict[str, Param]:
    """The fields, filled with what the spec says; an emptied field means the spec's value.

    Airflow reads it when it parses the DAG, for all its readers at once; without a shop file that can be read it is in
    English.
    """
    window, variants, channels = spec.window, [v.name for v in spec.variants], list(spec.channels)
    shop = settings.shop_if_any(settings.load())
    t = words.translator(shop.locale if shop else "en")
    zone = t("form.zone", zone=shop.timezone) if shop else t("form.zone_unknown")
    limit = approval.threshold(shop, spec) if shop else spec.approve_above
    starts, ends = window.start.strftime("%H:%M"), window.end.strftime("%H:%M")

    def field(name: str, default: Any, kind: str, section: str, about: str = "", **more: Any) -> Param:
        """A boolean is a box to tick; the others may be emptied."""
        return Param(
            default,
            type=kind if kind == "boolean" else [kind, "null"],
            section=t(f"form.{section}"),
            title=t(f"form.{name}"),
            description=t(f"form.{about or name}_about", zone=zone),
            **more,
        )

    return {
        "occasion": field("occasion", None, "string", "when", format="date"),
        "window_start": field("window_start", starts, "string", "when", "window", pattern=CLOCK_TIME),
        "window_end": field("window_end", ends, "string", "when", "window", pattern=CLOCK_TIME),
        "holdout": field("holdout", spec.holdout, "number", "who", minimum=0, maximum=0.9),
        "at_most": field("at_most", spec.audience.at_most, "integer", "who", minimum=1),
        "variants": field("variants", variants, "array", "what", examples=variants),
        "channels": field("channels", channels, "array", "what", examples=channels),
        "replan": field("replan", False, "boolean", "what"),
        "approve_above": field(
            "approve_above", limit, "integer", "approval", minimum=0, **({} if limit is None else {"maximum": limit})
        ),
        "despite_anomaly": field("despite_anomaly", False, "boolean", "approval"),
    }
