"""Who is one person: a function of who told which key when, and of the merges that somebody has undone.

Two customers that tell the same key (a log-in, a loyalty card, an e-mail address, a phone number) are linked. Links are
taken in the order in which they became known, and each unites two persons unless something speaks against it; so what
held as of a moment depends on nothing that was known later, and a person keeps the id of its oldest customer.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

# The kinds of keys that unite, the surest first. One's own: nobody else has it. The others a household may share.
OWN = ("login", "email_hash")
SHARED = ("loyalty", "phone_hash")
KINDS = (*OWN, *SHARED)

MERGED, SHARED_KEY, UNDONE = "merged", "shared_key", "undone"
OTHER_BIRTH_DATE, TOO_MANY = "other_birth_date", "too_many_customers"
OTHER_KEY = {"login": "other_login", "email_hash": "other_email"}


class Limits(NamedTuple):
    """A key of more customers unites nobody; a person has at most so many customer ids."""

    customers_per_key: int
    customers_per_person: int


class Claim(NamedTuple):
    """A customer told a key, for the first time `since`."""

    kind: str
    key: str
    customer: str
    since: datetime


class About(NamedTuple):
    """What else is known of a customer: since when it is, which birth dates it told when, and which keys of its OWN
    when, as far as they aren't among the claims (since, kind, key)."""

    first_seen: datetime
    births: tuple[tuple[datetime, date], ...] = ()
    keys: tuple[tuple[datetime, str, str], ...] = ()


class Undo(NamedTuple):
    """Somebody said that these two aren't one person: what was known by then doesn't unite them any more."""

    one: str
    other: str
    at: datetime
    by: str


class Stay(NamedTuple):
    """A customer id belonged to a person of another id from `since` until `until` (None: still)."""

    customer: str
    person: str
    since: datetime
    until: datetime | None


class Entry(NamedTuple):
    """What a link of two customers by a key came to from `since` until `until` (None: still does).

    `outcome`: merged, or why not. Of a merge, `person` is the id that stayed and `gone` the one that went into it.
    Of a key that too many share there is no `other`.
    """

    entry_id: str
    outcome: str
    kind: str
    key: str
    one: str
    other: str | None
    person: str | None
    gone: str | None
    since: datetime
    until: datetime | None


class Resolution(NamedTuple):
    stays: list[Stay]
    entries: list[Entry]


def resolve(claims: Iterable[Claim], about: Mapping[str, About], undone: Iterable[Undo], limits: Limits) -> Resolution:
    """The whole history. The order of the claims doesn't matter, nor does telling one again later.

    A customer's `first_seen` is not later than its first claim.
    """
    first: dict[tuple[str, str, str], datetime] = {}
    for kind, key, customer, since in claims:
        told = (kind, key, customer)
        first[told] = min(since, first.get(told, since))
    holders: dict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
    for (kind, key, customer), since in first.items():
        holders[kind, key].append((since, customer))
    shared = {key: sorted(some)[: limits.customers_per_key + 1] for key, some in holders.items() if len(some) > 1}
    own = defaultdict(list, {customer: list(known.keys) for customer, known in about.items()})
    for (kind, key, customer), since in first.items():
        if kind in OWN:
            own[customer].append((since, kind, key))
    undone = list(undone)
    stays: list[Stay] = []
    entries: list[Entry] = []
    for keys in _components(shared):
        history = _History({key: shared[key] for key in keys}, own, about, undone, limits)
        history.play()
        stays += history.stays
        entries += history.entries
    return Resolution(sorted(stays, key=by_time), sorted(entries, key=by_time))


def entry_id(kind: str, key: str, one: str, other: str | None) -> str:
    """The name of a link: the same whenever it is found."""
    return hashlib.sha256("\n".join((kind, key, one, other or "")).encode()).hexdigest()[:12]


