"""Arms are stable, holdouts nest, and shares come out as declared."""

from __future__ import annotations

from collections import Counter

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


def test_shares_and_probabilities_agree() -> None:
    n = 20_000
    arms = [assign("spring", s, holdout=0.1, global_holdout=0.02, weights=WEIGHTS) for s in range(n)]
    counts, probability = Counter(a.name for a in arms), {a.name: a.probability for a in arms}
    assert abs(sum(probability.values()) - 1) < 1e-9
    for name, p in probability.items():
        assert abs(counts[name] / n - p) < 5 * (p * (1 - p) / n) ** 0.5, name
