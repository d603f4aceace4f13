"""What the ledger holds of a person, and its end: a pseudonym takes the place of their ids, and the counts stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from controltower.ledger import plans
from controltower.ledger.database import Epoch
from controltower.ledger.insert import insert_new
from controltower.ledger.plans import new_subject
from controltower.ledger.tables import (
    arms,
    batches,
    choices,
    consents,
    decisions,
    delivery_events,
    erased,
    event_bodies,
    merges,
    messages,
    requests,
    subjects,
    suppressions,
    test_sends,
    webhook_bodies,
)

BODIES = {"webhook_bodies": webhook_bodies, "event_bodies": event_bodies}
_READ = {"webhook_bodies": webhook_bodies.c.handled_at, "event_bodies": event_bodies.c.ingested_at}
REASON = "erased"  # of the suppression that stays
_NAMING = (decisions, messages, test_sends, consents, subjects)  # tables with a customer_id


def record(connection: sa.Connection, kind: str, hashes: Iterable[str], now: datetime, by: str) -> int:
    """Note that these hashed ids are erased. Returns how many weren't."""
    rows = [{"kind": kind, "hash": value, "erased_at": now, "erased_by": by} for value in sorted(hashes)]
    return insert_new(connection, erased, rows)


def recorded(connection: sa.Connection, kind: str) -> dict[str, datetime]:
    """The erased ids of a kind, hashed, and since when."""
    rows = sa.select(erased.c.hash, erased.c.erased_at).where(erased.c.kind == kind)
    return dict(connection.execute(rows).tuples().all())


def message_ids(connection: sa.Connection, customers: Collection[str]) -> set[str]:
    """All messages that were planned for these customers; of those that a newer version replaced there is no id."""
    rows = sa.select(messages.c.message_id).where(messages.c.seq.in_(_seqs(customers)))
    return {found for found in connection.execute(rows).scalars() if found}


def rows_of(
    connection: sa.Connection, customers: Collection[str], values: Mapping[str, Collection[str]]
) -> dict[str, list[dict[str, Any]]]:
    """All rows about these customers, by table; `values`: what suppressions may name, by kind."""
    ids = message_ids(connection, customers)
    own = sa.select(subjects.c.subject_id).where(subjects.c.customer_id.in_(customers))
    wanted: dict[str, sa.Select[Any]] = {
        **{table.name: sa.select(table).where(table.c.customer_id.in_(customers)) for table in _NAMING},
        "messages": sa.select(messages).where(messages.c.seq.in_(_seqs(customers))),
        "merges": sa.select(merges).where(
            sa.or_(merges.c.customer_id.in_(customers), merges.c.person_id.in_(customers))
        ),
        "arms": sa.select(arms).where(arms.c.subject_id.in_(own)),
        "delivery_events": sa.select(delivery_events).where(delivery_events.c.message_id.in_(ids)),
        "suppressions": sa.select(suppressions).where(_named(values)),
    }
    found = {name: [dict(row) for row in connection.execute(query).mappings()] for name, query in wanted.items()}
    for row in found["decisions"]:
        known = sa.select(choices.c.number, choices.c.choice).where(
            choices.c.run_id == row["run_id"], choices.c.number.in_(row["choices"])
        )
        by_number = dict(connection.execute(known).tuples().all())
        row["choices"] = [by_number[number] for number in row["choices"]]
    return {name: rows for name, rows in found.items() if rows}


def bodies(connection: sa.Connection, table: str) -> Iterator[tuple[int, bytes]]:
    """The raw bodies that are still kept, one at a time."""
    t = BODIES[table].c
    rows = sa.select(t.body_id, t.body).where(t.body.is_not(None)).order_by(t.body_id)
    yield from connection.execute(rows.execution_options(yield_per=100)).tuples()


def empty(connection: sa.Connection, table: str, body_ids: Collection[int]) -> int:
    """Empty raw bodies that were read; their digests stay."""
    t = BODIES[table]
    named = sa.update(t).where(t.c.body_id.in_(body_ids), _READ[table].is_not(None))
    return connection.execute(named.values(body=None)).rowcount


