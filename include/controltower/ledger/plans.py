"""Frozen plans: an occurrence's versions, their decisions and their messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from controltower.ledger import holds, merges, work
from controltower.ledger.database import Epoch, among, columns
from controltower.ledger.decisions import Decision, numbered
from controltower.ledger.insert import batched, insert_new, lines, load, load_new, loaded
from controltower.ledger.message_ids import STEP, message_ids
from controltower.ledger.tables import (
    arms,
    batches,
    campaign_runs,
    choices,
    decisions,
    messages,
    occurrences,
    requests,
    subjects,
)

BATCH_SIZE = 1000
_MANY = 10_000  # rows of which the database should take note
_PIECE = 5_000  # decisions whose choices are written out at once
_NUMBERING_LOCK = 0x736571
_PLANNING = 0x706C616E  # PostgreSQL advisory lock
_ALIKE = ["due_at", "channel", "arm"]  # what a batch's messages share
_ARM = pa.schema([("subject_id", pa.int64()), ("arm", pa.string()), ("share", pa.float64())])
_MESSAGE = pa.schema(
    [("customer_id", pa.string()), ("subject_id", pa.int64()), ("due_at", pa.timestamp("us", "UTC")),
     ("channel", pa.string()), ("arm", pa.string())]
)  # fmt: skip


def kept_subjects(connection: sa.Connection, customers: Sequence[str]) -> dict[str, int]:
    """The subjects of those customers who have been seen before."""
    found: dict[str, int] = {}
    s = subjects.c
    for chunk in batched(sorted(customers), 10_000):  # what is together in the index is read together
        rows = sa.select(s.customer_id, s.subject_id).where(among(connection, s.customer_id, chunk))
        found.update(zip(*columns(connection, rows), strict=True))
    return found


def new_subject(customer: str) -> int:
    """The subject of a customer at first sight: made from the id, so that a rebuilt ledger has the same."""
    return int.from_bytes(hashlib.blake2b(customer.encode(), digest_size=8).digest()) >> 1


def subject_ids(connection: sa.Connection, customers: Sequence[str], now: datetime) -> dict[str, int]:
    """Each customer's subject, kept from the first sight on."""
    kept = kept_subjects(connection, customers)
    fresh = {c: new_subject(c) for c in customers if c not in kept}
    if fresh:
        names = sorted(fresh)  # in one order: two plans at once must not block each other
        ids = pa.array([fresh[c] for c in names], pa.int64())
        rows = {"customer_id": pa.array(names), "subject_id": ids, "created_at": pa.repeat(now, len(names))}
        load_new(connection, subjects, pa.table(rows))
    return kept | fresh


def stored_arms(connection: sa.Connection, campaign: str, as_of: datetime) -> pa.Table:
    """The variant that each subject of a campaign was first assigned to, and its share of the treated then; of merged
    customers the one that any of them was assigned to first."""
    a = arms.c
    rows = sa.select(a.subject_id, a.arm, a.share).where(a.campaign == campaign, a.assigned_at <= as_of)
    stored = pa.table([pa.array(c, f.type) for c, f in zip(columns(connection, rows), _ARM, strict=True)], schema=_ARM)
    older = merges.older_arms(connection, campaign, as_of)
    if not older:
        return stored
    stored = stored.filter(pc.invert(pc.is_in(stored["subject_id"], pa.array(list(older), pa.int64()))))
    kept = [{"subject_id": subject, "arm": arm, "share": share} for subject, (arm, share) in older.items()]
    return pa.concat_tables([stored, pa.Table.from_pylist(kept, _ARM)])


def messaged(connection: sa.Connection, occurrence_id: int) -> set[int]:
    """The subjects with a live message in an occurrence, those included for whom another stepped back since."""
    m = messages.c
    live = sa.select(m.subject_id).where(m.batch_id.in_(_batches_of(occurrence_id)), m.message_id.is_not(None))
    found = set(connection.execute(live).scalars())
    return found | {now for before, now in merges.stepped_back(connection).items() if before in found}


def _batches_of(occurrence_id: int) -> sa.Select[tuple[int]]:
    r = campaign_runs.c
    of_occurrence = sa.select(r.run_id).where(r.occurrence_id == occurrence_id)
    return sa.select(batches.c.batch_id).where(batches.c.run_id.in_(of_occurrence))


