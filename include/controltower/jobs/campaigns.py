"""Planning, previewing and rehearsing campaigns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.campaigns import approval
from controltower.campaigns import form as trigger_form
from controltower.campaigns.specs import BrokenSpec, Spec, find_spec, load_specs
from controltower.errors import BadSettings
from controltower.jobs import learning, preflight
from controltower.settings import Settings, Shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import sqlalchemy as sa

    from controltower.campaigns.planning import Member, Permissions
    from controltower.data.lake import Reading
    from controltower.ledger.plans import Run

log = logging.getLogger(__name__)


def list_campaigns() -> list[dict[str, Any]]:
    """Every spec: name, title, schedule, channels, and the error of a broken one."""
    return [
        {"name": s.name, "error": s.error}
        if isinstance(s, BrokenSpec)
        else {"name": s.name, "title": s.title, "schedule": s.schedule, "channels": list(s.channels), "error": None}
        for s in load_specs(settings.load().campaigns)
    ]


def plan_campaign(
    campaign: str,
    occasion: str | None = None,
    form: Mapping[str, Any] | None = None,
    trigger_id: str | None = None,
    replan: bool = False,
    asked_by: str | None = None,
) -> dict[str, Any]:
    """Plan today's occurrence and freeze it; planning it again returns the frozen one. Another day is rehearsed only.

    `occasion` is a date (default: today in the shop's zone), `form` what the trigger form changes in the spec,
    `trigger_id` Airflow's run id, `asked_by` who triggered it (none: the schedule). An edited spec makes a new version,
    which leaves out who was already sent to. `replan` plans afresh while nothing was dispatched; later it adds none and
    cancels what is unsent. A plan of more messages than the shop, the spec or the form lets go without a second person
    is frozen with the hold `approval` (jobs/approvals.py).
    """
    from controltower.campaigns.composing import Composer
    from controltower.ledger import plans
    from controltower.ledger.database import begin, reading

    conf = settings.load()
    shop = settings.load_shop(conf)
    spec = trigger_form.apply(find_spec(conf.campaigns, campaign), form, shop)
    day = day_of(occasion) if occasion else clock.today(conf, shop)
    if day != clock.today(conf, shop):
        return _rehearse(conf, shop, spec, day)
    composer = Composer.of(conf, shop, spec)
    for warning in composer.check():
        log.warning("%s: %s", spec.name, warning)
    template = composer.template
    occurrence = day.isoformat()

    def frozen(run: Run | None) -> bool:
        if run is None or replan:
            return False
        return (run.spec_hash, run.content_hash) == (spec.hash, template.content_hash)

    with reading(conf) as ledger:
        previous = plans.current(ledger, campaign, occurrence)
    if previous and frozen(previous):
        return run_report(conf, previous.run_id, note="planned before: nothing added")
    now = clock.now(conf)
    members, policy = gather(conf, shop, spec, now)
    with begin(conf) as ledger:
        occurrence_id = plans.lock_occurrence(ledger, campaign, occurrence, now)
        previous = plans.current(ledger, campaign, occurrence)
        if previous and frozen(previous):  # somebody else planned it meanwhile
            run_id, note = previous.run_id, "planned before: nothing added"
        elif previous and replan and plans.dispatched(ledger, occurrence_id):
            cancelled = plans.cancel_unsent(ledger, occurrence_id, reason="replanned", now=now, superseded=False)
            run_id, note = previous.run_id, f"already dispatched: {cancelled} unsent messages cancelled, none added"
        else:
            if previous:
                plans.cancel_unsent(ledger, occurrence_id, reason="superseded", now=now, superseded=True)
            run_id, hold = _freeze(
                ledger, shop, spec, members, policy, form or {},
                occurrence_id=occurrence_id, occurrence=occurrence, previous=previous, now=now,
                content_hash=template.content_hash, triggered_by=trigger_id, asked_by=asked_by,
            )  # fmt: skip
            note = f"version {previous.version + 1} of this occurrence" if previous else "planned"
            note += {None: "", "approval": ": it waits for approval", "pause": ": paused, as the one before"}[hold]
    return run_report(conf, run_id, note=note)


def preview_campaign(
    campaign: str, customers: int = 3, as_of: str | None = None, customer_ids: Sequence[str] | None = None
) -> dict[str, Any]:
    """What the campaign would do now, with rendered samples. Writes nothing.

    The samples are its first customers' messages; with `customer_ids` what it would do about each of those: the
    message, or the outcome and reason why there is none.
    """
    from controltower.campaigns.composing import Composer
    from controltower.data.lake import Lake
    from controltower.jobs import samples

    conf = settings.load()
    spec = find_spec(conf.campaigns, campaign)
    shop = settings.load_shop(conf)
    moment = clock.parse(as_of, shop) if as_of else clock.now(conf)
    composer = Composer.of(conf, shop, spec)
    plan = _decide_only(conf, shop, spec, moment)
    with Lake(conf).read(moment) as lake:
        if customer_ids is None:
            shown = samples.render(lake, composer, [d for d in plan if d.outcome == "message"][:customers])
        else:
            decided = {d.customer_id: d for d in plan}
            shown = samples.of_customers(lake, composer, decided, customer_ids)
    return _counted(spec, plan) | {"samples": shown}


def cancel_campaign(campaign: str, occasion: str | None = None, by: str | None = None) -> dict[str, Any]:
    """Cancel what is unsent of an occurrence, by default today's; planning it again adds none. What left, left."""
    from controltower.ledger import plans
    from controltower.ledger.database import begin

    conf = settings.load()
    shop = settings.load_shop(conf)
    day = day_of(occasion) if occasion else clock.today(conf, shop)
    with begin(conf) as ledger:
        run = plans.current(ledger, campaign, day.isoformat())
        if run is None:
            raise BadSettings(f"{campaign} has no plan for {day}.", "There is nothing to cancel.")
        now = clock.now(conf)
        cancelled = plans.cancel_unsent(ledger, run.occurrence_id, reason="cancelled", now=now, superseded=False)
    log.info("%s %s: cancelled by %s", campaign, day, by or "somebody")
    return run_report(conf, run.run_id, note=f"{cancelled} unsent messages cancelled")


def _freeze(
    ledger: sa.Connection,
    shop: Shop,
    spec: Spec,
    members: Sequence[Member],
    policy: Mapping[str, Any],
    form: Mapping[str, Any],
    *,
    occurrence_id: int,
    occurrence: str,
    previous: Run | None,
    now: datetime,
    **known: Any,
) -> tuple[int, str | None]:
    """Decide about each member and write the version down. Returns its run id, and why it may not leave yet."""
    from controltower.campaigns.planning import POLICY_VERSION, decide
    from controltower.ledger import plans

    members = with_subjects(ledger, members, now)
    allowed = permissions(ledger, shop, spec, now, occurrence_id)
    despite = bool(form.get("despite_anomaly"))
    odd = preflight.check(ledger, shop, spec, occurrence_id, len(members), policy["made"], now, despite)
    learned = learning.learn(ledger, spec, occurrence, now)
    plan = decide(members, spec, shop, allowed, now, learned)
    messages = sum(d.outcome == "message" for d in plan)
    hold = None
    if approval.must_wait(shop, spec, messages, len(allowed.in_earlier_version)) or (messages and despite):
        hold = "approval"
    elif previous and previous.state == "planned" and plans.run(ledger, previous.run_id).paused:
        hold = "pause"
    run_id = plans.freeze(
        ledger,
        occurrence_id=occurrence_id,
        campaign=spec.name,
        as_of=now,
        now=now,
        spec=spec.model_dump(mode="json"),
        spec_hash=spec.hash,
        policy={**policy, "global_holdout": shop.global_holdout, "form": dict(form), "anomalies": odd}
        | ({"learned": learned.record()} if learned else {}),
        policy_version=POLICY_VERSION,
        expires_in=timedelta(hours=spec.window.expires_hours),
        plan=plan,
        hold=hold,
        **known,
    )
    return run_id, hold


def _rehearse(conf: Settings, shop: Shop, spec: Spec, day: date) -> dict[str, Any]:
    """Decide as of that day's last second, so with the scores that the day's own plan used, and send nothing."""
    log.info("%s on %s is not today's: it is rehearsed, nothing is sent", spec.name, day)
    end = clock.start_of(day + timedelta(days=1), shop) - timedelta(seconds=1)
    plan = _decide_only(conf, shop, spec, end)
    return _counted(spec, plan) | {"occurrence": day.isoformat(), "rehearsed": True}


def _decide_only(conf: Settings, shop: Shop, spec: Spec, moment: datetime) -> list[Any]:
    from controltower.campaigns.planning import decide
    from controltower.ledger.database import rehearsal

    members, _ = gather(conf, shop, spec, moment)
    with rehearsal(conf) as ledger:
        members = with_subjects(ledger, members, moment)
        learned = learning.learn(ledger, spec, moment.astimezone(shop.zone).date().isoformat(), moment)
        return decide(members, spec, shop, permissions(ledger, shop, spec, moment, None), moment, learned)


def gather(conf: Settings, shop: Shop, spec: Spec, as_of: datetime) -> tuple[list[Member], dict[str, Any]]:
    """The audience as of a moment, the highest score first, and the policy's part that all its members share."""
    from controltower.audiences.segments import select
    from controltower.campaigns.planning import Member
    from controltower.data.lake import Lake
    from controltower.ledger import suppressions
    from controltower.ledger.database import reading
    from controltower.profiles.contacts import contacts

    with Lake(conf).read(as_of) as lake:
        features, scores = lake.derived("features"), lake.derived("scores")
        made = {"features": _made(lake, features), "scores": _made(lake, scores)}
        known = features.drop("as_of").join(scores.drop("as_of"), "customer_id", how="left")
        audience = select(known, spec.audience.rules)
        if spec.audience.order_by not in audience.columns:
            raise BadSettings(f"{spec.name}: order_by names no feature or score: {spec.audience.order_by!r}.")
        ordered = audience.order_by(
            audience[spec.audience.order_by].desc(nulls_first=False), audience.customer_id
        ).select("customer_id", "send_hour", "model_version")
        if spec.audience.at_most:
            ordered = ordered.limit(spec.audience.at_most)
        rows = lake.arrow(ordered).to_pylist()
        picks = _picks(lake, spec, [r["customer_id"] for r in rows])
        who = contacts(lake, shop, [r["customer_id"] for r in rows])
    key = conf.signing_key()
    tokens = {d.device_id: suppressions.address_hash(key, d.push_token) for c in who.values() for d in c.devices}
    with reading(conf) as ledger:
        dead = suppressions.dead_devices(ledger, tokens, spec.purpose, as_of)
    members = [
        Member(
            customer_id=r["customer_id"],
            subject_id=0,
            address_hash=suppressions.address_hash(key, contact.email)
            if (contact := who.get(r["customer_id"])) and contact.email
            else None,
            devices=frozenset(d.device_id for d in contact.devices) - dead if contact else frozenset(),
            zone=contact.zone if contact else shop.zone,
            country=contact.country if contact else shop.country,
            send_hour=10 if r["send_hour"] is None else int(r["send_hour"]),
            picks=picks.get(r["customer_id"], ()),
        )
        for r in rows
    ]
    policy = {
        "holdout": spec.holdout,
        "variants": {v.name: v.weight for v in spec.variants},
        "channels": list(spec.channels),
        "models": sorted({r["model_version"] for r in rows if r["model_version"]}),
        "made": {name: at.isoformat() for name, at in made.items() if at},
    }
    return members, policy


def _made(lake: Reading, derived: ir.Table) -> datetime | None:
    """As of when the rows of a derived table were made; None where it is empty."""
    at: datetime | None = lake.arrow(derived.aggregate(at=derived.as_of.max()))["at"][0].as_py()
    return at


def _picks(lake: Reading, spec: Spec, customers: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    from controltower.campaigns.planning import Pick

    recommendations = lake.derived("recommendations")
    wanted = recommendations.filter(
        recommendations.placement == spec.recommend.placement,
        recommendations["rank"] <= spec.recommend.products,
        recommendations.customer_id.isin(list(customers)),
    ).order_by("customer_id", "rank")
    picks: dict[str, list[Pick]] = {}
    for r in lake.arrow(wanted).to_pylist():
        picks.setdefault(r["customer_id"], []).append(
            Pick(r["product_id"], r["algorithm"], r["reason_code"], r["reason_value"])
        )
    return {customer: tuple(chosen) for customer, chosen in picks.items()}


def with_subjects(ledger: sa.Connection, members: Sequence[Member], now: datetime) -> list[Member]:
    from controltower.ledger import plans

    subjects = plans.subject_ids(ledger, [m.customer_id for m in members], now)
    return [replace(m, subject_id=subjects[m.customer_id]) for m in members]


def permissions(ledger: sa.Connection, shop: Shop, spec: Spec, now: datetime, occurrence_id: int | None) -> Permissions:
    """What the ledger says of everybody, by channel of the spec."""
    from controltower.campaigns.planning import Permissions
    from controltower.ledger import caps, consents, plans, suppressions

    capped: dict[str, set[str]] = {c: set() for c in spec.channels}
    for cap in shop.frequency_caps:
        since = now - timedelta(days=cap.days)
        sent = caps.counts(ledger, since, now, channel=cap.channel, but_occurrence=occurrence_id)
        full = {customer for customer, n in sent.items() if n >= cap.most}
        for channel in spec.channels if cap.channel is None else {cap.channel} & set(spec.channels):
            capped[channel] |= full
    return Permissions(
        granted={c: consents.granted(ledger, c, spec.purpose, now) for c in spec.channels},
        night={c: consents.granted(ledger, c, "night_marketing", now) for c in spec.channels},
        suppressed={c: suppressions.held(ledger, "customer", c, spec.purpose, now) for c in spec.channels},
        capped=capped,
        suppressed_addresses=suppressions.held(ledger, "address", "email", spec.purpose, now),
        suppressed_devices=suppressions.held(ledger, "device", "push", spec.purpose, now),
        stored_arms=plans.stored_arms(ledger, spec.name, now),
        in_earlier_version=plans.messaged(ledger, occurrence_id) if occurrence_id else frozenset(),
    )


def run_report(conf: Settings, run_id: int, note: str) -> dict[str, Any]:
    from controltower.ledger import reports
    from controltower.ledger.database import reading

    with reading(conf) as ledger:
        report = reports.totals(ledger, run_id)[0].as_dict()
    log.info("%s %s, run %d: %s", report["campaign"], report["occurrence"], run_id, note)
    return report | {"note": note, "rehearsed": False}


def _counted(spec: Spec, plan: Sequence[Any]) -> dict[str, Any]:
    not_sent: dict[str, int] = {}
    for d in plan:
        if d.outcome == "not_sent":
            not_sent[d.reason] = not_sent.get(d.reason, 0) + 1
    return {
        "campaign": spec.name,
        "audience": len(plan),
        "messages": sum(d.outcome == "message" for d in plan),
        "held_out": sum(d.outcome == "holdout" for d in plan),
        "not_sent": not_sent,
    }


def day_of(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise BadSettings(f"The occasion {text!r} is not a date.", "Write it as 2026-06-15.") from None
    clock.check_year(day)
    return day
