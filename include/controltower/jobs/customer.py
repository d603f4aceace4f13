"""Everything that is known of one customer as of a moment: `controltower customer show`. It reads only.

What it returns is personal data for the person who asks: nothing of it is logged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from controltower import clock, settings
from controltower.errors import ControlTowerError, NoData
from controltower.jobs.inference import of_one, profile_of
from controltower.jobs.privacy import check_not_erased
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import sqlalchemy as sa

    from controltower.data.lake import Reading
    from controltower.ledger.customers import Decided
    from controltower.ledger.suppressions import Suppression

SHOWN: Final = 50  # entries of the timeline
_ADDRESSES = {"email", "phone", "push_token", "ad_id", "attributes"}  # columns that are masked whole
_MAIL = re.compile(r"[^\s@<>\"',;]+@[^\s@<>\"',;]+")


def show_customer(
    customer: str, as_of: str | None = None, *, shown: int = SHOWN, unmasked: bool = False
) -> dict[str, Any]:
    """What was known of a customer as of a moment (now): nothing that was received later.

    Returns {customer, as_of, identity {ids, visitors, attributes, devices}, consents, suppressions, lifted, timeline
    {shown, more {kind: number}}, profile (see `inference.profile_of`), features [{name, value, means}], features_as_of,
    scores, recommendations, messages}.
    Addresses are masked unless `unmasked`. What no stage has made by then is empty. Raises ControlTowerError for an id
    that nobody had by then.
    """
    from controltower.data.lake import Lake
    from controltower.ledger import customers
    from controltower.ledger.database import reading

    conf = settings.load()
    shop = settings.load_shop(conf)
    moment = clock.parse(as_of, shop) if as_of else clock.now(conf)
    with Lake(conf).read(moment) as lake, reading(conf) as ledger:
        check_not_erased(conf, ledger, customer)
        ids = customers.ids_of(ledger, customer, moment)
        decided = customers.decided(ledger, ids, moment)
        identity = _identity(lake, ids)
        consents = _consents(ledger, ids, moment)
        counted, entries = _timeline(lake, ledger, ids, decided, moment, shown)
        if not (identity["attributes"] or consents or decided or entries):
            raise ControlTowerError(
                f"No such customer was known as of {clock.show(moment, shop.zone)}.",
                "Check the id, or ask for a later moment.",
            )
        report = {
            "customer": customer,
            "as_of": moment.isoformat(),
            "identity": identity,
            "consents": consents,
            **_suppressions(conf, ledger, lake, shop, ids, moment),
            "timeline": {"shown": entries, "more": counted},
            "profile": profile_of(conf, lake, ids, moment),
            **_derived(lake, ids),
            "messages": [_told(row) for row in decided],
        }
    return report if unmasked else masked(report)


def masked(value: Any, column: str = "") -> Any:
    """The same without addresses: their letters are x and their digits 9."""
    if isinstance(value, Mapping):
        return {name: masked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, column) for inner in value]
    if not isinstance(value, str) or column == "model_version":
        return value
    return _veiled(value) if column in _ADDRESSES else _MAIL.sub(lambda found: _veiled(found[0]), value)


def _veiled(text: str) -> str:
    return "".join("9" if c.isnumeric() else "x" if c.isalpha() else c for c in text)


def _identity(lake: Reading, ids: Sequence[str]) -> dict[str, Any]:
    """The ids, the visitors that were seen with them, what the shop tells of them, and their devices."""
    visitors: set[str] = set()
    for table in ("events", "identities"):
        rows = lake.table(table)
        seen = rows.filter(rows.customer_id.isin(ids), rows.visitor_id.notnull()).select("visitor_id").distinct()
        visitors.update(lake.arrow(seen)["visitor_id"].to_pylist())
    return {
        "ids": list(ids),
        "visitors": sorted(visitors),
        "attributes": _rows(lake, _theirs(lake, "customers", ids).order_by("customer_id")),
        "devices": _rows(lake, _theirs(lake, "devices", ids).order_by("device_id")),
    }


def _consents(ledger: sa.Connection, ids: Sequence[str], as_of: datetime) -> list[dict[str, Any]]:
    from controltower.ledger import consents

    said = consents.standing(ledger, ids, as_of)
    return [
        {
            "customer_id": customer, "channel": channel, "purpose": purpose, "holds": word.holds,
            "said": "granted" if word.granted else "withdrawn", "since": word.since.isoformat(),
        }
        for (customer, channel, purpose), word in sorted(said.items())
    ]  # fmt: skip


def _suppressions(
    conf: Settings, ledger: sa.Connection, lake: Reading, shop: Shop, ids: Sequence[str], as_of: datetime
) -> dict[str, Any]:
    """What kept them from being written to at that moment, and what had been lifted by then."""
    from controltower.ledger import suppressions
    from controltower.ledger.suppressions import address_hash
    from controltower.profiles.contacts import contacts

    key, found = conf.signing_key(), contacts(lake, shop, ids).values()
    devices = [device for contact in found for device in contact.devices]
    reached = [contact.email for contact in found if contact.email] + [device.push_token for device in devices]
    values = {
        "customer": list(ids),
        "device": [device.device_id for device in devices],
        "address": [address_hash(key, address) for address in reached],
    }
    lifted = [s for s in suppressions.lifted(ledger, values) if s.until and s.until <= as_of]
    return {
        "suppressions": [_suppressed(s, as_of) for s in suppressions.of(ledger, values, as_of)],
        "lifted": [_suppressed(s, as_of) for s in lifted],
    }


def _suppressed(s: Suppression, as_of: datetime) -> dict[str, Any]:
    """Who lifted it, and so when it ended, wasn't known before."""
    shown = {
        "kind": s.kind, "channel": s.channel or "all", "purpose": s.purpose or "all", "reason": s.reason,
        "source": s.source, "since": s.created_at.isoformat(),
    }  # fmt: skip
    if s.until and (s.lifted_by is None or s.until <= as_of):
        shown["until"] = s.until.isoformat()
    return shown | ({"lifted_by": s.lifted_by} if s.lifted_by and s.until and s.until <= as_of else {})


