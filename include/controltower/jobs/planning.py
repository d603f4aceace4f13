"""What planning, previewing and rehearsing share: the audience, what the ledger says of it, and the decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from controltower.campaigns import approval
from controltower.campaigns.preflight import LAST, Audience, Odd, anomalies, tell
from controltower.campaigns.specs import Spec
from controltower.content import words
from controltower.errors import Anomaly, BadSettings
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa
    import sqlalchemy as sa

    from controltower.campaigns.allocation import Learned
    from controltower.campaigns.planning import Member, Permissions, Pick
    from controltower.data.lake import Reading
    from controltower.ledger.plans import Decision

_PICK = ["product_id", "algorithm", "reason_code", "reason_value"]


def gather(conf: Settings, shop: Shop, spec: Spec, as_of: datetime) -> tuple[list[Member], dict[str, Any]]:
    """The audience as of a moment, the highest score first, and the policy's part that all its members share."""
    from controltower.audiences.segments import select
    from controltower.campaigns.planning import Member
    from controltower.data.lake import Lake
    from controltower.ledger import plans, suppressions
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
        chosen = lake.arrow(ordered)
        customers = chosen["customer_id"].to_pylist()
        picks = _picks(lake, spec, chosen["customer_id"])
        who = contacts(lake, shop, customers, attributes=())
    key = conf.signing_key()
    tokens = {d.device_id: suppressions.address_hash(key, d.push_token) for c in who.values() for d in c.devices}
    with reading(conf) as ledger:
        dead = suppressions.dead_devices(ledger, tokens, spec.purpose, as_of)
        kept = plans.kept_subjects(ledger, customers)
    members = [
        Member(
            customer_id=customer,
            subject_id=kept[customer] if customer in kept else plans.new_subject(customer),
            address_hash=suppressions.address_hash(key, contact.email)
            if (contact := who.get(customer)) and contact.email
            else None,
            devices=frozenset([d.device_id for d in contact.devices]) - dead if contact else frozenset(),
            zone=contact.zone if contact else shop.zone,
            country=contact.country if contact else shop.country,
            send_hour=10 if hour is None else int(hour),
            picks=chosen_for,
        )
        for customer, hour, chosen_for in zip(customers, chosen["send_hour"].to_pylist(), picks, strict=True)
    ]
    policy = {
        "holdout": spec.holdout,
        "variants": {v.name: v.weight for v in spec.variants},
        "channels": list(spec.channels),
        "models": sorted(filter(None, chosen["model_version"].unique().to_pylist())),
        "made": {name: at.isoformat() if at else None for name, at in made.items()},
    }
    return members, policy


def _made(lake: Reading, derived: ir.Table) -> datetime | None:
    """As of when the rows of a derived table were made; None where it is empty."""
    at: datetime | None = lake.arrow(derived.aggregate(at=derived.as_of.max()))["at"][0].as_py()
    return at


def _picks(lake: Reading, spec: Spec, customers: pa.ChunkedArray) -> list[tuple[Pick, ...]]:
    """Each customer's products, in the order of the customers. Many share a pick: each is made once."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.campaigns.planning import Pick

    recommendations = lake.derived("recommendations")
    wanted = recommendations.filter(
        recommendations.placement == spec.recommend.placement, recommendations["rank"] <= spec.recommend.products
    )
    found = lake.arrow(wanted.select("customer_id", "rank", *_PICK))
    place = pc.index_in(found["customer_id"], customers)
    found = found.append_column("place", place).filter(place.is_valid())
    code = np.zeros(found.num_rows, np.int64)
    for column in _PICK:  # a number for each pick that there is
        values = pc.dictionary_encode(found[column], null_encoding="encode").combine_chunks()
        code = code * max(len(values.dictionary), 1) + values.indices.to_numpy()
    _, first, code = np.unique(code, return_index=True, return_inverse=True)
    distinct = [Pick(*row.values()) for row in found.select(_PICK).take(pa.array(first)).to_pylist()]
    places = found["place"].to_numpy()
    order = np.lexsort((found["rank"].to_numpy(), places))
    ends = np.cumsum(np.bincount(places, minlength=len(customers)))
    picks = [distinct[n] for n in code[order].tolist()]
    return [tuple(picks[begin:end]) for begin, end in pairwise([0, *ends.tolist()])]


def permissions(ledger: sa.Connection, shop: Shop, spec: Spec, now: datetime, occurrence_id: int | None) -> Permissions:
    """What the ledger says of everybody, by channel of the spec."""
    from controltower.campaigns.planning import Permissions
    from controltower.ledger import caps, consents, plans, suppressions

    return Permissions(
        granted={c: consents.granted(ledger, c, spec.purpose, now) for c in spec.channels},
        night={c: consents.granted(ledger, c, "night_marketing", now) for c in spec.channels},
        suppressed={c: suppressions.held(ledger, "customer", c, spec.purpose, now) for c in spec.channels},
        capped=caps.full(ledger, shop.frequency_caps, spec.channels, now, but_occurrence=occurrence_id),
        suppressed_addresses=suppressions.held(ledger, "address", "email", spec.purpose, now),
        suppressed_devices=suppressions.held(ledger, "device", "push", spec.purpose, now),
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
    """What is odd about an audience of `size`, chosen from `made` (table -> its as_of; none: it is empty).

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
    if odd and not despite_anomaly:
        tick = words.translator(shop.locale)("form.despite_anomaly")  # as the form itself calls it
        raise Anomaly(
            f"{spec.name} isn't planned: {'; '.join(tell(o, shop.zone, 'en') for o in odd)}.",
            "See whether the day's data was loaded and scored, and look at the audience's rules; then trigger it again."
            f" To send all the same, tick `{tick}` (despite_anomaly) in the form, and a second person approves.",
        )
    return odd


def decide_only(conf: Settings, shop: Shop, spec: Spec, moment: datetime) -> list[Decision]:
    """What would be decided about each member as of a moment; nothing is written, and no writer waits for it."""
    from controltower.campaigns.planning import decide
    from controltower.ledger.database import reading

    members, _ = gather(conf, shop, spec, moment)
    with reading(conf) as ledger:
        learned = learn(ledger, spec, moment.astimezone(shop.zone).date().isoformat(), moment)
        allowed = permissions(ledger, shop, spec, moment, None)
    return decide(members, spec, shop, allowed, moment, learned)


def freeze(
    ledger: sa.Connection,
    shop: Shop,
    spec: Spec,
    members: Sequence[Member],
    policy: Mapping[str, Any],
    form: Mapping[str, Any],
    *,
    occurrence_id: int,
    occurrence: str,
    now: datetime,
    **known: Any,
) -> int:
    """Decide about each member and write the version down. Returns its run id."""
    from controltower.campaigns.planning import POLICY_VERSION, decide
    from controltower.ledger import plans

    subjects = plans.subject_ids(ledger, [m.customer_id for m in members], now)
    members = [
        m if m.subject_id == subjects[m.customer_id] else m._replace(subject_id=subjects[m.customer_id])
        for m in members
    ]
    allowed = permissions(ledger, shop, spec, now, occurrence_id)
    despite = bool(form.get("despite_anomaly"))
    odd = look_over(ledger, shop, spec, occurrence_id, len(members), policy["made"], now, despite)
    learned = learn(ledger, spec, occurrence, now)
    plan = decide(members, spec, shop, allowed, now, learned)
    messages = sum(d.outcome == "message" for d in plan)
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
        **known,
    )
