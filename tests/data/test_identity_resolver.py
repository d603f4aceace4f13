"""Who is one person, by hand-made cases, and for any facts: as of any moment, in any order, whatever else there is."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

from controltower.data.identity.resolver import (
    KINDS,
    MERGED,
    OTHER_BIRTH_DATE,
    OTHER_KEY,
    SHARED_KEY,
    TOO_MANY,
    UNDONE,
    About,
    Claim,
    Limits,
    Resolution,
    Undo,
    resolve,
)
from hypothesis import given, settings
from hypothesis import strategies as st

DAY0 = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(3, 4)


def day(n: float) -> datetime:
    return DAY0 + timedelta(days=n)


def play(*told: tuple[str, str, str, float], births: dict[str, list[tuple[float, int]]] | None = None,
         undone: tuple[Undo, ...] = (), limits: Limits = LIMITS) -> Resolution:  # fmt: skip
    """Claims as (kind, key, customer, day); births as customer -> (day, year)."""
    claims = [Claim(kind, key, customer, day(n)) for kind, key, customer, n in told]
    about = {
        c.customer: About(
            min(x.since for x in claims if x.customer == c.customer),
            tuple((day(n), date(year, 1, 1)) for n, year in (births or {}).get(c.customer, [])),
        )
        for c in claims
    }
    return resolve(claims, about, undone, limits)


def persons(found: Resolution, at: float | datetime) -> dict[str, str]:
    """Whose each customer is as of a moment, where it isn't its own."""
    moment = day(at) if not isinstance(at, datetime) else at
    return {s.customer: s.person for s in found.stays if s.since <= moment and (s.until is None or moment < s.until)}


def outcomes(found: Resolution) -> list[str]:
    return [e.outcome for e in found.entries if e.until is None]


def test_the_same_address_is_one_person_from_when_it_is_known() -> None:
    found = play(("email_hash", "x", "web", 1), ("email_hash", "x", "store", 5))
    assert persons(found, 4.9) == {}
    assert persons(found, 5) == {"store": "web"}  # the older id stays
    (entry,) = found.entries
    assert (entry.outcome, entry.person, entry.gone, entry.since) == (MERGED, "web", "store", day(5))


def test_a_person_that_grows_keeps_its_id() -> None:
    found = play(("email_hash", "x", "b", 1), ("phone_hash", "p", "b", 1), ("email_hash", "x", "c", 2),
                 ("phone_hash", "p", "a", 3))  # fmt: skip
    assert persons(found, 2) == {"c": "b"}
    assert persons(found, 3) == {"c": "b", "a": "b"}


def test_a_key_of_too_many_unites_nobody_from_then_on() -> None:
    told = [("phone_hash", "office", f"c{n}", n) for n in range(5)]
    found = play(*told)
    assert persons(found, 2) == {"c1": "c0", "c2": "c0"}
    assert persons(found, 3) == persons(found, 9) == {}
    (flag,) = [e for e in found.entries if e.until is None]
    assert (flag.outcome, flag.since, flag.one) == (SHARED_KEY, day(3), "c0")


def test_what_else_unites_them_holds_when_a_key_turns_out_to_be_shared() -> None:
    told = [("phone_hash", "office", f"c{n}", n) for n in range(4)]
    found = play(*told, ("loyalty", "card", "c0", 0), ("loyalty", "card", "c2", 2))
    assert persons(found, 3) == {"c2": "c0"}


def test_two_birth_dates_are_two_people_until_one_is_corrected() -> None:
    told = (("email_hash", "x", "a", 1), ("email_hash", "x", "b", 2))
    found = play(*told, births={"a": [(1, 1980)], "b": [(4, 2001), (8, 1980)]})
    assert persons(found, 3) == {"b": "a"}
    assert persons(found, 4) == {}
    assert persons(found, 8) == {"b": "a"}
    assert [e.outcome for e in found.entries] == [MERGED, OTHER_BIRTH_DATE, MERGED]


def test_a_phone_joins_a_store_card_to_an_account_but_not_two_accounts() -> None:
    family = (("email_hash", "mother", "m", 0), ("phone_hash", "home", "m", 0), ("email_hash", "son", "s", 1),
              ("phone_hash", "home", "s", 1))  # fmt: skip
    found = play(*family, ("phone_hash", "home", "store", 2))
    assert persons(found, 9) == {"store": "m"}
    assert OTHER_KEY["email_hash"] in outcomes(found)
    logins = (("login", "m", "m", 0), ("login", "s", "s", 0), ("loyalty", "card", "m", 1), ("loyalty", "card", "s", 1))
    assert persons(play(*logins), 9) == {}
    assert outcomes(play(*logins)) == [OTHER_KEY["login"]]
    assert persons(play(*logins, ("email_hash", "x", "m", 2), ("email_hash", "x", "s", 2)), 9) == {"s": "m"}


