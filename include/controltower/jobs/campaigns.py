"""Planning, previewing and rehearsing campaigns."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.campaigns import form as trigger_form
from controltower.campaigns.specs import BrokenSpec, Spec, find_spec, load_specs
from controltower.errors import ControlTowerError
from controltower.garbage import seldom_collected
from controltower.jobs import gathering, planning
from controltower.jobs.control import COMMAND_LINE
from controltower.jobs.runs import day_of, run_report
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

    from controltower.ledger.runs import Run

log = logging.getLogger(__name__)


def list_campaigns() -> list[dict[str, Any]]:
    """Every spec: name, title, schedule, channels, and the error of a broken one."""
    return [
        {"name": s.name, "error": s.error}
        if isinstance(s, BrokenSpec)
        else {"name": s.name, "title": s.title, "schedule": s.schedule, "channels": list(s.channels), "error": None}
        for s in load_specs(settings.load().campaigns)
    ]


@seldom_collected()
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
    which leaves out who was already sent to. `replan` plans afresh while nothing was dispatched, once for a trigger;
    later it adds none and cancels what is unsent. A plan of more messages than the shop, the spec or the form lets go
    without a second person is frozen with the hold `approval` (jobs/approvals.py). A failure is kept: no run shows it.
    """
    conf = settings.load()
    shop = settings.load_shop(conf)
    spec = find_spec(conf.campaigns, campaign)
    day = day_of(conf, occasion)
    if day != clock.today(conf, shop):
        return _rehearse(conf, shop, trigger_form.apply(spec, form, shop), day)
    try:
        return _plan(conf, shop, trigger_form.apply(spec, form, shop), day, form or {}, trigger_id, replan, asked_by)
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # Airflow's time-out isn't an Exception
        why = str(e) if isinstance(e, ControlTowerError) else "the log has more."
        _keep_failure(conf, campaign, day, f"{type(e).__name__}: {why}")
        raise


