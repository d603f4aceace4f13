"""Customer ids that are one person, as the lake's identity says: what the ledger knows of one holds for all.

The subject that was seen first stands for the person in experiments, so that its holdouts and arms go on; the others
step back (`own_subject_id`), and get theirs again when the merge ends.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

import sqlalchemy as sa

from controltower.ledger.database import among
from controltower.ledger.tables import arms, merges, subjects


class Families:
    """Some customers with all other ids of the same persons; who is alone isn't among them."""

    def __init__(self, by_person: Mapping[str, Collection[str]]) -> None:
        self._all = [frozenset((person, *ids)) for person, ids in by_person.items()]
        self._of = {customer: family for family in self._all for customer in family}

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def customers(self) -> Collection[str]:
        return self._of.keys()

    def of(self, customer: str) -> frozenset[str]:
        """All ids of the customer's person."""
        return self._of.get(customer) or frozenset((customer,))

    def with_others(self, customers: Iterable[str]) -> set[str]:
        """The customers, and all other ids of theirs."""
        return {one for customer in customers for one in self.of(customer)}

    def together(self, counted: Counter[str]) -> Counter[str]:
        """Numbers by customer, of each person all together."""
        found = Counter(counted)
        for family in self._all:
            total = sum(counted[customer] for customer in family)
            if total:
                found.update({customer: total - counted[customer] for customer in family})
        return found


def families(connection: sa.Connection, customers: Collection[str] | None = None) -> Families:
    """The merged customers with all their ids: of all, or of those given."""
    g = merges.c
    holding = sa.select(g.person_id, g.customer_id).where(g.ended_at.is_(None))
    if customers is not None:
        if not connection.execute(_ANY).scalar_one():  # mostly so
            return Families({})
        named = sa.select(g.person_id).where(g.ended_at.is_(None), among(connection, g.customer_id, customers))
        persons = {*customers, *connection.execute(named).scalars()}
        holding = holding.where(among(connection, g.person_id, persons))
    found: dict[str, list[str]] = defaultdict(list)
    for person, customer in connection.execute(holding):
        found[person].append(customer)
    return Families(found)


_ANY = sa.select(sa.exists().where(merges.c.ended_at.is_(None)))


def stepped_back(connection: sa.Connection) -> dict[int, int]:
    """The subjects that stepped back, with those that stand for them now."""
    s = subjects.c
    rows = sa.select(s.own_subject_id, s.subject_id).where(s.own_subject_id.is_not(None))
    return dict(connection.execute(rows).tuples().all())


def older_arms(connection: sa.Connection, campaign: str, as_of: datetime) -> dict[int, tuple[str, float]]:
    """Of the subjects that stand for merged customers: the arm that any of them was given first, with its share."""
    now = stepped_back(connection)
    if not now:
        return {}
    a = arms.c
    rows = sa.select(a.subject_id, a.arm, a.share).where(
        a.campaign == campaign, a.assigned_at <= as_of, among(connection, a.subject_id, {*now, *now.values()})
    )
    first: dict[int, tuple[str, float]] = {}
    for subject, arm, share in connection.execute(rows.order_by(a.assigned_at, a.subject_id)):
        first.setdefault(now.get(subject, subject), (arm, share))
    return first