def test_a_person_has_so_many_ids_and_no_more() -> None:
    told = [claim for n in range(5) for claim in
            (("login", f"k{n}", f"c{n}", n), ("login", f"k{n}", f"c{n + 1}", n + 1))]  # fmt: skip
    found = play(*told)
    assert persons(found, 9) == {"c1": "c0", "c2": "c0", "c3": "c0", "c5": "c4"}
    assert TOO_MANY in outcomes(found)


def test_what_was_undone_is_not_merged_again_by_what_was_known_then() -> None:
    told = [("email_hash", "x", "a", 1), ("email_hash", "x", "b", 2), ("phone_hash", "p", "a", 1),
            ("phone_hash", "p", "b", 3)]  # fmt: skip
    undone = (Undo("a", "b", day(5), "kim"),)
    found = play(*told, undone=undone)
    assert persons(found, 4.9) == {"b": "a"}
    assert persons(found, 5) == persons(found, 99) == {}
    assert outcomes(found) == [UNDONE, UNDONE]
    found = play(*told, ("loyalty", "card", "b", 4), ("loyalty", "card", "a", 7), undone=undone)
    assert persons(found, 7) == {"b": "a"}  # what is new may


def test_an_undone_merge_is_not_made_through_a_third() -> None:
    told = [("email_hash", "x", "a", 1), ("email_hash", "x", "b", 2), ("login", "l", "a", 1), ("login", "l", "c", 2),
            ("email_hash", "y", "b", 1), ("email_hash", "y", "c", 2)]  # fmt: skip
    found = play(*told, undone=(Undo("a", "b", day(5), "kim"),))
    assert "b" not in persons(found, 6) or persons(found, 6)["b"] != persons(found, 6).get("a", "a")


CUSTOMERS = [f"c{n}" for n in range(6)]
FACTS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from("xyz"), st.sampled_from(CUSTOMERS), st.integers(0, 8)),
    max_size=16,
)
BIRTHS = st.lists(st.tuples(st.sampled_from(CUSTOMERS), st.integers(0, 9), st.integers(1980, 1981)), max_size=3)
UNDONE_ONES = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(CUSTOMERS), st.integers(0, 9)).filter(lambda u: u[0] != u[1]),
    max_size=2,
)


def given_by(facts: list[tuple[str, str, str, int]], births: list[tuple[str, int, int]],
             undone: list[tuple[str, str, int]], until: int = 99) -> Resolution:  # fmt: skip
    """What comes of the facts that were known by a day."""
    first = {c: day(min([n for _, _, who, n in facts if who == c] or [0])) for c in CUSTOMERS}
    about = {
        c: About(first[c], tuple((day(n), date(y, 1, 1)) for who, n, y in births if who == c and n <= until))
        for c in CUSTOMERS
    }
    claims = [Claim(kind, key, c, day(n)) for kind, key, c, n in facts if n <= until]
    return resolve(claims, about, [Undo(a, b, day(n), "x") for a, b, n in undone if n <= until], LIMITS)


@given(FACTS, BIRTHS, UNDONE_ONES, st.randoms())
@settings(max_examples=300, deadline=None)
def test_as_of_a_moment_nothing_known_later_counts_and_no_order_does(
    facts: list[tuple[str, str, str, int]], births: list[tuple[str, int, int]], undone: list[tuple[str, str, int]],
    chance: random.Random,
) -> None:  # fmt: skip
    whole = given_by(facts, births, undone)
    again = facts + facts[:3]
    chance.shuffle(again)
    assert given_by(again, births, undone) == whole
    for until in range(10):
        then = persons(given_by(facts, births, undone, until), until)
        assert persons(whole, until) == then
        assert all(then.get(person, person) == person for person in then.values())  # one step leads to the person
        sizes = [list(then.values()).count(person) + 1 for person in then.values()]
        assert all(size <= LIMITS.customers_per_person for size in sizes)
        for one, other, at in undone:
            late = [f for f in facts if at < f[3] <= until]
            if at <= until and not late:
                assert then.get(one, one) != then.get(other, other)