def picks(connection: sa.Connection, run_id: int, customers: Collection[str]) -> dict[str, list[Mapping[str, Any]]]:
    """The products that a run picked for the customers given. What several are shown is one object."""
    numbers = {who: theirs[1:] for who, theirs in _numbers(connection, run_id, customers)}
    known = _choices(connection, run_id, set(chain.from_iterable(numbers.values())))
    return {customer: [known[n] for n in theirs] for customer, theirs in numbers.items()}


def by_inference(connection: sa.Connection, run_id: int, customers: Collection[str]) -> set[str]:
    """Those of the customers given whom a run chose by what was inferred of them."""
    about = {who: theirs[0] for who, theirs in _numbers(connection, run_id, customers)}
    known = _choices(connection, run_id, set(about.values()))
    return {who for who, number in about.items() if known[number].get("inferred")}


def _numbers(connection: sa.Connection, run_id: int, customers: Collection[str]) -> Iterator[tuple[str, list[int]]]:
    """Of each customer the numbers of their choices: what all is `about`, then the products."""
    d = decisions.c
    text = sa.cast(d.choices, sa.Text)
    rows = sa.select(d.customer_id, text).where(d.run_id == run_id, among(connection, d.customer_id, customers))
    return ((who, orjson.loads(chosen)) for who, chosen in zip(*columns(connection, rows), strict=True))


def _choices(connection: sa.Connection, run_id: int, numbers: Collection[int]) -> dict[int, Mapping[str, Any]]:
    c = choices.c
    rows = sa.select(c.number, c.choice).where(c.run_id == run_id, among(connection, c.number, numbers))
    return dict(connection.execute(rows).tuples().all())


def plan_hash(content_hash: str, spec_hash: str, shop_hash: str | None, plan: pa.Table) -> str:
    """What an approval is bound to: SHA-256 of words, spec, who writes, and who gets which variant where and when.

    `plan` is in the customers' order.
    """
    whole = hashlib.sha256(orjson.dumps([content_hash, spec_hash, shop_hash]))
    audience = plan.filter(pc.equal(plan["outcome"], "message"))
    for text in lines(audience.select(["customer_id", "arm", "channel", "due_at"])):
        whole.update(text)
    return whole.hexdigest()


def decided(connection: sa.Connection, run_id: int, customers: Sequence[str] | None = None) -> Iterator[Decision]:
    """The messages that a run decided on, by customer; all of them, or those to the customers given."""
    d = decisions.c
    names = [name for name in Decision._fields if name in d]
    rows = sa.select(*(d[n] for n in names)).where(d.run_id == run_id, d.outcome == "message").order_by(d.customer_id)
    if customers is not None:
        rows = rows.where(among(connection, d.customer_id, customers))
    for some in connection.execution_options(yield_per=_PIECE).execute(rows).mappings().partitions():
        known = _choices(connection, run_id, {n for row in some for n in row["choices"]})
        for row in some:
            about, *products = (known[n] for n in row["choices"])
            yield Decision(**{**row, "choices": {**about, "products": products}})


def varied(connection: sa.Connection, run_id: int, most: int) -> list[Decision]:
    """A few of a run's messages: one of each variant on each channel, then others, by customer id."""
    d = decisions.c
    messages_of_run = (d.run_id == run_id, d.outcome == "message")
    each = sa.select(sa.func.min(d.customer_id)).where(*messages_of_run).group_by(d.arm, d.channel)
    others = sa.select(d.customer_id).where(*messages_of_run).order_by(d.customer_id).limit(most)
    found = sorted(connection.execute(each).scalars()) + list(connection.execute(others).scalars())
    return list(decided(connection, run_id, list(dict.fromkeys(found))[:most]))


def lock_planning(connection: sa.Connection) -> None:
    """Until this transaction ends nobody else plans."""
    if connection.dialect.name == "postgresql":  # on SQLite one transaction writes at a time
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PLANNING)))


def lock_occurrence(connection: sa.Connection, campaign: str, occurrence: str, now: datetime) -> int:
    """The occurrence's id, made if new; no other transaction plans anything until this one ends.

    Two that planned at once would see neither's messages, and exceed a frequency cap together.
    """
    lock_planning(connection)
    insert_new(connection, occurrences, [{"campaign": campaign, "occurrence": occurrence, "created_at": now}])
    return int(
        connection.execute(
            sa.select(occurrences.c.occurrence_id)
            .where(occurrences.c.campaign == campaign, occurrences.c.occurrence == occurrence)
            .with_for_update()
        ).scalar_one()
    )


