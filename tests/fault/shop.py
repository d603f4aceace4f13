"""The shop that every schedule starts from: its campaigns, and how they are planned."""

from __future__ import annotations

from datetime import datetime, timedelta

import yaml
from controltower.campaigns.specs import find_spec
from controltower.content import templates
from controltower.data.lake import Lake
from controltower.ledger import plans, runs
from controltower.ledger.database import begin
from controltower.ledger.decisions import Decision, tabulate
from controltower.settings import INCLUDE, Settings
from support import small_shop
from support.lakes import publish_rows

NOW = datetime.fromisoformat("2026-06-15T12:00+09:00")
OCCASION = NOW.date().isoformat()
BATCH = 40  # messages: so that a schedule has several
# campaign: messages, channel, delivery; `letters` can't be split, `large` waits for approval, `late` is planned later
CAMPAIGNS = {
    "mails": (100, "email", "at_most_once"),
    "letters": (24, "email", "at_least_once"),
    "pushes": (64, "push", "at_most_once"),
    "nudges": (24, "push", "at_least_once"),
    "large": (12, "email", "at_most_once"),
    "late": (12, "email", "at_most_once"),
}
_WHOLE = "{{ customer.first_name|length }} {{ products[0].title }}"
_SOURCE = {"email": "win_back", "push": "picked_for_you"}


def members(campaign: str) -> list[str]:
    """The audience: nobody is in two."""
    return [f"{campaign}-{n}" for n in range(CAMPAIGNS[campaign][0])]


def write(conf: Settings) -> None:
    """The data, the campaigns' files, and the plans of all but `late`; every fourth customer has two devices."""
    customers = [c for campaign in CAMPAIGNS for c in members(campaign)]
    small_shop.write_shop(conf, customers, NOW)
    known = NOW - timedelta(days=20)
    second = [
        {"device_id": f"e-{c}", "customer_id": c, "push_token": f"second-{c}", "platform": "android",
         "updated_at": known, "last_seen_at": known}
        for c in customers[::4]
    ]  # fmt: skip
    publish_rows(Lake(conf), "devices", "j", small_shop.rows("devices", *second))
    conf.campaigns.mkdir()
    for campaign, (_, channel, delivery) in CAMPAIGNS.items():
        _write_spec(conf, campaign, channel, delivery)
    for campaign in CAMPAIGNS:
        if campaign != "late":
            plan(conf, campaign)


def _write_spec(conf: Settings, campaign: str, channel: str, delivery: str) -> None:
    source = yaml.safe_load((INCLUDE / "campaigns" / f"{_SOURCE[channel]}.yaml").read_text())
    spec = source | {
        "name": campaign, "channels": [channel], "delivery": delivery,
        "grace_hours": {channel: 2}, "window": {"start": "08:00", "end": "21:00", "hours": 24, "expires_hours": 72},
        "variants": source["variants"][:1],
    }  # fmt: skip
    if campaign == "letters":
        spec["variants"] = [spec["variants"][0] | {"subject": {"en": _WHOLE, "ko": _WHOLE}}]
    (conf.campaigns / f"{campaign}.yaml").write_text(yaml.safe_dump(spec, allow_unicode=True))


def without_pauses(conf: Settings) -> None:
    """A provider in trouble is asked again at once: else one fault hides the others."""
    none = dict.fromkeys(("pause", "longest_pause", "pause_after_unknown"), 0)
    with conf.shop_file.open("a") as file:
        file.write(yaml.safe_dump({"providers": {"sendgrid": none, "fcm": none}}))


def edit(conf: Settings, campaign: str) -> None:
    """Change the words of a campaign's file."""
    path = conf.campaigns / f"{campaign}.yaml"
    path.write_text(path.read_text().replace("\ntitle: ", "\ntitle: New ", 1))


def plan(conf: Settings, campaign: str) -> None:
    """Plan today's occurrence as plan_campaign does: again, nothing is added; edited, a new version takes its place."""
    spec = find_spec(conf.campaigns, campaign)
    template = templates.load(conf.templates, spec.template)
    with begin(conf) as ledger:
        occurrence = plans.lock_occurrence(ledger, campaign, OCCASION, NOW)
        previous = runs.current(ledger, campaign, OCCASION)
        if previous and previous.spec_hash == spec.hash:
            return
        if previous:
            plans.cancel_unsent(ledger, occurrence, reason="superseded", now=NOW, superseded=True)
        taken = plans.messaged(ledger, occurrence)
        subjects = plans.subject_ids(ledger, members(campaign), NOW)
        plans.freeze(
            ledger, occurrence_id=occurrence, campaign=campaign, as_of=NOW, now=NOW,
            spec=spec.model_dump(mode="json"), spec_hash=spec.hash, content_hash=template.content_hash, policy={},
            policy_version="1", triggered_by=None, key=conf.signing_key(),
            hold="approval" if campaign == "large" else None, expires_in=timedelta(hours=spec.window.expires_hours),
            plan=tabulate([_decision(c, subject, campaign, subject in taken) for c, subject in subjects.items()]),
        )  # fmt: skip


def _decision(customer: str, subject: int, campaign: str, before: bool) -> Decision:
    if before:
        return Decision(customer, subject, "not_sent", 1.0, reason="in_earlier_version")
    channel = CAMPAIGNS[campaign][1]
    return Decision(
        customer, subject, "message", 0.45, arm="personal" if channel == "push" else "we_miss_you", share=0.5,
        channel=channel, due_at=NOW, choices={"products": small_shop.PICKS},
    )  # fmt: skip