def _timeline(
    lake: Reading, ledger: sa.Connection, ids: Sequence[str], decided: Sequence[Decided], as_of: datetime, most: int
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """The newest `most` of what happened, and how much more there was, by kind."""
    from controltower.ledger import customers
    from controltower.profiles.facts.messages import sent_by

    entries: list[dict[str, Any]] = []
    counts: dict[str, int] = {}

    def take(kind: str, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        counts[kind] = counts.get(kind, 0) + number
        entries.extend({"kind": kind, **row} for row in rows)

    orders, events = _theirs(lake, "orders", ids), _theirs(lake, "events", ids)
    sent = sent_by(_theirs(lake, "messages_history", ids), as_of)  # not what was kept from them as controls
    answers = lake.table("message_events")
    answered = answers.inner_join(sent.select("message_id", "channel", "campaign").distinct(), "message_id")
    ours = {row.message_id: row for row in decided if row.message_id}
    take("order", *_newest(lake, orders, "ordered_at", most, "order_id", "status", "channel", "coupon_code"))
    take("event", *_newest(lake, events, "occurred_at", most, "event_name", "product_id", "query", "value"))
    left = [
        {"at": row.at.isoformat(), "message_id": row.message_id, "channel": row.channel, "campaign": row.campaign}
        for row in ours.values()
        if row.state == "accepted" and row.at
    ]
    take("message", len(left), left)
    told = customers.reactions(ledger, list(ours), as_of)
    came = [
        {"at": e.occurred_at.isoformat(), "message_id": e.message_id, "event": e.event, "machine": e.machine,
         "channel": ours[e.message_id].channel, "campaign": ours[e.message_id].campaign}
        for e in told
    ]  # fmt: skip
    take("reaction", len(came), came)
    # of another system: what left here comes back into the lake, under the same ids
    others, back = (t.filter(~t.message_id.isin(list(ours))) if ours else t for t in (sent, answered))
    take("message", *_newest(lake, others, "sent_at", most, "message_id", "channel", "campaign"))
    take("reaction", *_newest(lake, back, "occurred_at", most, "message_id", "event", "channel", "campaign"))
    entries.sort(key=lambda entry: datetime.fromisoformat(entry["at"]), reverse=True)
    for entry in entries[:most]:
        counts[entry["kind"]] -= 1
    return {kind: number for kind, number in counts.items() if number}, entries[:most]


def _newest(lake: Reading, rows: ir.Table, happened: str, most: int, *columns: str) -> tuple[int, list[dict[str, Any]]]:
    number = int(lake.arrow(rows.aggregate(n=rows.count()))["n"][0].as_py())
    chosen = rows.select(at=rows[happened], **{name: rows[name] for name in columns})
    newest = chosen.order_by(chosen.at.desc(), *columns).limit(most)
    return number, _rows(lake, newest) if number else []


def _derived(lake: Reading, ids: Sequence[str]) -> dict[str, Any]:
    """Features with what they mean, scores and recommendations: the newest made as of that moment or before."""
    from controltower.profiles.features import FEATURES

    means = {feature.name: feature.description for feature in FEATURES}
    features = _of_newest(lake, "features", ids, "customer_id")
    titles = {}
    recommended = _of_newest(lake, "recommendations", ids, "placement", "rank")
    if recommended:
        wanted = {row["product_id"] for row in recommended}
        named = lake.of("products", "product_id", wanted, ("product_id", "title"))
        titles = dict(zip(named["product_id"].to_pylist(), named["title"].to_pylist(), strict=True))
    return {
        "features": [
            {"name": name, "value": value, "means": means.get(name, "")}
            for row in features
            for name, value in row.items()
            if name not in ("customer_id", "as_of")
        ],
        "features_as_of": features[0]["as_of"] if features else None,
        "scores": [
            {name: value for name, value in row.items() if not isinstance(value, list)}  # tables of 168 hours
            for row in _of_newest(lake, "scores", ids, "customer_id")
        ],
        "recommendations": [{**row, "title": titles.get(row["product_id"])} for row in recommended],
    }


def _of_newest(lake: Reading, table: str, ids: Sequence[str], *order: str) -> list[dict[str, Any]]:
    try:
        rows = lake.derived(table)
    except NoData:
        return []
    return of_one(_rows(lake, rows.filter(rows.customer_id.isin(ids)).order_by(*order)), ids)


def _told(row: Decided) -> dict[str, Any]:
    """What a run decided and what became of it, as plain values; what there is none of is left out."""
    return {name: _plain(value) for name, value in row._asdict().items() if value is not None}


def _theirs(lake: Reading, table: str, ids: Sequence[str]) -> ir.Table:
    rows = lake.table(table)
    return rows.filter(rows.customer_id.isin(ids))


def _rows(lake: Reading, expr: ir.Table) -> list[dict[str, Any]]:
    """Rows as plain values, without their empty columns."""
    return [
        {name: _plain(value) for name, value in row.items() if value is not None}
        for row in lake.arrow(expr).to_pylist()
    ]


def _plain(value: Any) -> Any:
    from datetime import date
    from decimal import Decimal

    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
