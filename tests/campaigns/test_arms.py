"""Arms are stable, holdouts nest, and shares come out as declared."""

from __future__ import annotations

from collections import Counter

import pytest
from controltower.campaigns.arms import GLOBAL_HOLDOUT, HOLDOUT, assign
from hypothesis import given
from hypothesis import strategies as st

SUBJECTS = st.integers(min_value=0, max_value=2**62)
SHARES = st.floats(min_value=0, max_value=0.5)
WEIGHTS = {"a": 1.0, "b": 3.0}


def arm(subject: int, holdout: float = 0.1, global_holdout: float = 0.02, **keys: object) -> str:
    return assign("spring", subject, holdout=holdout, global_holdout=global_holdout, weights=WEIGHTS, **keys).name  # type: ignore[arg-type]


@given(SUBJECTS, SHARES, SHARES)
def test_a_larger_holdout_keeps_whom_a_smaller_one_held(subject: int, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if arm(subject, holdout=small) == HOLDOUT:
        assert arm(subject, holdout=large) == HOLDOUT


@given(SUBJECTS)
def test_the_same_subject_gets_the_same_arm(subject: int) -> None:
    assert arm(subject) == arm(subject)


@given(SUBJECTS)
def test_the_global_holdout_is_the_same_in_every_campaign(subject: int) -> None:
    names = {
        assign(c, subject, holdout=0.2, global_holdout=0.3, weights=WEIGHTS).name == GLOBAL_HOLDOUT
        for c in ("spring", "summer", "autumn")
    }
    assert len(names) == 1


@given(SUBJECTS, st.sampled_from(["a", "b"]))
def test_a_stored_variant_stays_and_one_that_is_gone_is_drawn_anew(subject: int, stored: str) -> None:
    drawn = arm(subject)
    assert arm(subject, stored=(stored, 0.5)) == (stored if drawn in WEIGHTS else drawn)
    assert arm(subject, stored=("gone", 0.5)) == drawn


def test_a_stored_variant_keeps_the_probability_with_which_it_was_drawn() -> None:
    kept = assign("spring", 1, holdout=0.0, global_holdout=0.0, weights={"a": 9, "b": 1}, stored=("b", 0.5))
    assert (kept.name, kept.probability) == ("b", 0.5)


@given(SUBJECTS, SHARES, SHARES, st.sampled_from([None, "2026-06-15", "2026-06-16"]))
def test_holdouts_nest_and_are_the_same_in_every_occurrence(
    subject: int, one: float, other: float, occurrence: str | None
) -> None:
    small, large = sorted((one, other))
    held = arm(subject, holdout=small) in (HOLDOUT, GLOBAL_HOLDOUT)
    assert (arm(subject, holdout=small, occurrence=occurrence) in (HOLDOUT, GLOBAL_HOLDOUT)) == held
    if held:
        assert arm(subject, holdout=large, occurrence=occurrence) in (HOLDOUT, GLOBAL_HOLDOUT)


@given(SUBJECTS, st.text(max_size=20), st.sampled_from(["a", "b"]))
def test_learned_arms_are_drawn_once_an_occurrence_whatever_was_before(
    subject: int, occurrence: str, stored: str
) -> None:
    drawn = arm(subject, occurrence=occurrence)
    assert arm(subject, occurrence=occurrence, stored=(stored, 0.5)) == drawn


def test_the_next_occurrence_draws_anew() -> None:
    days = [[arm(s, holdout=0, global_holdout=0, occurrence=f"2026-06-{d}") for s in range(4000)] for d in (15, 16)]
    both = Counter(zip(*days, strict=True))
    assert both["b", "b"] / 4000 == pytest.approx(0.75 * 0.75, abs=0.04), "independent of the day before"


@pytest.mark.parametrize("occurrence", [None, "2026-06-15"])
def test_shares_and_probabilities_agree(occurrence: str | None) -> None:
    n = 20_000
    arms = [
        assign("spring", s, holdout=0.1, global_holdout=0.02, weights=WEIGHTS, occurrence=occurrence) for s in range(n)
    ]
    counts, probability = Counter(a.name for a in arms), {a.name: a.probability for a in arms}
    assert abs(sum(probability.values()) - 1) < 1e-9
    for name, p in probability.items():
        assert abs(counts[name] / n - p) < 5 * (p * (1 - p) / n) ** 0.5, name
