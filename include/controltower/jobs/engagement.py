"""Engagement (sends, answers, who was held out), brought from the ledger into the lake: what today teaches tomorrow."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.jobs.ingest import erased_people, publish
from controltower.ledger.message_ids import WITHHELD, message_ids

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.data.lake import Lake
    from controltower.ledger.engagement import Answer, Withheld
    from controltower.ledger.sends import Sent

log = logging.getLogger(__name__)

MESSAGES, EVENTS = "messages_history", "message_events"
SOURCE = "ledger/"  # our intervals are ledger/2026-06-15; a source's own are named by its loads, so neither meets
# A send whose answer was lost shows only when an event proves it: providers try for three days, and tell for one more.
LOOK_BACK = timedelta(days=7)

Fact = tuple[datetime, str, dict[str, Any]]  # when it was known, of whom, the row
Days = Mapping[date, list[dict[str, Any]]]


def publish_engagement(as_of: str | None = None) -> dict[str, Any]:
    """Bring `messages_history` and `message_events` of the lake up to the ledger, until the day of `as_of` (now).

    One interval a UTC day on which it was known, replaced as a whole when the ledger has more of that day than the
    lake; what was known when is the rows' own business (`sent_at`, `received_at`), so a past day reads as it did.
    Who was held out of a run that sent something has a row of `messages_history`, too, with the treatment `holdout`:
    they and those who were written to are an experiment. Holds ids, never addresses, and nothing of people who were
    erased. Returns {as_of, days, messages, events}: the days and rows written, none where nothing is new.
    """
    from controltower.data.lake import Lake
    from controltower.ledger.database import reading

    conf = settings.load()
    at = clock.parse(as_of, settings.load_shop(conf)) if as_of else clock.now(conf)
    lake = Lake(conf)
    with reading(conf) as ledger:
        again = _lacks_holdouts(lake, ledger)
        sent = list(_sent(ledger, None if again else _since(lake, MESSAGES, at), conf.signing_key))
        answered = list(_answered(ledger, _since(lake, EVENTS, at)))
    gone = erased_people(conf)  # as of now: who has a pseudonym by then is in the list
    erased = gone.pseudonyms | set(gone.among({customer for _, customer, _ in (*sent, *answered)}))
    messages, events = _news(lake, MESSAGES, at, sent, erased), _news(lake, EVENTS, at, answered, erased)
    days = sorted({*messages, *events})
    for day in days:
        tables = {name: rows[day] for name, rows in ((MESSAGES, messages), (EVENTS, events)) if day in rows}
        _publish(lake, day, tables)
    report = {
        "as_of": at.isoformat(),
        "days": [day.isoformat() for day in days],
        "messages": sum(map(len, messages.values())),
        "events": sum(map(len, events.values())),
    }
    log.info("engagement: %d messages and %d events of %d days", report["messages"], report["events"], len(days))
    return report


def _since(lake: Lake, table: str, at: datetime) -> datetime | None:
    """The midnight from which the ledger may hold what the lake doesn't; None: from the beginning."""
    published = [i for i in lake.intervals(table) if i.startswith(SOURCE) and i <= _interval(at.astimezone(UTC).date())]
    if not published:
        return None
    return datetime.fromisoformat(max(published).removeprefix(SOURCE)).replace(tzinfo=UTC) - LOOK_BACK


def _lacks_holdouts(lake: Lake, ledger: sa.Connection) -> bool:
    """Whether runs drew holdouts of which the lake has none: sends were published before holdouts were."""
    from controltower.ledger import engagement

    with lake.read() as reading:
        theirs = "treatment = 'holdout' AND contains(attributes, '\"run_id\"')"
        if reading.execute(f"SELECT 1 FROM ({reading.every_row(MESSAGES)}) WHERE {theirs} LIMIT 1"):
            return False
    return engagement.hold_out(ledger)


def _news(lake: Lake, table: str, until: datetime, facts: Iterable[Fact], erased: Collection[str]) -> Days:
    """Rows by UTC day, without the days that the lake has in full: history is append-only, so the count tells."""
    by_day: dict[date, list[dict[str, Any]]] = {}
    for known, customer, row in facts:
        if customer not in erased:
            by_day.setdefault(known.astimezone(UTC).date(), []).append(row)
    last = until.astimezone(UTC).date()
    held = lake.sizes(table)
    return {day: rows for day, rows in by_day.items() if day <= last and held.get(_interval(day)) != len(rows)}