def groups(keys: Mapping[tuple[str, str], Collection[str]]) -> list[set[str]]:
    """The customers that keys link, directly or through others."""
    parent: dict[str, str] = {}
    for customers in keys.values():
        first, *others = customers
        for other in others:
            parent[_find(parent, other)] = _find(parent, first)
        _find(parent, first)
    found: dict[str, set[str]] = defaultdict(set)
    for customer in list(parent):
        found[_find(parent, customer)].add(customer)
    return list(found.values())


def _find(parent: dict[str, str], customer: str) -> str:
    root = customer
    while (above := parent.setdefault(root, root)) != root:
        root = above
    while (above := parent[customer]) != root:
        parent[customer], customer = root, above
    return root


def _components(shared: Mapping[tuple[str, str], list[tuple[datetime, str]]]) -> list[list[tuple[str, str]]]:
    """The keys, those together that have to do with each other."""
    numbers = {
        customer: n
        for n, some in enumerate(groups({key: [c for _, c in held] for key, held in shared.items()}))
        for customer in some
    }
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for key, held in shared.items():
        found[numbers[held[0][1]]].append(key)
    return list(found.values())


def by_time(row: Stay | Entry) -> tuple[object, ...]:
    """What the rows of a history are sorted by."""
    return (row.since, *(str(value) for value in row))


class _Link(NamedTuple):
    """In the order in which links are taken."""

    since: datetime
    rank: int
    key: str
    one: str
    other: str

    @property
    def kind(self) -> str:
        return KINDS[self.rank]


@dataclass(eq=False)
class _Person:
    """Customers taken as one, with what they have told by now."""

    id: tuple[datetime, str]  # the oldest's: when it was first seen, and its id
    customers: list[str]
    births: set[date]
    keys: dict[str, set[str]]  # by kind, those of OWN


