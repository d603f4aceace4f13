"""The demo's last words: what the ledger says, what the sandbox says, what came back, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx
import sqlalchemy as sa
from controltower import clock
from controltower.jobs.measurement import report_campaign
from controltower.jobs.summary import summarise
from controltower.ledger.database import reading
from controltower.ledger.tables import batches, campaign_runs, decisions, delivery_events, messages
from controltower.measurement.wording import shown, tell
from controltower.settings import Settings, load_shop

# After these no mail is planned for a customer. A blocked mail (a full mailbox, say) doesn't close an address.
_event = delivery_events.c
NO_MORE = {
    "unsubscribed from": _event.event == "unsubscribed",
    "bounced for good": sa.and_(_event.event == "bounced", _event.detail["type"].as_string() == "bounce"),
}


def inbox_counts(url: str) -> dict[str, int] | None:
    """The sandbox's own count; None while it doesn't answer."""
    try:
        counts: dict[str, int] = httpx.get(f"{url}/api/summary", timeout=10, trust_env=False).raise_for_status().json()
    except httpx.HTTPError:
        return None
    return counts


def report(here: Settings, inbox: str, known_when_planned: Sequence[int]) -> list[str]:
    """Print the summary; returns what doesn't add up."""
    moment = clock.now(here).replace(microsecond=0)  # one for all figures: customers go on answering
    total = summarise()
    caught = inbox_counts(inbox) or {}
    print(f"\n{total['shop']}, as of {moment.astimezone(load_shop(here).zone).isoformat()}")
    for note in total["simulated"]:
        print(f"  ({note})")
    _line("customers", total["customers"])
    _line("known when planned", ", ".join(f"{n:,}" for n in known_when_planned))
    for run in total["runs"]:
        print(f"\n  {run['campaign']}, occurrence {run['occurrence']}, version {run['version']} ({run['state']})")
        _figures(run)
        if datetime.fromisoformat(run["as_of"]) > moment:  # of an earlier demo of this home that lived more days
            _line("what came back", "later than the shop's clock shows")
        else:
            _worth(report_campaign(run["campaign"], run_id=run["run_id"], as_of=moment.isoformat()))
    print("\n  all campaigns")
    _figures(total)
    print("\n  inbox (the sandbox's own count)")
    for name in ("mails", "pushes", "message_ids", "duplicates"):
        _line(name.replace("_", " "), caught.get(name, "no answer"))
    print("\n  models")
    _models(total["models"])
    print("\n  learned")
    wrong = []
    for what, event in NO_MORE.items():
        people, later = written_to_after(here, event)
        _line(what, f"{people:,} customers; messages planned for them afterwards: {later:,}")
        if later:
            wrong.append(f"{later} messages were planned for customers with a mail that was {what}")
    return disagreements(total, caught) + wrong


def written_to_after(here: Settings, event: sa.ColumnElement[bool]) -> tuple[int, int]:
    """How many customers had an event with a mail, and how many mails were planned for them once it was known."""
    m, e, d, r = messages.c, delivery_events.c, decisions.c, campaign_runs.c
    known = (
        sa.select(m.customer_id, sa.func.min(e.received_at).label("since"))
        .join(delivery_events, e.message_id == m.message_id)
        .join(batches, batches.c.batch_id == m.batch_id)
        .where(event, batches.c.channel == "email")
        .group_by(m.customer_id)
        .subquery()
    )
    later = (
        sa.select(sa.func.count())
        .select_from(known)
        .join(decisions, d.customer_id == known.c.customer_id)
        .join(campaign_runs, r.run_id == d.run_id)
        .where(d.outcome == "message", d.channel == "email", r.planned_at > known.c.since)
    )
    with reading(here) as ledger:
        people = ledger.execute(sa.select(sa.func.count()).select_from(known)).scalar_one()
        return people, ledger.execute(later).scalar_one()


def disagreements(total: Mapping[str, Any], caught: Mapping[str, int]) -> list[str]:
    """Every way in which the ledger and the sandbox contradict each other or themselves."""
    accepted = sum(total["accepted"].values())
    mails = total["accepted"].get("sendgrid", 0)
    found = []
    if not caught:
        found.append("the sandbox doesn't answer")
    elif caught["message_ids"] != accepted:
        found.append(f"the ledger counts {accepted} accepted messages, the sandbox {caught['message_ids']}")
    elif caught["mails"] != mails:
        found.append(f"the ledger counts {mails} accepted mails, the sandbox {caught['mails']}")
    if caught.get("duplicates"):
        found.append(f"{caught['duplicates']} messages reached the inbox twice")
    if not total["runs"]:
        found.append("no campaign was planned")
    found += [
        f"{run['campaign']} {run['occurrence']}: members of the audience without an outcome"
        for run in total["runs"]
        if not run["accounted"]
    ]
    if total["pending"]:
        found.append(f"{total['pending']} messages still wait")
    return found


def _models(models: Mapping[str, Mapping[str, Any]]) -> None:
    for name, model in models.items():
        ours, theirs = model["metrics"], model["baseline_metrics"]
        figures = ", ".join(f"{m} {ours[m]:.3f} ({theirs[m]:.3f})" for m in ours if m in theirs)
        compared = f"{model['serves']} serves; {model['challenger']} (baseline {model['baseline']})"
        _line(name, f"{compared}: {figures}" if figures else f"{compared}: nothing to judge by yet")


def _figures(figures: Mapping[str, Any]) -> None:
    _line("audience", figures["audience"])
    _line("held out", figures["held_out"])
    _each("not sent", figures["not_sent"])
    _each("accepted", figures["accepted"])
    _each("rejected", figures["rejected"])
    for name in ("unknown", "cancelled"):
        if figures[name]:
            _line(name, figures[name])


def _worth(found: Mapping[str, Any]) -> None:
    """What came back for a run, and what it was worth."""
    figures, units = found["levels"][0]["figures"], {k["name"]: k["unit"] for k in found["kpis"]}
    told = tell(found, "en")
    for name in ("delivered", "opened", "clicked", "unsubscribed", "bounced", "ordered", "revenue"):
        value, reason = figures[name]["value"], figures[name]["reason"]
        why = f"  ({told['no_figure'][reason]})" if reason else ""
        _line(name, shown(value, units[name], found["currency"]) + why)
    _line("difference to holdout", _difference(found["readout"], told["verdict"]))


def _difference(readout: Mapping[str, Any], verdict: str) -> str:
    if readout["difference"] is None:
        return f"{verdict} (why: on the run's page)"
    share = "{:+.1f}".format
    between = f"{share(100 * readout['low'])} to {share(100 * readout['high'])}"
    return f"{share(100 * readout['difference'])} % points ordered (95 % interval {between}): {verdict}"


def _each(title: str, counts: Mapping[str, int]) -> None:
    if counts:
        _line(title, f"{sum(counts.values()):,}  ({', '.join(f'{name} {n:,}' for name, n in counts.items())})")


def _line(title: str, value: Any) -> None:
    print(f"    {title:<22} {f'{value:,}' if isinstance(value, int) else value}")
