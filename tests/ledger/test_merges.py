"""After a merge the older assignment holds, and what one id may not, no id of the person may; an undo restores it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from controltower.campaigns.arms import assign
from controltower.ledger import (
    caps,
    cohorts,
    consents,
    doubles,
    merges,
    persons,
    plans,
    recipients,
    runs,
    suppressions,
    work,
)
from controltower.ledger.caps import Window
from controltower.ledger.database import begin
from controltower.ledger.tables import messages, subjects
from controltower.settings import Settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger.conftest import DUE, LATER, NOW, message, write_plan

AFTER = DUE + timedelta(minutes=1)


def follow(settings: Settings, **whose: str) -> tuple[int, int]:
    with begin(settings) as ledger:
        return persons.follow(ledger, whose, LATER)


def seen(settings: Settings, *customers: str) -> dict[str, int]:
    """The subjects of customers that are seen one after the other."""
    found = {}
    for n, customer in enumerate(customers):
        with begin(settings) as ledger:
            found |= plans.subject_ids(ledger, [customer], NOW + timedelta(minutes=n))
    return found


def write(settings: Settings, *customers: str, occurrence: str = "2026-06-15", campaign: str = "spring") -> int:
    """Plan a message to each, by the subjects that they have now."""
    with begin(settings) as ledger:
        kept = plans.subject_ids(ledger, list(customers), NOW)
    plan = [message(0)._replace(customer_id=c, subject_id=kept[c]) for c in customers]
    return write_plan(settings, plan, occurrence=occurrence, campaign=campaign)


def test_the_subject_that_was_seen_first_stands_for_the_person(ledger_settings: Settings) -> None:
    own = seen(ledger_settings, "b", "a", "c")
    assert follow(ledger_settings, b="a", new="a") == (2, 0)
    with begin(ledger_settings) as ledger:
        kept = plans.kept_subjects(ledger, ["a", "b", "c", "new"])
        assert kept == {"a": own["b"], "b": own["b"], "new": own["b"], "c": own["c"]}
        assert merges.stepped_back(ledger)[own["a"]] == own["b"]
    assert follow(ledger_settings, b="a", new="a") == (0, 0)
    assert follow(ledger_settings) == (0, 2)
    with begin(ledger_settings) as ledger:
        assert plans.kept_subjects(ledger, ["a", "b", "c"]) == own
        assert merges.stepped_back(ledger) == {}


def test_the_arm_that_was_given_first_holds(ledger_settings: Settings) -> None:
    own = seen(ledger_settings, "a", "b")
    for n, (customer, arm) in enumerate((("b", "long"), ("a", "short"))):
        plan = [message(0)._replace(customer_id=customer, subject_id=own[customer], arm=arm)]
        write_plan(ledger_settings, plan, occurrence=f"o{n}", now=NOW + timedelta(minutes=n))
    follow(ledger_settings, b="a")
    with begin(ledger_settings) as ledger:
        stored = {row["subject_id"]: row["arm"] for row in plans.stored_arms(ledger, "spring", LATER).to_pylist()}
        assert stored[own["a"]] == "long"
        assert plans.stored_arms(ledger, "spring", NOW - timedelta(days=1)).num_rows == 0
    follow(ledger_settings)
    with begin(ledger_settings) as ledger:
        stored = {row["subject_id"]: row["arm"] for row in plans.stored_arms(ledger, "spring", LATER).to_pylist()}
        assert stored == {own["a"]: "short", own["b"]: "long"}


def test_a_holdout_stays_a_holdout(ledger_settings: Settings) -> None:
    def held_out(*customers: str) -> list[bool]:
        with begin(ledger_settings) as ledger:
            kept = plans.kept_subjects(ledger, customers)
        found = assign(
            "spring", np.array([kept[c] for c in customers]), holdout=0.3, global_holdout=0, weights={"a": 1, "b": 1}
        )
        return [bool(held) for held in found.held_out]

    names = [f"c{n}" for n in range(40)]
    own = seen(ledger_settings, *names)
    held = dict(zip(names, held_out(*names), strict=True))
    first = next(name for name in names if held[name])
    later = next(name for name in reversed(names) if not held[name])
    follow(ledger_settings, **{first: later})  # the person's id is the later one's, its unit the first's
    assert held_out(first, later) == [True, True]
    follow(ledger_settings)
    assert held_out(first, later) == [True, False]
    assert own == seen(ledger_settings, *names)


def test_whoever_has_a_message_of_the_occurrence_gets_no_other(ledger_settings: Settings) -> None:
    own = seen(ledger_settings, "a", "b")
    write(ledger_settings, "b")
    follow(ledger_settings, b="a")
    with begin(ledger_settings) as ledger:
        occurrence_id = plans.lock_occurrence(ledger, "spring", "2026-06-15", NOW)
        assert own["a"] in plans.messaged(ledger, occurrence_id)


def said(settings: Settings, *words: tuple[str, int, bool]) -> set[str]:
    """Record consents (customer, minute, granted), and return who may be written to."""
    with begin(settings) as ledger:
        consents.record(
            ledger,
            [
                {"customer_id": c, "channel": "email", "purpose": "marketing", "granted": yes, "source": "test",
                 "recorded_at": NOW + timedelta(minutes=n)}
                for c, n, yes in words
            ],
        )  # fmt: skip
        everybody = consents.granted(ledger, "email", "marketing", LATER)
        assert consents.granted(ledger, "email", "marketing", LATER, ["b", "c"]) == everybody & {"b", "c"}
    return everybody


def test_a_no_of_any_id_holds_and_a_yes_of_one_is_enough(ledger_settings: Settings) -> None:
    follow(ledger_settings, b="a", d="c")
    assert said(ledger_settings, ("a", 0, True), ("c", 0, True), ("x", 0, True)) == {"a", "b", "c", "d", "x"}
    assert said(ledger_settings, ("b", 0, False), ("d", 1, True), ("x", 1, False)) == {"c", "d"}
    assert said(ledger_settings, ("a", 9, True)) == {"c", "d"}  # another id's no is still its last word
    assert said(ledger_settings, ("b", 9, True)) == {"a", "b", "c", "d"}
    follow(ledger_settings, d="c")
    assert said(ledger_settings, ("b", 10, False)) == {"a", "c", "d"}


def test_a_suppression_of_any_id_holds(ledger_settings: Settings) -> None:
    follow(ledger_settings, b="a")
    with begin(ledger_settings) as ledger:
        suppressions.add(ledger, "customer", "b", reason="asked", source="test", now=NOW)
        suppressions.add(ledger, "device", "b", reason="asked", source="test", now=NOW)
        assert suppressions.held(ledger, "customer", "email", "marketing", LATER) == {"a", "b"}
        assert suppressions.held(ledger, "customer", "email", "marketing", LATER, ["a", "z"]) == {"a"}
        assert suppressions.held(ledger, "device", "email", "marketing", LATER) == {"b"}
    follow(ledger_settings)
    with begin(ledger_settings) as ledger:
        assert suppressions.held(ledger, "customer", "email", "marketing", LATER, ["a", "b"]) == {"b"}


def test_caps_count_the_messages_of_all_ids(ledger_settings: Settings) -> None:
    write(ledger_settings, "a", "b", "x")
    write(ledger_settings, "b", occurrence="next")
    windows = [Window(NOW - timedelta(days=7))]

    def counted(customers: list[str] | None = None) -> Counter[str]:
        with begin(ledger_settings) as ledger:
            return caps.counts(ledger, windows, LATER, customers)[0]

    assert counted() == {"a": 1, "b": 2, "x": 1}
    follow(ledger_settings, b="a")
    assert counted() == {"a": 3, "b": 3, "x": 1}
    assert counted(["a"])["a"] == 3
    follow(ledger_settings)
    assert counted(["a"])["a"] == 1


def test_a_link_in_an_older_message_reaches_all_ids(ledger_settings: Settings) -> None:
    seen(ledger_settings, "a", "b")
    write(ledger_settings, "b")
    follow(ledger_settings, b="a")
    with begin(ledger_settings) as ledger:
        (message_id,) = ledger.execute(sa.select(messages.c.message_id)).scalars()
        found = recipients.find(ledger, str(message_id).replace("-", ""))
    assert found and found.customers == ("b", "a")


def test_of_two_messages_of_an_occurrence_the_older_subjects_leaves(ledger_settings: Settings) -> None:
    seen(ledger_settings, "a", "b", "x")
    write(ledger_settings, "b", "a", "x")
    write(ledger_settings, "b", occurrence="next")
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, ["email"])
        assert claimed
        assert doubles.find(ledger, claimed[0], ["a", "b", "x"]) == set()
    follow(ledger_settings, b="a")
    with begin(ledger_settings) as ledger:
        assert doubles.find(ledger, claimed[0], ["a", "b", "x"]) == {"b"}
        assert doubles.find(ledger, claimed[0], ["x"]) == set()
    batch, token = claimed
    (of_b,) = [m.seq for m in batch.messages if m.customer_id == "b"]
    with begin(ledger_settings) as ledger:  # it was called for before the merge was known
        work.open_requests(ledger, batch, token, "sendgrid", [([of_b], None)], AFTER)
        assert doubles.find(ledger, batch, ["a", "b", "x"]) == {"a"}


def test_one_that_never_left_is_no_double(ledger_settings: Settings) -> None:
    seen(ledger_settings, "a", "b")
    write(ledger_settings, "b", "a")
    follow(ledger_settings, b="a")
    with begin(ledger_settings) as ledger:
        claimed = work.claim(ledger, AFTER, ["email"])
        assert claimed
        batch, token = claimed
        (of_a,) = [m.seq for m in batch.messages if m.customer_id == "a"]
        work.drop(ledger, batch, token, [(of_a, "not_sent", "no_address")], AFTER)
        assert doubles.find(ledger, batch, ["b"]) == set()


def test_a_unit_that_stepped_back_is_left_out_of_the_comparison_and_counted(ledger_settings: Settings) -> None:
    own = seen(ledger_settings, "a", "b", "x")
    run_id = write(ledger_settings, "a", "b", "x")
    follow(ledger_settings, b="a")
    with begin(ledger_settings) as ledger:
        (run,) = [r for r in runs.planned(ledger, until=LATER) if r.run_id == run_id]
        compared = cohorts.cohort(ledger, run, LATER)
        assert compared.left_out == {"merged": 1}
        who = {(subject, customer) for subject, customer, *_ in cohorts.members(ledger, compared)}
    assert who == {(own["a"], "a"), (own["a"], "b"), (own["x"], "x")}


WHOSE = st.dictionaries(st.sampled_from("bcd"), st.sampled_from("ae"), max_size=3)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@given(st.lists(WHOSE, max_size=4))
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_merged_before_only_the_last_word_counts(
    ledger_settings: Settings, words: list[dict[str, str]]
) -> None:
    own = seen(ledger_settings, *"abcde")
    for whose in [*words, {}]:
        follow(ledger_settings, **whose)
        with begin(ledger_settings) as ledger:
            kept = plans.kept_subjects(ledger, list("abcde"))
            created = dict(ledger.execute(sa.select(subjects.c.customer_id, subjects.c.created_at)).tuples().all())
        for customer in "abcde":
            person = whose.get(customer, customer)
            family = [person, *(c for c in "bcd" if whose.get(c) == person)]
            oldest = min(family, key=lambda c: (created[c], family.index(c)))
            assert kept[customer] == own[oldest]
