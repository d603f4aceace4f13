"""What was sent to customers, and what people did with it."""

from __future__ import annotations

from datetime import datetime

import ibis
import ibis.expr.types as ir

from controltower.profiles.facts.tables import age
from controltower.profiles.portable import one_if, seconds

REACTIONS = ("opened", "clicked")
OUTRIGHT = frozenset(  # also as a variant: nobody calls a creative so
    ("holdout", "globalholdout", "nothing", "untreated",
     *(f"no{what}" for what in ("mail", "email", "push", "message", "contact", "send", "treatment")))
)  # fmt: skip
NOTHING_SENT = OUTRIGHT | {"control", "controlgroup", "none", "no", "0", "false"}
_BETWEEN = " -_.:/"  # what words are parted by


def nothing_sent(history: ir.Table) -> ir.BooleanValue:
    """Whether a row of `messages_history` says that nothing was sent: a control of a drawn campaign. Never null.

    Its treatment tells. Where there is none, only a variant that says it outright: the `control` of an A/B test is
    often a creative that was sent.
    """
    given, variant = _word(history.treatment), _word(history.variant)
    outright = history.treatment.isnull() & variant.isin(sorted(OUTRIGHT))
    return given.isin(sorted(NOTHING_SENT)).fill_null(False) | outright.fill_null(False)


def _word(said: ir.StringValue) -> ir.StringValue:
    word = said.lower()
    for mark in _BETWEEN:
        word = word.replace(mark, "")
    return word


def sent_by(history: ir.Table, as_of: datetime) -> ir.Table:
    """The rows of `messages_history` that are sends: without the controls."""
    return history.filter(history.sent_at <= as_of, ~nothing_sent(history))


def reactions_of(sent: ir.Table, answered: ir.Table, as_of: datetime) -> ir.Table:
    """What people did with messages; what a program opened or clicked (`"machine": true` in attributes) is left out."""
    told = answered.attributes.replace(" ", "").contains('"machine":true')
    by_people = answered.filter(answered.occurred_at <= as_of, ~told.fill_null(False))
    receivers = sent.select("customer_id", "message_id").distinct()
    joined = by_people.select("message_id", "event", second=seconds(by_people.occurred_at)).inner_join(
        receivers, "message_id"
    )
    return joined.select("customer_id", "message_id", "event", "second", age=age(joined.second, as_of))


def messages_of(sent: ir.Table, reactions: ir.Table, as_of: datetime) -> ir.Table:
    met = reactions.filter(reactions.event.isin(REACTIONS))
    answers = met.group_by("message_id").aggregate(
        clicked=one_if(met.event == "clicked").max(),
        last_click=met.age.min(where=met.event == "clicked"),
    )
    answers = answers.select("clicked", "last_click", answered_id="message_id")
    messages = sent.select("customer_id", "message_id", "channel", age=age(seconds(sent.sent_at), as_of))
    joined = messages.left_join(answers, messages.message_id == answers.answered_id)
    own = ibis.window(group_by="customer_id")
    last_click = joined.last_click.min().over(own)
    last_answered = joined.age.min(where=joined.answered_id.notnull()).over(own)
    return joined.select(
        "customer_id",
        "message_id",
        "channel",
        "age",
        clicked=joined.clicked.fill_null(0) == 1,
        after_click=last_click.isnull() | (joined.age < last_click),
        after_answer=last_answered.isnull() | (joined.age < last_answered),
    )