def old_bodies(connection: sa.Connection, table: str, before: datetime, *, empty: bool) -> int:
    """How many raw bodies were read before a moment; `empty` them, too: they may hold personal data."""
    t = BODIES[table]
    old = sa.and_(_READ[table] < before, t.c.body.is_not(None))
    found: int = connection.execute(sa.select(sa.func.count()).where(old)).scalar_one()
    if empty:
        connection.execute(sa.update(t).where(old).values(body=None))
    return found


def call_back(connection: sa.Connection, customers: Collection[str]) -> bool:
    """Take the batches with messages of theirs from workers: whoever claims one anew reads who they are to by then.

    False, and nothing is taken, while a call of such a batch is under way. Until this transaction ends nobody plans.
    """
    plans.lock_planning(connection)
    b, r = batches.c, requests.c
    of_theirs = b.batch_id.in_(sa.select(messages.c.batch_id).where(messages.c.seq.in_(_seqs(customers))))
    pending = sa.select(b.batch_id).where(of_theirs, b.state == "pending").order_by(b.batch_id).with_for_update()
    found = connection.execute(pending).scalars().all()
    held = sa.exists().where(b.batch_id == r.batch_id, b.lease_until > Epoch())
    under_way = sa.exists().where(r.batch_id.in_(found), r.state == "open", held)
    if found and connection.execute(sa.select(under_way)).scalar_one():
        return False
    connection.execute(sa.update(batches).where(b.batch_id.in_(found)).values(lease_token=None, lease_until=None))
    return True


def pseudonymise(
    connection: sa.Connection,
    customer: str,
    pseudonym: str,
    devices: Collection[str],
    device: str,
    together: Collection[str],
) -> Counter[str]:
    """Put the pseudonym in a customer's place, `device` in that of their devices; empty what tells more of them.

    Returns rows changed, by table. Messages, arms and decisions count on as before. A subject that other customers
    share is theirs too, and stays; `together`: all ids and pseudonyms of the person.
    """
    changed: Counter[str] = Counter()

    def change(statement: sa.Update) -> None:
        changed[str(statement.entity_description["name"])] += connection.execute(statement).rowcount

    ids, seqs = message_ids(connection, [customer]), _seqs([customer])
    calls = requests.c.batch_id.in_(sa.select(messages.c.batch_id).where(messages.c.seq.in_(seqs)))
    change(sa.update(requests).where(calls, requests.c.device_id.in_(devices)).values(device_id=device))
    told = delivery_events.c
    change(
        sa.update(delivery_events).where(told.message_id.in_(ids), told.detail.is_not(None)).values(detail=sa.null())
    )
    change(sa.update(messages).where(messages.c.seq.in_(seqs)).values(customer_id=pseudonym))
    change(sa.update(decisions).where(decisions.c.customer_id == customer).values(customer_id=pseudonym))
    _empty_choices(connection, pseudonym)
    change(sa.update(test_sends).where(test_sends.c.customer_id == customer).values(customer_id=pseudonym))
    _change_consents(connection, customer, pseudonym, changed)
    s = suppressions.c
    change(sa.update(suppressions).where(s.kind == "customer", s.value == customer).values(value=pseudonym))
    change(sa.update(suppressions).where(s.kind == "device", s.value.in_(devices)).values(value=device))
    _change_subject(connection, customer, pseudonym, together, changed)
    return +changed


def pseudonymise_merges(connection: sa.Connection, names: Mapping[str, str]) -> int:
    """The same for who was one person; `names`: customer id -> pseudonym. Comes last: it leads to the other ids."""
    changed = 0
    for customer, pseudonym in names.items():
        for column in (merges.c.customer_id, merges.c.person_id):
            renamed = sa.update(merges).where(column == customer).values({column.name: pseudonym})
            changed += connection.execute(renamed).rowcount
    return changed


