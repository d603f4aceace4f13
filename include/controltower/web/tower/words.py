"""A campaign's spec, and why a provider is paused, in plain words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from controltower import clock
from controltower.audiences.rules import Rule
from controltower.campaigns.approval import threshold
from controltower.campaigns.specs import Spec
from controltower.content.locales import Translate
from controltower.content.words import word
from controltower.ledger.providers import FOREVER, Standing
from controltower.settings import Settings
from controltower.shop import Shop


def schedule(text: str, shop: Shop, t: Translate) -> str:
    """When it starts."""
    if text == "after_scores":
        return t("schedule.after_scores")
    minute, hour, day, month, weekdays = text.split()
    if not (minute.isdigit() and hour.isdigit() and (day, month) == ("*", "*")):
        return t("schedule.cron", cron=text, zone=shop.timezone)
    time = f"{int(hour):02}:{int(minute):02}"
    if weekdays == "*":
        return t("schedule.daily", time=time, zone=shop.timezone)
    if not all(d.isdigit() for d in weekdays.split(",")):
        return t("schedule.cron", cron=text, zone=shop.timezone)
    names = t("schedule.weekdays").split()
    days = ", ".join(names[int(d) % 7] for d in weekdays.split(","))
    return t("schedule.weekly", days=days, time=time, zone=shop.timezone)


def spec(found: Spec, shop: Shop, t: Translate) -> list[tuple[str, list[str]]]:
    """Headings with their sentences."""
    window, audience, products = found.window, found.audience, found.recommend
    who = [rule(r, t) for r in audience.rules]
    if audience.goal:
        who.append(t(f"campaign.goals.{audience.goal}", days=f"{audience.within:g}"))
    else:
        who.append(t("campaign.order_by", column=word(t, "feature", audience.order_by)))
    if audience.at_most:
        who.append(t("campaign.at_most", n=f"{audience.at_most:,}"))
    held = [t("campaign.holdout_words", share=f"{found.holdout:.0%}") if found.holdout else t("campaign.no_holdout")]
    if shop.global_holdout:
        held.append(t("campaign.global_holdout", share=f"{shop.global_holdout:.0%}"))
    channels = ", ".join(t(f"channel.{c}") for c in found.channels)
    limit = threshold(shop, found)
    when = t(
        "campaign.window_words", start=window.start.strftime("%H:%M"), end=window.end.strftime("%H:%M"),
        hours=window.hours, expires=window.expires_hours,
    )  # fmt: skip
    return [
        (t("column.schedule"), [schedule(found.schedule, shop, t)]),
        (t("campaign.who"), who),
        (
            t("campaign.channels"),
            [t("campaign.channels_order", list=channels) if len(found.channels) > 1 else channels],
        ),
        (t("campaign.window"), [when]),
        (t("campaign.products"), [t("campaign.products_words", n=products.products, least=products.minimum)]),
        (t("campaign.holdout"), held),
        (
            t("campaign.approval"),
            [t("campaign.no_approval") if limit is None else t("campaign.approval_words", n=f"{limit:,}")],
        ),
        (t("campaign.owner"), [found.owner]),
    ]


def rule(found: Rule, t: Translate) -> str:
    """One rule of an audience."""
    values: dict[str, Any] = {"column": word(t, "feature", found.column)}
    if found.is_in is not None:
        kind, values["values"] = "is_in", ", ".join(word(t, found.column, value) for value in found.is_in)
    else:
        low, high = found.at_least, found.at_most
        kind = "between" if low is not None and high is not None else "at_least" if low is not None else "at_most"
        values |= {"low": _number(low), "high": _number(high)}
    words = t(f"campaign.rule.{kind}", **values)
    return t("campaign.rule.unknown", rule=words) if found.or_unknown else words


def pause(found: Standing, settings: Settings, shop: Shop, t: Translate) -> dict[str, str]:
    """A paused provider: its name, why, until when, and what ending it before is called."""
    resume = "provider.resume_sooner"
    if found.waits == FOREVER:
        until, resume = t("provider.until_resumed"), "provider.resume"
    elif clock.is_set(settings):  # pauses don't go by the home's clock
        until = t("provider.for_seconds", n=f"{found.waits:,.0f}")
    else:
        ends = datetime.fromtimestamp(clock.wall() + found.waits, UTC)
        until = t("provider.until", time=clock.show(ends, shop.zone))
    code = (found.why or "").partition(":")[0]  # as in no_answer:EOFError; some are sentences of their own
    known = word(t, "pause", code)
    why = found.why or "" if known == code else known
    return {"name": found.name, "why": why, "until": until, "resume": t(resume)}


def trouble(why: str, t: Translate) -> str:
    """An error as `Kind: what and remedy`, which are English: its kind is said in the reader's language before them."""
    kind, _, rest = why.partition(": ")
    known = word(t, "trouble", kind)
    return why if known == kind else f"{known} {rest}"


def variants(found: Spec, shop: Shop, language: str) -> list[dict[str, Any]]:
    """Each variant with its share and its subject, in the reader's language where there is one."""
    total = sum(v.weight for v in found.variants)
    return [
        {"name": v.name, "share": v.weight / total, "subject": _in(language, shop, v.subject)} for v in found.variants
    ]


def _in(language: str, shop: Shop, texts: dict[str, str]) -> str:
    tags = (language, shop.locale.split("-")[0])
    return next((texts[tag] for tag in tags if tag in texts), next(iter(texts.values())))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,g}"
