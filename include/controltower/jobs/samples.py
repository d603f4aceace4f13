"""Rendered samples of a campaign's messages: before it runs, and of a frozen run.

A sample: customer_id, outcome, reason, variant, channel, due_at, and subject, html, text of an e-mail or title, body of
a push or in-app message. Without a message there is only the outcome with its reason: `holdout`, `not_sent` (both from
the decision), `not_in_audience`, `no_data` (known, without features), `unknown_customer`, `not_composed`. The links in
it belong to no message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.campaigns import specs
from controltower.errors import BadSpec
from controltower.jobs.runs import run_by_id

if TYPE_CHECKING:
    from controltower.campaigns.composing import Composer
    from controltower.data.lake import Reading
    from controltower.ledger.decisions import Decision

_NO_MESSAGE = "0" * 32  # the message id in a sample's links: no message has it


def sample_run(run_id: int, customers: int = 3) -> dict[str, Any]:
    """Messages of a frozen run as they would leave now: first one of each variant on each channel, then others.

    Gives the run's counts as plan_campaign does, `template_changed` and `samples`. BadSettings where there is no such
    run, BadSpec where its template is gone or broken.
    """
    from controltower.campaigns.composing import Composer
    from controltower.data.lake import Lake
    from controltower.ledger import plans, reports
    from controltower.ledger.database import reading

    conf = settings.load()
    shop = settings.load_shop(conf)
    with reading(conf) as ledger:
        run = run_by_id(ledger, run_id)
        chosen = plans.varied(ledger, run_id, customers)
        (counts,) = reports.totals(ledger, [run_id])
    composer = Composer.of(conf, shop, specs.validate(dict(run.spec), f"run {run_id}"))
    with Lake(conf).read(clock.now(conf)) as lake:
        samples = render(lake, composer, chosen)
    changed = composer.changed_since(run) is not None
    return counts.as_dict() | {"template_changed": changed, "samples": samples}


def render(lake: Reading, composer: Composer, decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """One sample for each decision, in their order."""
    from controltower.campaigns.composing import catalogue
    from controltower.profiles.contacts import contacts

    messages = [d for d in decisions if d.outcome == "message"]
    who = contacts(lake, composer.shop, [d.customer_id for d in messages])
    items = catalogue(lake, sorted({p["product_id"] for d in messages for p in d.choices["products"]}))

    def sample(d: Decision) -> dict[str, Any]:
        about = {"variant": d.arm, "channel": d.channel, "due_at": d.due_at.isoformat() if d.due_at else None}
        if d.outcome != "message":
            return _bare(d.customer_id, d.outcome, d.reason) | about
        if d.customer_id not in who:
            return _bare(d.customer_id, "not_sent", "customer_gone") | about
        context = composer.context(who[d.customer_id], d.choices["products"], items, _NO_MESSAGE)
        try:
            return _bare(d.customer_id, "message") | about | _words(composer, context, d)
        except BadSpec as e:
            return _bare(d.customer_id, "not_composed", e.what) | about

    return [sample(d) for d in decisions]


def of_customers(
    lake: Reading, composer: Composer, decided: Mapping[str, Decision], customer_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """A sample for each of these customers, in their order, whether the campaign has a message for them or not."""
    asked = list(dict.fromkeys(customer_ids))
    rendered = render(lake, composer, [decided[c] for c in asked if c in decided])
    found = {sample["customer_id"]: sample for sample in rendered}
    others = [c for c in asked if c not in decided]
    known, with_features = (
        _present(lake, table, others) for table in (lake.table("customers"), lake.derived("features"))
    )
    for customer in others:
        if customer in with_features:
            found[customer] = _bare(customer, "not_in_audience", "its rules or size leave this customer out")
        elif customer in known:
            found[customer] = _bare(customer, "no_data", "no features as of this moment")
        else:
            found[customer] = _bare(customer, "unknown_customer", "not known as of this moment")
    return [found[c] for c in asked]


def _words(composer: Composer, context: Any, d: Decision) -> dict[str, Any]:
    assert d.arm is not None  # a message has one
    if d.channel == "email":
        email = composer.email(context, d.arm)
        return {"subject": email.subject, "html": email.html, "text": email.text}
    shown = composer.push(context, d.arm) if d.channel == "push" else composer.in_app(context, d.arm)
    return {"title": shown.title, "body": shown.body}


def _bare(customer: str, outcome: str, reason: str | None = None) -> dict[str, Any]:
    return {
        "customer_id": customer, "outcome": outcome, "reason": reason, "variant": None, "channel": None, "due_at": None,
    }  # fmt: skip


def _present(lake: Reading, table: Any, customers: Sequence[str]) -> set[str]:
    rows = table.filter(table.customer_id.isin(list(customers))).select("customer_id") if customers else None
    return set() if rows is None else set(lake.arrow(rows)["customer_id"].to_pylist())