def freeze(
    connection: sa.Connection,
    *,
    occurrence_id: int,
    campaign: str,
    as_of: datetime,
    now: datetime,
    spec: Mapping[str, Any],
    spec_hash: str,
    content_hash: str,
    policy: Mapping[str, Any],
    policy_version: str,
    triggered_by: str | None,
    expires_in: timedelta,
    plan: pa.Table,
    key: bytes,
    shop_hash: str | None = None,
    asked_by: str | None = None,
    hold: str | None = None,
    assigned: pa.Table | None = None,
) -> int:
    """Write a new version with its decisions (see decisions.SCHEMA), arms, messages and batches. Returns its run id.

    The arms `assigned` are stored already.

    A message that is not sent within `expires_in` of its due time will be dropped. With a `hold`, nothing of it leaves.
    `key` is the home's: message ids are made with it.
    """
    plan = plan.sort_by("customer_id")  # an index is filled faster in its own order
    last = sa.select(sa.func.coalesce(sa.func.max(campaign_runs.c.version), 0))
    version = connection.execute(last.where(campaign_runs.c.occurrence_id == occurrence_id)).scalar_one() + 1
    run_id = connection.execute(
        sa.insert(campaign_runs)
        .values(
            occurrence_id=occurrence_id, version=version, state="planned", as_of=as_of, planned_at=now,
            spec=dict(spec), spec_hash=spec_hash, content_hash=content_hash, shop_hash=shop_hash, policy=dict(policy),
            policy_version=policy_version, triggered_by=triggered_by, asked_by=asked_by, hold=hold,
            plan_hash=plan_hash(content_hash, spec_hash, shop_hash, plan),
        )
        .returning(campaign_runs.c.run_id)
    ).scalar_one()  # fmt: skip
    named = sa.select(occurrences.c.occurrence).where(occurrences.c.occurrence_id == occurrence_id)
    message_id = message_ids(key, campaign, connection.execute(named).scalar_one())
    seqs = _write_messages(connection, run_id, plan, message_id, expires_in)
    known, chosen = numbered(plan)
    load(connection, choices, [_with(known, run_id=run_id)])
    kept = [name for name in plan.column_names if name in decisions.c]
    rows = _with(plan.select(kept), run_id=run_id, seq=seqs, choices=chosen)
    load(connection, decisions, (_written(rows.slice(n, _PIECE)) for n in range(0, plan.num_rows, _PIECE)))
    treated = plan.filter(pc.equal(plan["outcome"], "message")).select(_ARM.names)
    if assigned is not None:
        treated = treated.filter(pc.invert(pc.is_in(treated["subject_id"], assigned["subject_id"])))
    treated = treated.sort_by("subject_id")
    load_new(connection, arms, _with(treated, campaign=campaign, assigned_at=now))
    if plan.num_rows >= _MANY:
        d, m, b = decisions.c, messages.c, batches.c  # by what they are looked up
        loaded(connection, d.run_id, d.customer_id, d.seq, m.seq, m.batch_id, m.message_id, b.batch_id, b.run_id)
    return int(run_id)


def _written(rows: pa.Table) -> pa.Table:
    """Rows with their choices as JSON."""
    texts = pc.binary_join(rows["choices"].cast(pa.list_(pa.string())), ",")
    place = rows.column_names.index("choices")
    return rows.set_column(place, "choices", pc.binary_join_element_wise("[", texts, "]", ""))


def _with(rows: pa.Table, **more: Any) -> pa.Table:
    """The rows with further columns; a single value is that of all rows."""
    for name, value in more.items():
        column = value if isinstance(value, pa.Array) else pa.repeat(value, rows.num_rows)
        rows = rows.append_column(name, column)
    return rows


