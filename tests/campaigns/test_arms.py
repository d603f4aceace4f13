"""Arms are stable, holdouts nest, and shares come out as declared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from controltower.campaigns.arms import GLOBAL_HOLDOUT, HOLDOUT, Arms, assign
from hypothesis import given, settings
from hypothesis import strategies as st

SUBJECTS = st.integers(min_value=0, max_value=2**62)
SHARES = st.floats(min_value=0, max_value=0.5)
WEIGHTS = {"a": 1.0, "b": 3.0}


def assigned(
    subjects: Sequence[int],
    campaign: str = "spring",
    *,
    holdout: float = 0.1,
    global_holdout: float = 0.02,
    weights: Mapping[str, float] = WEIGHTS,
    stored: tuple[str, float] | None = None,
    occurrence: str | None = None,
) -> Arms:
    """The arms of subjects; `stored`: the last one's arm and share from before."""
    kept = {"subject_id": list(subjects[-1:]), "arm": [stored[0]], "share": [stored[1]]} if stored else None
    return assign(
        campaign, np.array(subjects, np.int64), holdout=holdout, global_holdout=global_holdout, weights=weights,
        stored=pa.table(kept) if kept else None, occurrence=occurrence,
    )  # fmt: skip


def arm(subject: int, **keys: Any) -> str:
    found = assigned([subject + 1, subject], **keys)
    return found.names[found.code[1]]


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
    campaigns = ("spring", "summer", "autumn")
    assert len({arm(subject, campaign=c, holdout=0.2, global_holdout=0.3) == GLOBAL_HOLDOUT for c in campaigns}) == 1


@settings(deadline=None)
@given(SUBJECTS, st.sampled_from(["a", "b"]))
def test_a_stored_variant_stays_and_one_that_is_gone_is_drawn_anew(subject: int, stored: str) -> None:
    drawn = arm(subject)
    assert arm(subject, stored=(stored, 0.5)) == (stored if drawn in WEIGHTS else drawn)
    assert arm(subject, stored=("gone", 0.5)) == drawn


def test_a_stored_variant_keeps_the_probability_with_which_it_was_drawn() -> None:
    kept = assigned([1], holdout=0.0, global_holdout=0.0, weights={"a": 9, "b": 1}, stored=("b", 0.5))
    assert (kept.names[kept.code[0]], kept.probability[0], kept.share[0]) == ("b", 0.5, 0.5)


def test_an_arm_is_that_of_the_published_hash() -> None:
    """Arms outlive versions of this code: whoever is held out must stay so."""
    places = [
        (int.from_bytes(hashlib.blake2b(b"holdout:spring\0%d" % s, digest_size=8).digest()) >> 11) / 2**53
        for s in range(500)
    ]
    held = assigned(range(500), holdout=0.3, global_holdout=0.0).held_out
    assert [place < 0.3 for place in places] == held.tolist()


@given(SUBJECTS, SHARES, SHARES, st.sampled_from([None, "2026-06-15", "2026-06-16"]))
def test_holdouts_nest_and_are_the_same_in_every_occurrence(
    subject: int, one: float, other: float, occurrence: str | None
) -> None:
    small, large = sorted((one, other))
    held = arm(subject, holdout=small) in (HOLDOUT, GLOBAL_HOLDOUT)
    assert (arm(subject, holdout=small, occurrence=occurrence) in (HOLDOUT, GLOBAL_HOLDOUT)) == held
    if held:
        assert arm(subject, holdout=large, occurrence=occurrence) in (HOLDOUT, GLOBAL_HOLDOUT)


@settings(deadline=None)
@given(SUBJECTS, st.text(max_size=20), st.sampled_from(["a", "b"]))
def test_learned_arms_are_drawn_once_an_occurrence_whatever_was_before(
    subject: int, occurrence: str, stored: str
) -> None:
    drawn = arm(subject, occurrence=occurrence)
    assert arm(subject, occurrence=occurrence, stored=(stored, 0.5)) == drawn


def test_the_next_occurrence_draws_anew() -> None:
    days = [assigned(range(4000), holdout=0, global_holdout=0, occurrence=f"2026-06-{d}").code for d in (15, 16)]
    assert (np.minimum(*days) == 3).mean() == pytest.approx(0.75 * 0.75, abs=0.04), "independent of the day before"


@pytest.mark.parametrize("occurrence", [None, "2026-06-15"])
def test_shares_and_probabilities_agree(occurrence: str | None) -> None:
    n = 20_000
    arms = assigned(range(n), occurrence=occurrence)
    names = [arms.names[code] for code in arms.code]
    counts, probability = Counter(names), dict(zip(names, arms.probability.tolist(), strict=True))
    assert abs(sum(probability.values()) - 1) < 1e-9
    for name, p in probability.items():
        assert abs(counts[name] / n - p) < 5 * (p * (1 - p) / n) ** 0.5, name
