"""What planning, previewing and rehearsing share: what the ledger says of an audience, and the decisions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower.campaigns import approval
from controltower.campaigns.preflight import LAST, Audience, Odd, anomalies, tell
from controltower.campaigns.specs import Spec
from controltower.content import words
from controltower.errors import Anomaly
from controltower.jobs import anomalies as anomalies_of_data
from controltower.settings import Settings
from controltower.shop import Shop

_ACCEPT = " If what was loaded is right, say so: `controltower data accept TABLE --why ...`."

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

    from controltower.campaigns.allocation import Learned
    from controltower.campaigns.planning import Permissions
    from controltower.jobs.gathering import Gathered


def permissions(ledger: sa.Connection, shop: Shop, spec: Spec, now: datetime, occurrence_id: int | None) -> Permissions:
    """What the ledger says of everybody, by channel of the spec."""
    from controltower.campaigns.planning import Permissions
    from controltower.ledger import caps, consents, plans, suppressions

    return Permissions(
        granted={c: consents.granted(ledger, c, spec.purpose, now) for c in spec.channels},
        night={c: consents.granted(ledger, c, "night_marketing", now) for c in spec.channels},
        suppressed={c: suppressions.held(ledger, "customer", c, spec.purpose, now) for c in spec.channels},
        capped=caps.full(ledger, shop.frequency_caps, spec.channels, now, but_occurrence=occurrence_id),
        stored_arms=plans.stored_arms(ledger, spec.name, now),
        in_earlier_version=plans.messaged(ledger, occurrence_id) if occurrence_id else frozenset(),
    )


def learn(ledger: sa.Connection, spec: Spec, occurrence: str, as_of: datetime) -> Learned | None:
    """The shares of an occurrence's variants by what clicks had taught as of then; None where the spec fixes them."""
    from controltower.campaigns.allocation import DAYS, Learned, Result, shares
    from controltower.ledger import reports

    if spec.allocation == "fixed":
        return None
    found = reports.variant_results(ledger, spec.name, as_of - timedelta(days=DAYS), as_of)
    results = {v.name: Result(*found.get(v.name, (0, 0))) for v in spec.variants}
    return Learned(occurrence, shares(results, {v.name: v.weight for v in spec.variants}), results)


def look_over(
    ledger: sa.Connection,
    shop: Shop,
    spec: Spec,
    occurrence_id: int,
    size: int,
    made: Mapping[str, str | None],
    now: datetime,
    despite_anomaly: bool,
) -> list[Odd]:
    """What is odd about an audience of `size`, chosen from `made` (table -> its as_of; none: it is empty), and about
    the data that was loaded.

    Raises Anomaly if anything is, but with `despite_anomaly`: such a plan waits for a second person's approval.
    """
    from controltower.ledger import reports

    earlier = [
        Audience(found["size"], (found["spec"].get("audience") or {}).get("at_most"))
        for found in reports.earlier_audiences(ledger, spec.name, occurrence_id, LAST)
    ]
    odd = anomalies(
        Audience(size, spec.audience.at_most),
        earlier,
        {name: datetime.fromisoformat(at) if at else None for name, at in made.items()},
        now,
        timedelta(hours=shop.stale_after_hours),
    )
    data = anomalies_of_data.standing(ledger, shop, now)
    odd += data
    if odd and not despite_anomaly:
        tick = words.translator(shop.locale)("form.despite_anomaly")  # as the form itself calls it
        raise Anomaly(
            f"{spec.name} isn't planned: {'; '.join(tell(o, shop.zone, 'en') for o in odd)}.",
            "See whether the day's data was loaded and scored, and look at the audience's rules; then trigger it again."
            f"{_ACCEPT if any('interval' in o for o in data) else ''}"
            f" To send all the same, tick `{tick}` (despite_anomaly) in the form, and a second person approves.",
        )
    return odd


def decide_only(conf: Settings, shop: Shop, spec: Spec, moment: datetime) -> pa.Table:
    """What would be decided about each member as of a moment; nothing is written, and no writer waits for it."""
    from controltower.campaigns.planning import decide
    from controltower.jobs.gathering import gather, members_of
    from controltower.ledger import plans
    from controltower.ledger.database import reading

    gathered = gather(conf, shop, spec, moment)
    with reading(conf) as ledger:
        kept = plans.kept_subjects(ledger, gathered.customers)
        subjects = [kept[c] if c in kept else plans.new_subject(c) for c in gathered.customers]
        occurrence = moment.astimezone(shop.zone).date().isoformat()
        learned = learn(ledger, spec, occurrence, moment)
        allowed = permissions(ledger, shop, spec, moment, None)
        members = members_of(ledger, conf.signing_key(), spec, gathered, subjects, moment)
    return decide(members, spec, shop, allowed, moment, occurrence, learned)


def decide_and_freeze(
    ledger: sa.Connection,
    shop: Shop,
    spec: Spec,
    gathered: Gathered,
    form: Mapping[str, Any],
    *,
    occurrence_id: int,
    occurrence: str,
    now: datetime,
    key: bytes,
    **known: Any,
) -> int:
    """Decide about each member and write the version down. Returns its run id.

    Who was erased since the audience was read isn't in it any more; an erasure that begins now waits, as plans do.
    """
    import pyarrow.compute as pc

    from controltower.campaigns.planning import POLICY_VERSION, decide
    from controltower.data.erased import Erased
    from controltower.jobs.gathering import members_of
    from controltower.ledger import erasures, plans

    if gone := Erased(key, frozenset(erasures.recorded(ledger, "customer"))).among(gathered.customers):
        gathered = gathered.without(gone)
    kept = plans.subject_ids(ledger, gathered.customers, now)
    subjects = [kept[customer] for customer in gathered.customers]
    allowed = permissions(ledger, shop, spec, now, occurrence_id)
    members = members_of(ledger, key, spec, gathered, subjects, now)
    policy = gathered.policy
    despite = bool(form.get("despite_anomaly"))
    odd = look_over(ledger, shop, spec, occurrence_id, members.num_rows, policy["made"], now, despite)
    learned = learn(ledger, spec, occurrence, now)
    plan = decide(members, spec, shop, allowed, now, occurrence, learned)
    messages = pc.sum(pc.equal(plan["outcome"], "message")).as_py() or 0
    waits = approval.must_wait(shop, spec, messages, len(allowed.in_earlier_version)) or (messages and despite)
    return plans.freeze(
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
        hold="approval" if waits else None,
        assigned=allowed.stored_arms,
        key=key,
        **known,
    )