def _empty_choices(connection: sa.Connection, customer: str) -> None:
    """What was chosen for them goes; the first of a decision's choices is the candidates, which all share."""
    d = decisions.c
    rows = connection.execute(sa.select(d.run_id, d.choices).where(d.customer_id == customer)).all()
    for run_id, chosen in rows:
        theirs = sa.update(decisions).where(d.run_id == run_id, d.customer_id == customer)
        connection.execute(theirs.values(choices=chosen[:1]))


def _seqs(customers: Collection[str]) -> sa.Select[tuple[int]]:
    """Of their messages, by the decisions: messages have no index by customer."""
    return sa.select(decisions.c.seq).where(decisions.c.customer_id.in_(customers), decisions.c.seq.is_not(None))


def _named(values: Mapping[str, Collection[str]]) -> sa.ColumnElement[bool]:
    s = suppressions.c
    return sa.or_(*(sa.and_(s.kind == kind, s.value.in_(list(some))) for kind, some in values.items()))


def _change_consents(connection: sa.Connection, customer: str, pseudonym: str, changed: Counter[str]) -> None:
    """That they said yes or no, and when, stays as proof. What stands under the pseudonym already is there once."""
    c, same = consents.c, consents.alias()
    alike = ("channel", "purpose", "recorded_at", "granted", "source")
    twice = sa.exists().where(same.c.customer_id == pseudonym, *(same.c[name] == c[name] for name in alike))
    changed["consents"] += connection.execute(sa.delete(consents).where(c.customer_id == customer, twice)).rowcount
    renamed = sa.update(consents).where(c.customer_id == customer).values(customer_id=pseudonym, proof=None)
    changed["consents"] += connection.execute(renamed).rowcount


def _change_subject(
    connection: sa.Connection, customer: str, pseudonym: str, together: Collection[str], changed: Counter[str]
) -> None:
    """A subject's number is made of the customer's id: it is told by whoever has the id, so it changes too."""
    s = subjects.c
    found = connection.execute(sa.select(s.subject_id, s.own_subject_id).where(s.customer_id == customer)).one_or_none()
    if found is None:
        return
    there = connection.execute(sa.select(s.subject_id).where(s.customer_id == pseudonym)).scalar_one_or_none()
    if there is None:
        renamed = sa.update(subjects).where(s.customer_id == customer).values(customer_id=pseudonym)
        changed["subjects"] += connection.execute(renamed).rowcount
    else:
        changed["subjects"] += connection.execute(sa.delete(subjects).where(s.customer_id == customer)).rowcount
    fresh = new_subject(pseudonym)
    others = sa.select(sa.func.count()).where(s.subject_id == found.subject_id, s.customer_id.not_in(list(together)))
    if not connection.execute(others).scalar_one():
        _renumber(connection, found.subject_id, fresh if there is None else there)
    if found.own_subject_id is not None:
        _renumber(connection, found.own_subject_id, new_subject(f"{pseudonym} alone"))


def _renumber(connection: sa.Connection, old: int, new: int) -> None:
    """Another number for a subject, wherever it stands. Messages are found by the decisions: they have no index."""
    if old == new:
        return
    kept = sa.select(arms.c.campaign).where(arms.c.subject_id == new).scalar_subquery()
    connection.execute(sa.delete(arms).where(arms.c.subject_id == old, arms.c.campaign.in_(kept)))
    seqs = sa.select(decisions.c.seq).where(decisions.c.customer_id.in_(_named_by(old)), decisions.c.seq.is_not(None))
    connection.execute(
        sa.update(messages).where(messages.c.seq.in_(seqs), messages.c.subject_id == old).values(subject_id=new)
    )
    theirs = decisions.c.customer_id.in_(_named_by(old))
    connection.execute(sa.update(decisions).where(theirs, decisions.c.subject_id == old).values(subject_id=new))
    connection.execute(sa.update(arms).where(arms.c.subject_id == old).values(subject_id=new))
    s = subjects.c
    for column in (s.own_subject_id, s.subject_id):
        connection.execute(sa.update(subjects).where(column == old).values({column.name: new}))


def _named_by(subject: int) -> sa.Select[tuple[str]]:
    s = subjects.c
    return sa.select(s.customer_id).where(sa.or_(s.subject_id == subject, s.own_subject_id == subject))