def _write_messages(
    connection: sa.Connection,
    run_id: int,
    plan: pa.Table,
    message_id: Callable[[int], str],
    expires_in: timedelta,
) -> pa.Array:
    """A batch for what is alike, at most BATCH_SIZE messages each. Returns each decision's seq.

    Within a batch they are in the order of their ids: the index on these grows at its end, and nobody is always first.
    """
    place = pc.indices_nonzero(pc.equal(plan["outcome"], "message"))
    sent = plan.select(["customer_id", "subject_id", *_ALIKE]).take(place)
    ids = [message_id(subject) for subject in sent["subject_id"].to_pylist()]
    sent = _with(sent.cast(_MESSAGE), message_id=pa.array(ids, pa.string()), place=place)
    sent = sent.sort_by([(name, "ascending") for name in (*_ALIKE, "message_id")])
    alike = sent.group_by(_ALIKE).aggregate([([], "count_all")]).sort_by([(name, "ascending") for name in _ALIKE])
    if connection.dialect.name == "postgresql":  # two plans at once take their numbers one after the other
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_NUMBERING_LOCK)))
    start = connection.execute(sa.select(sa.func.coalesce(sa.func.max(messages.c.seq), 0))).scalar_one() + 1
    seq, new_batches = start, []
    for same in alike.to_pylist():
        for done in range(0, same["count_all"], BATCH_SIZE):
            size = min(same["count_all"] - done, BATCH_SIZE)
            new_batches.append(
                {"run_id": run_id, "channel": same["channel"], "variant": same["arm"], "due_at": same["due_at"],
                 "expires_at": same["due_at"] + expires_in, "first_seq": seq, "size": size, "state": "pending"}
            )  # fmt: skip
            seq += size
    seqs = np.zeros(plan.num_rows, np.int64)
    if new_batches:
        insert = sa.insert(batches).returning(batches.c.batch_id, sort_by_parameter_order=True)
        batch_ids = connection.execute(insert, new_batches).scalars().all()
        numbers = np.arange(start, seq)
        seqs[sent["place"].to_numpy()] = numbers
        load(connection, messages, [_with(
            sent.select(["customer_id", "subject_id", "message_id"]),
            seq=pa.array(numbers), batch_id=pa.array(np.repeat(batch_ids, [b["size"] for b in new_batches])),
            step=STEP,
        )])  # fmt: skip
    return pa.array(seqs, mask=seqs == 0)


def dispatched(connection: sa.Connection, occurrence_id: int) -> bool:
    """Whether a request was ever opened for any version of an occurrence."""
    called = requests.c.batch_id.in_(_batches_of(occurrence_id))
    return connection.execute(sa.select(sa.exists().where(called))).scalar_one()


def cancel_unsent(
    connection: sa.Connection,
    occurrence_id: int,
    *,
    reason: str,
    now: datetime,
    superseded: bool,
    freed: bool = False,
) -> int:
    """Cancel each message of an occurrence, in all its versions, that isn't sent and for which no call is under way.

    A version that is `superseded`, or cancelled and `freed`, leaves their customers and their ids to the next one.
    Returns how many messages were cancelled. A worker that holds a batch of it begins no further call, and gives the
    batch back.
    """
    b = batches.c
    holds.lock(connection, occurrence_id)
    connection.execute(
        sa.update(campaign_runs)
        .where(campaign_runs.c.occurrence_id == occurrence_id, campaign_runs.c.state == "planned")
        .values(state="superseded" if superseded else "cancelled")
    )
    runs = sa.select(campaign_runs.c.run_id).where(campaign_runs.c.occurrence_id == occurrence_id)
    pending = (
        sa.select(b.batch_id, sa.func.coalesce(b.lease_until > Epoch(), sa.false()).label("held"))
        .where(b.run_id.in_(runs), b.state == "pending")
        .order_by(b.batch_id)
        .with_for_update()
    )
    cancelled = 0
    for batch_id, held in connection.execute(pending).tuples().all():
        batch = work.read(connection, batch_id)
        if not held:
            batch = work.recover(connection, batch, now)
        work.cancel(connection, batch, batch.unsent, reason, now)
        unsent = [seq for seq in batch.unsent if seq not in batch.reopened]  # else it may have left before
        if superseded or freed:
            connection.execute(sa.update(messages).where(messages.c.seq.in_(unsent)).values(message_id=None))
        cancelled += len(unsent)
        if not held:
            state = {"state": "done", "done_at": now} if batch.calls else {"state": "cancelled"}
            connection.execute(
                sa.update(batches).where(b.batch_id == batch_id).values(lease_token=None, lease_until=None, **state)
            )
    return cancelled
