"""The second person's decision about a large run: what they are asked, and what becomes of the run.

A run that waits has the hold `approval`. An approval is bound to the plan's hash, and counts only while the spec, the
template and what recipients see of the shop are still what was frozen; else it is void and the run is cancelled. Each
decision is appended to `approvals`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.campaigns import approval, preflight
from controltower.campaigns import form as trigger_form
from controltower.campaigns.specs import Spec, load_specs, validate
from controltower.content import words
from controltower.content.locales import Translate
from controltower.errors import BadSpec, NotAllowed
from controltower.jobs.runs import run_by_id, run_of, run_report
from controltower.ledger import holds
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.ledger.reports import Totals
    from controltower.ledger.runs import Run

log = logging.getLogger(__name__)

# outcome -> what is appended to `approvals`; those not named change nothing
_RECORDED: dict[str, holds.Intervention] = {
    "approved": "approved", "rejected": "rejected", "void": "void", "other_plan": "void", "replaced": "void",
}  # fmt: skip
_CANCELLED_AS = {"rejected": "rejected", "void": "changed_after_planning"}
_NOTES = {
    "approved": "approved: it leaves as planned, unless it is paused",
    "approved_before": "it was approved before: nothing changed",
    "rejected": "rejected: its messages are cancelled. Once the campaign is changed it can be planned again",
    "void": "the approval is void: the campaign, its template or the sender was changed after planning. The run is "
    "cancelled; plan it again",
    "other_plan": "the approval is void: it is for another plan than this run's. The run still waits",
    "replaced": "the approval is void: a newer version took the run's place",
    "superseded": "a newer version took its place: nothing changed",
    "cancelled_before": "it was cancelled before: nothing changed",
    "not_waiting": "it doesn't wait for approval: nothing changed",
}


def approve_campaign(run_id: int, plan_hash: str, decided_by: str) -> dict[str, Any]:
    """Let a run that waits for approval go.

    The report is the run's, with `outcome`: approved, approved_before, void (changed after planning: the run is
    cancelled), other_plan, replaced, cancelled_before or not_waiting. NotAllowed where this person may not decide.
    """
    return _decide(run_id, plan_hash, decided_by, approve=True)


def reject_campaign(run_id: int, decided_by: str) -> dict[str, Any]:
    """Cancel a run that waits for approval. `outcome`: rejected, superseded, cancelled_before or not_waiting."""
    return _decide(run_id, None, decided_by, approve=False)


def question(run_id: int, triggered_by: str | None = None, base_url: str = "") -> dict[str, Any] | None:
    """What the second person is asked about a run, in counts and ids; None where it waits no longer.

    {"subject", "body" (Markdown), "plan_hash", "approvers": [names]}: those named in the settings, without
    whoever asked for the plan or triggered the question; empty where none are named: then anybody else may. NotAllowed
    where nobody is left. `base_url` is where Airflow is reached: the Tower's pages are below it.
    """
    from controltower.ledger import reports, runs
    from controltower.ledger.database import reading

    conf = settings.load()
    shop = settings.load_shop(conf)
    with reading(conf) as ledger:
        run = runs.known(ledger, run_id)
        (counts,) = reports.totals(ledger, [run_id])
        channels = reports.due(ledger, run_id)
    if counts.hold != "approval":
        return None
    askers = list(dict.fromkeys(who for who in (run.asked_by, triggered_by) if who))
    left = [n for n in conf.approver_names if not any(approval.same_person(n, asker) for asker in askers)]
    if conf.approver_names and not left:
        raise NotAllowed(
            f"Nobody is left to approve run {run_id}: {' and '.join(askers)} asked for it.",
            "Name another of Airflow's users in CONTROLTOWER_APPROVERS, then clear this task.",
        )
    t = words.translator(shop.locale)
    title, n = run.spec.get("title", run.campaign), f"{counts.messages:,}"
    samples = f"{base_url.rstrip('/')}/plugin/tower/tower/runs/{run_id}/samples"
    return {
        "subject": t("question.subject", title=title, occasion=run.occurrence, n=n),
        "body": "\n".join(_lines(shop, run, counts, channels, samples, t)),
        "approvers": left,
        "plan_hash": run.plan_hash,
    }


def _lines(
    shop: Shop, run: Run, counts: Totals, channels: Mapping[str, tuple[int, datetime, datetime]], samples: str,
    t: Translate,
) -> list[str]:  # fmt: skip
    """The question in Markdown, in the shop's language."""
    rows = [(t("question.audience"), counts.audience)]
    rows += [(t("question.messages", channel=words.word(t, "channel", c)), n) for c, (n, _, _) in channels.items()]
    rows += [(t("question.held_out"), counts.held_out)]
    rows += [
        (t("question.not_sent", reason=words.word(t, "reason", reason)), n)
        for reason, n in sorted(counts.not_sent.items())
    ]
    first, last = min(c[1] for c in channels.values()), max(c[2] for c in channels.values())
    limit = approval.threshold(shop, validate(dict(run.spec), f"run {run.run_id}"))
    about = t(
        "question.about", campaign=run.campaign, occasion=run.occurrence, version=run.version,
        by=run.asked_by or t("question.by_schedule"),
    )  # fmt: skip
    why = [t("question.why", n=f"{limit:,}")] if limit is not None else []
    odd = [preflight.tell(found, shop.zone, shop.locale) for found in run.policy.get("anomalies", [])]
    return [
        " ".join([about, *why, *(t("question.unusual", what=what) for what in odd)]),
        "",
        "| | |",
        "|---|---:|",
        *(f"| {name} | {n:,} |" for name, n in rows),
        "",
        t(
            "question.sender",
            name=shop.sender.name,
            email=shop.sender.email,
            to=shop.sender.reply_to or shop.sender.email,
        ),
        "",
        t("question.due", first=clock.show(first, shop.zone), last=clock.show(last, shop.zone)),
        "",
        t("question.samples", address=samples, run=run.run_id, plan=(run.plan_hash or "")[:12]),
        "",
        t("question.without"),
    ]