def _publish(lake: Lake, day: date, tables: Mapping[str, list[dict[str, Any]]]) -> None:
    import pyarrow as pa

    from controltower.data.contract import CONTRACT

    made = {name: pa.Table.from_pylist(rows, schema=CONTRACT[name].schema) for name, rows in tables.items()}
    publish(lake, _interval(day), {name: lake.write(name, rows) for name, rows in made.items()})


def _interval(day: date) -> str:
    return f"{SOURCE}{day.isoformat()}"


def _sent(ledger: sa.Connection, since: datetime | None, key: Callable[[], bytes]) -> Iterator[Fact]:
    from controltower.ledger import engagement

    left, held = _left(ledger, since)
    if since and (first := min((w.due_at for w in held), default=since)) < since:
        # A later version of an occurrence that began before: whom it held out anew counts from then, and days are
        # written as a whole. The occurrence's first version is at hand then, too, and goes before.
        since = datetime.combine(first.astimezone(UTC).date(), time(), UTC)
        left, held = _left(ledger, since)
    probabilities = engagement.probabilities(ledger, {sent.run_id for sent in left})
    for s in left:
        yield s.sent_at, s.customer_id, _message(s, probabilities.get((s.run_id, s.customer_id)))
    rows: dict[str, Fact] = {}  # a later version of an occurrence holds the same people out again
    for w in held:
        row = _withheld(w, message_ids(key(), w.campaign, w.occurrence, WITHHELD)(w.subject_id))
        rows.setdefault(row["message_id"], (w.due_at, w.customer_id, row))
    yield from (fact for fact in rows.values() if since is None or fact[0] >= since)


def _left(ledger: sa.Connection, since: datetime | None) -> tuple[list[Sent], list[Withheld]]:
    """What left from a moment on, and whom these runs held out."""
    from controltower.ledger import engagement
    from controltower.ledger.sends import sends

    after = since - timedelta(microseconds=1) if since else None  # `sends` leaves its lower bound out
    left = sorted(sends(ledger, since=after), key=lambda sent: sent.seq)
    return left, list(engagement.withheld(ledger, {sent.run_id for sent in left}))


def _answered(ledger: sa.Connection, since: datetime | None) -> Iterable[Fact]:
    from controltower.ledger import engagement

    return ((a.received_at, a.customer_id, _event(a)) for a in engagement.answers(ledger, since))


def _message(sent: Sent, probability: float | None) -> dict[str, Any]:
    return {
        "message_id": sent.message_id,
        "customer_id": sent.customer_id,
        "channel": sent.channel,
        "campaign": sent.campaign,
        "variant": sent.variant,
        "treatment": "message",
        "propensity": probability,
        "sent_at": sent.sent_at,
        "attributes": json.dumps({"run_id": sent.run_id, "occurrence": sent.occurrence}),
    }


def _withheld(withheld: Withheld, row_id: str) -> dict[str, Any]:
    """As if it had been sent when the occurrence's first message was due."""
    return {
        "message_id": row_id,
        "customer_id": withheld.customer_id,
        "channel": withheld.channel,
        "campaign": withheld.campaign,
        "treatment": "holdout",
        "propensity": withheld.probability,
        "sent_at": withheld.due_at,
        "attributes": json.dumps({"run_id": withheld.run_id, "occurrence": withheld.occurrence}),
    }


def _event(answer: Answer) -> dict[str, Any]:
    """`machine` tells what a program opened or clicked; of the detail only which product was clicked goes along."""
    detail = answer.detail if isinstance(answer.detail, dict) else {}
    about = {"provider": answer.provider, "machine": answer.machine} | {
        key: detail[key] for key in ("product_id", "position") if detail.get(key) is not None
    }
    return {
        "event_id": f"{answer.provider}:{answer.provider_event_id}",
        "message_id": answer.message_id,
        "event": answer.event,
        "occurred_at": answer.occurred_at,
        "received_at": answer.received_at,
        "attributes": json.dumps(about),
    }