def _keep_failure(conf: Settings, campaign: str, day: date, why: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from controltower.ledger import planning_failures
    from controltower.ledger.database import begin

    failure = planning_failures.Failure(campaign, day.isoformat(), clock.now(conf), why)
    try:
        with begin(conf) as ledger:
            planning_failures.record(ledger, failure)
    except (ControlTowerError, SQLAlchemyError) as e:  # the ledger may be why the plan failed
        log.error("that %s can't be planned isn't kept: %s", campaign, type(e).__name__)


def _plan(
    conf: Settings,
    shop: Shop,
    spec: Spec,
    day: date,
    form: Mapping[str, Any],
    trigger_id: str | None,
    replan: bool,
    asked_by: str | None,
) -> dict[str, Any]:
    """Plan the occurrence of today, or give the plan that stands."""
    from controltower.campaigns.composing import Composer
    from controltower.ledger import holds, plans, runs
    from controltower.ledger.database import begin, reading

    campaign = spec.name
    composer = Composer.of(conf, shop, spec)
    for warning in composer.check():
        log.warning("%s: %s", spec.name, warning)
    occurrence = day.isoformat()

    def look(ledger: sa.Connection) -> tuple[Run | None, bool]:
        """The newest version, and whether it stands: it is what would be planned now."""
        versions = runs.planned(ledger, campaign=campaign, occurrence=occurrence)
        if not versions:
            return None, False
        again = replan and not any(trigger_id and v.triggered_by == trigger_id for v in versions)  # else a retry
        same = versions[-1].spec_hash == spec.hash and composer.changed_since(versions[-1]) is None
        return versions[-1], same and not again

    with reading(conf) as ledger:
        previous, stands = look(ledger)
    if previous and stands:
        return run_report(conf, previous.run_id, note="planned before: nothing added")
    now = clock.now(conf)
    gathered = gathering.gather(conf, shop, spec, now)
    with begin(conf) as ledger:
        occurrence_id = plans.lock_occurrence(ledger, campaign, occurrence, now)
        now = clock.now(conf)  # what others planned up to here counts for the frequency caps
        previous, stands = look(ledger)
        if previous and stands:  # somebody else planned it meanwhile
            run_id, note = previous.run_id, "planned before: nothing added"
        elif previous and replan and plans.dispatched(ledger, occurrence_id):
            cancelled = plans.cancel_unsent(ledger, occurrence_id, reason="replanned", now=now, superseded=False)
            if previous.state == "planned":
                holds.record(ledger, previous.run_id, previous.plan_hash, "cancelled", asked_by or COMMAND_LINE, now)
            run_id, note = previous.run_id, f"already dispatched: {cancelled} unsent messages cancelled, none added"
        else:
            if previous:
                plans.cancel_unsent(ledger, occurrence_id, reason="superseded", now=now, superseded=True)
            run_id = planning.decide_and_freeze(
                ledger, shop, spec, gathered, form,
                occurrence_id=occurrence_id, occurrence=occurrence, now=now,
                content_hash=composer.template.content_hash, shop_hash=shop.seen_hash, triggered_by=trigger_id,
                asked_by=asked_by, key=conf.signing_key(),
            )  # fmt: skip
            note = f"version {previous.version + 1} of this occurrence" if previous else "planned"
            hold = runs.known(ledger, run_id).hold
            note += {None: "", "approval": ": it waits for approval", "pause": ": paused, as the one before"}[hold]
    return run_report(conf, run_id, note=note)


def preview_campaign(
    campaign: str, customers: int = 3, as_of: str | None = None, customer_ids: Sequence[str] | None = None
) -> dict[str, Any]:
    """What the campaign would do now, with rendered samples. Writes nothing.

    The samples are its first customers' messages; with `customer_ids` what it would do about each of those: the
    message, or the outcome and reason why there is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.campaigns.composing import Composer
    from controltower.data.lake import Lake
    from controltower.jobs import samples
    from controltower.ledger.database import check_key
    from controltower.ledger.decisions import rows

    conf = settings.load()
    check_key(conf)  # the first thing done with a new home may be a preview, which has links
    spec = find_spec(conf.campaigns, campaign)
    shop = settings.load_shop(conf)
    moment = clock.parse(as_of, shop) if as_of else clock.now(conf)
    composer = Composer.of(conf, shop, spec)
    plan = planning.decide_only(conf, shop, spec, moment)
    with Lake(conf).read(moment) as lake:
        if customer_ids is None:
            first = plan.filter(pc.equal(plan["outcome"], "message"))[:customers]
            shown = samples.render(lake, composer, list(rows(first)))
        else:
            asked = plan.filter(pc.is_in(plan["customer_id"], pa.array(customer_ids, pa.string())))
            decided = {d.customer_id: d for d in rows(asked)}
            shown = samples.of_customers(lake, composer, decided, customer_ids)
    return _counted(spec, plan) | {"samples": shown}


def _rehearse(conf: Settings, shop: Shop, spec: Spec, day: date) -> dict[str, Any]:
    """Decide as of that day's last second, so with the scores that the day's own plan used, and send nothing."""
    log.info("%s on %s is not today's: it is rehearsed, nothing is sent", spec.name, day)
    end = clock.start_of(day + timedelta(days=1), shop) - timedelta(seconds=1)
    plan = planning.decide_only(conf, shop, spec, end)
    return _counted(spec, plan) | {"occurrence": day.isoformat(), "rehearsed": True}


def _counted(spec: Spec, plan: pa.Table) -> dict[str, Any]:
    import pyarrow.compute as pc

    outcomes = Counter(plan["outcome"].to_pylist())
    refused = plan.filter(pc.equal(plan["outcome"], "not_sent"))
    return {
        "campaign": spec.name,
        "audience": plan.num_rows,
        "messages": outcomes["message"],
        "held_out": outcomes["holdout"],
        "not_sent": dict(Counter(refused["reason"].to_pylist())),
    }