def _who(conf: Settings, asked_by: str | None) -> str:
    others = [name for name in conf.approver_names if not (asked_by and approval.same_person(name, asked_by))]
    return " or ".join(others) or "somebody else, named in CONTROLTOWER_APPROVERS"


def newest_run(campaign: str, occasion: str | None = None) -> dict[str, Any]:
    """The newest run of an occurrence, by default today's, as plan_campaign reports it: `hold` says if it waits."""
    from controltower.ledger.database import reading

    conf = settings.load()
    with reading(conf) as ledger:
        run = run_of(ledger, conf, campaign, occasion)
    return run_report(conf, run.run_id, note="the newest version")


def _decide(run_id: int, plan_hash: str | None, decided_by: str, *, approve: bool) -> dict[str, Any]:
    from controltower.ledger import plans, runs
    from controltower.ledger.database import begin

    conf = settings.load()
    shop = settings.load_shop(conf)
    now = clock.now(conf)
    with begin(conf) as ledger:
        run_by_id(ledger, run_id)
        holds.standing(ledger, run_id)  # locks it: until this commits, nobody else decides, pauses or plans anew
        run = runs.known(ledger, run_id)
        refused = approval.refusal(decided_by, run.asked_by, conf.approver_names)
        if refused:
            raise NotAllowed(
                f"{decided_by or 'Nobody'} can't decide about run {run_id}: {refused}.",
                f"Ask {_who(conf, run.asked_by)}.",
            )
        outcome = _approve(ledger, conf, shop, run, plan_hash) if approve else _reject(run)
        if decision := _RECORDED.get(outcome):
            holds.record(ledger, run_id, plan_hash or run.plan_hash, decision, decided_by, now)
        if outcome == "approved":
            holds.set_hold(ledger, run_id, None)
        if reason := _CANCELLED_AS.get(outcome):
            plans.cancel_unsent(ledger, run.occurrence_id, reason=reason, now=now, superseded=False, freed=True)
    log.info("run %d: %s by %s", run_id, outcome, decided_by)
    return run_report(conf, run_id, note=_NOTES[outcome]) | {"outcome": outcome, "decided_by": decided_by}


def _approve(ledger: sa.Connection, conf: Settings, shop: Shop, run: Run, plan_hash: str | None) -> str:
    """What an approval comes to, as the run stands."""
    if run.state in holds.GONE:
        return "replaced" if run.state == "superseded" else holds.GONE[run.state]
    if run.hold != "approval":
        return "approved_before" if holds.was_approved(ledger, run.run_id) else "not_waiting"
    if plan_hash != run.plan_hash:
        return "other_plan"
    return "void" if _changed(conf, shop, run) else "approved"


def _reject(run: Run) -> str:
    if run.state in holds.GONE:
        return holds.GONE[run.state]
    return "rejected" if run.hold == "approval" else "not_waiting"


def _changed(conf: Settings, shop: Shop, run: Run) -> bool:
    """Whether the campaign, its template or the sender, read now with the same form, isn't what was frozen."""
    from controltower.campaigns.composing import Composer

    spec = next((s for s in load_specs(conf.campaigns) if s.name == run.campaign), None)
    if not isinstance(spec, Spec):
        return True
    try:
        now = trigger_form.apply(spec, run.policy.get("form"), shop)
        return now.hash != run.spec_hash or Composer.of(conf, shop, now).changed_since(run) is not None
    except BadSpec:
        return True
