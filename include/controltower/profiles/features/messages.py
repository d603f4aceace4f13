"""How a customer takes our messages: what was sent, what was opened and clicked, and signs of fatigue."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from controltower.profiles.features.feature import Feature, within
from controltower.profiles.portable import days, div

# A click rate is told as if so many more messages had been sent and so many of them clicked: few messages say little.
MORE_MESSAGES, MORE_CLICKS = 30, 1


def _messages_within(name: str, channel: str | None, span: int, description: str) -> Feature:
    return Feature(
        f"{name}_{span}d",
        f"{description} sent in the last {span} days",
        "messages",
        lambda t: t.message_id.nunique(
            where=within(t, span) & (t.channel == channel if channel else ibis.literal(True))
        ),
        0,
    )


def _reactions_within(name: str, event: str, span: int, description: str) -> Feature:
    return Feature(
        f"{name}_{span}d",
        f"{description} in the last {span} days, not counting what programs do",
        "reactions",
        lambda t: t.message_id.nunique(where=(t.event == event) & within(t, span)),
        0,
    )


def _click_rate(t: ir.Table) -> ir.FloatingValue:
    recent = within(t, 90)
    sent = t.message_id.nunique(where=recent)
    clicked = t.message_id.nunique(where=recent & t.clicked)
    return div(clicked + MORE_CLICKS, ibis.ifelse(sent > 0, sent + MORE_MESSAGES, 0))  # none sent: unknown


FEATURES: tuple[Feature, ...] = (
    *(_messages_within("messages", None, span, "messages") for span in (7, 30, 90)),
    _messages_within("emails", "email", 30, "e-mails"),
    _messages_within("pushes", "push", 30, "pushes"),
    Feature(
        "days_since_last_message",
        "days since the last message",
        "messages",
        lambda t: days(t.age.min()),
        age="last",
    ),
    _reactions_within("opens", "opened", 30, "messages opened, as far as pixels tell,"),
    _reactions_within("clicks", "clicked", 30, "messages clicked"),
    _reactions_within("clicks", "clicked", 90, "messages clicked"),
    Feature(
        "click_rate",
        f"share of the last 90 days' messages that were clicked, as if {MORE_MESSAGES} more had brought {MORE_CLICKS}",
        "messages",
        _click_rate,
    ),
    Feature(
        "days_since_last_click",
        "days since the last click in a message",
        "reactions",
        lambda t: days(t.age.min(where=t.event == "clicked")),
        age="last",
    ),
    Feature(
        "messages_since_last_click",
        "messages sent since the last click in one: all where there was none",
        "messages",
        lambda t: t.message_id.nunique(where=t.after_click),
        0,
    ),
    Feature(
        "messages_unanswered",
        "messages in a row, the newest first, that were neither opened nor clicked",
        "messages",
        lambda t: t.message_id.nunique(where=t.after_answer),
        0,
    ),
    _reactions_within("unsubscribed", "unsubscribed", 90, "messages unsubscribed from"),
    _reactions_within("complaints", "complained", 90, "messages called spam"),
    Feature(
        "message_trend",
        "messages a month in the last 30 days over those in the last 90: above 1 is being written to more",
        "features",
        lambda t: div(t.messages_30d * 3, t.messages_90d),
    ),
    Feature(
        "click_trend",
        "messages clicked a month in the last 30 days over those in the last 90: below 1 is tiring",
        "features",
        lambda t: div(t.clicks_30d * 3, t.clicks_90d),
    ),
)