class _History:
    """Customers of keys that have to do with each other, played through from the first moment to the last."""

    def __init__(
        self,
        keys: Mapping[tuple[str, str], Sequence[tuple[datetime, str]]],
        own: Mapping[str, Sequence[tuple[datetime, str, str]]],
        about: Mapping[str, About],
        undone: Sequence[Undo],
        limits: Limits,
    ) -> None:
        self._own, self._about, self._limits = own, about, limits
        self.stays: list[Stay] = []
        self.entries: list[Entry] = []
        links: list[_Link] = []
        self._too_many: dict[tuple[str, str], datetime] = {}  # keys of too many, and since when
        for (kind, key), held in keys.items():
            (_, first), *others = held
            links += [_Link(since, KINDS.index(kind), key, first, c) for since, c in others[: limits[0] - 1]]
            if len(held) > limits.customers_per_key:
                since = self._too_many[kind, key] = held[-1][0]
                name = entry_id(kind, key, first, None)
                self.entries.append(Entry(name, SHARED_KEY, kind, key, first, None, None, None, since, None))
        self._links = sorted(links)
        customers = {customer for held in keys.values() for _, customer in held}
        self._undone = [u for u in undone if u.one in customers and u.other in customers]
        self._persons: dict[str, _Person] = {}
        self._now: dict[str, tuple[str, datetime]] = {}  # whose a customer is that isn't its own, and since when
        self._outcomes: dict[_Link, Entry] = {}

    def play(self) -> None:
        turns, place = self._turns(), 0
        for moment in sorted({link.since for link in self._links} | turns):
            start = place
            while place < len(self._links) and self._links[place].since <= moment:
                place += 1
            anew = moment in turns
            found = self._take(self._links[0 if anew else start : place], moment, anew)
            self._write_outcomes(found, moment, anew)
        self.stays += [Stay(c, person, since, None) for c, (person, since) in self._now.items()]
        self.entries += self._outcomes.values()

    def _turns(self) -> set[datetime]:
        """When earlier links are seen in another light: all are taken anew then."""
        linked: dict[str, datetime] = {}  # since when a customer has links
        for link in reversed(self._links):
            linked[link.one] = linked[link.other] = link.since
        found = {*self._too_many.values(), *(u.at for u in self._undone)}
        for customer, at in linked.items():
            told = [since for since, _ in self._about[customer].births] + [since for since, *_ in self._own[customer]]
            found.update(since for since in told if since > at)
        return found

    def _take(self, links: Sequence[_Link], moment: datetime, anew: bool) -> dict[_Link, Entry]:
        """Unite by these links in their order, as far as nothing speaks against it. Returns what each came to."""
        if anew:
            self._persons = {}
        touched: list[_Person] = []
        found = {}
        for link in links:
            too_many = self._too_many.get((link.kind, link.key))
            if too_many and too_many <= moment:
                continue
            one, other = self._person(link.one, moment), self._person(link.other, moment)
            if one is other:
                continue
            outcome, kept, gone = self._objection(link, one, other, moment), None, None
            if outcome is None:
                outcome, (kept, gone) = MERGED, sorted((one.id, other.id))
                touched.append(self._unite(one, other))
            found[link] = Entry(
                entry_id(link.kind, link.key, link.one, link.other), outcome, link.kind, link.key, link.one, link.other,
                kept and kept[1], gone and gone[1], moment, None,
            )  # fmt: skip
        changed = set(self._now) if anew else set()
        for person in touched:
            changed.update(person.customers)
        self._write_stays(changed, moment)
        return found

    def _person(self, customer: str, moment: datetime) -> _Person:
        if customer not in self._persons:
            about = self._about[customer]
            births = [birth for since, birth in sorted(about.births) if since <= moment]
            keys: dict[str, set[str]] = {kind: set() for kind in OWN}
            for since, kind, key in self._own[customer]:
                if since <= moment:
                    keys[kind].add(key)
            self._persons[customer] = _Person((about.first_seen, customer), [customer], set(births[-1:]), keys)
        return self._persons[customer]

    def _objection(self, link: _Link, one: _Person, other: _Person, moment: datetime) -> str | None:
        """What speaks against these two being one person."""
        for u in self._undone:
            sides = self._persons.get(u.one), self._persons.get(u.other)
            if link.since <= u.at <= moment and (sides == (one, other) or sides == (other, one)):
                return UNDONE
        if len(one.births | other.births) > 1:
            return OTHER_BIRTH_DATE
        if link.kind in SHARED:
            for kind in OWN:
                mine, theirs = one.keys[kind], other.keys[kind]
                if mine and theirs and not mine & theirs:
                    return OTHER_KEY[kind]
        if len(one.customers) + len(other.customers) > self._limits.customers_per_person:
            return TOO_MANY
        return None

    def _unite(self, one: _Person, other: _Person) -> _Person:
        large, small = (one, other) if len(one.customers) >= len(other.customers) else (other, one)
        large.id = min(large.id, small.id)
        large.customers += small.customers
        large.births |= small.births
        for kind, keys in small.keys.items():
            large.keys[kind] |= keys
        for customer in small.customers:
            self._persons[customer] = large
        return large

    def _write_stays(self, customers: Iterable[str], moment: datetime) -> None:
        for customer in customers:
            known = self._persons.get(customer)
            person = known.id[1] if known else customer
            before = self._now.get(customer)
            if person == (before[0] if before else customer):
                continue
            if before:
                self.stays.append(Stay(customer, *before, moment))
                del self._now[customer]
            if person != customer:
                self._now[customer] = person, moment

    def _write_outcomes(self, found: Mapping[_Link, Entry], moment: datetime, anew: bool) -> None:
        """Close the entries that no longer hold, where all links were taken anew, and open the new ones."""
        if anew:
            for link, entry in list(self._outcomes.items()):
                now = found.get(link)
                if now is None or now[1:8] != entry[1:8]:
                    self.entries.append(self._outcomes.pop(link)._replace(until=moment))
        for link, entry in found.items():
            self._outcomes.setdefault(link, entry)
