"""The intervals against published figures; the verdict's words; whom a comparison leaves out."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from controltower.ledger import cohorts, runs
from controltower.ledger.database import reading
from controltower.measurement import intervals, wording
from controltower.measurement.readout import Group, Window, compare, random_hours, readout, too_small, verdict
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from .conftest import DAY, HOUR, NOW, Story

OPEN, CLOSED = (Window(NOW, 7, NOW + days * DAY) for days in (2.5, 7))


@pytest.mark.parametrize(("counts", "low", "high"), [
    ((56, 70, 48, 80), 0.0524, 0.3339),
    ((9, 10, 3, 10), 0.1705, 0.8090),
    ((6, 7, 2, 7), 0.0582, 0.8062),
    ((5, 56, 0, 29), -0.0381, 0.1926),
    ((0, 10, 0, 20), -0.1611, 0.2775),
    ((0, 10, 0, 10), -0.2775, 0.2775),
    ((10, 10, 0, 20), 0.6791, 1.0000),
    ((10, 10, 0, 10), 0.6075, 1.0000),
])  # fmt: skip
def test_the_interval_gives_newcombes_own_examples(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    """Table II of the paper, method 10."""
    found = intervals.newcombe(*counts)
    assert (round(found[0], 4), round(found[1], 4)) == (low, high)


shares = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(shares, shares)
def test_the_interval_holds_the_difference_and_turns_with_its_groups(a: tuple[int, int], b: tuple[int, int]) -> None:
    low, high = intervals.newcombe(*a, *b)
    slack = 1e-12
    assert -1 - slack <= low <= a[0] / a[1] - b[0] / b[1] + slack and low <= high <= 1 + slack
    assert intervals.newcombe(*b, *a) == pytest.approx((-high, -low))


@pytest.mark.parametrize(("n", "m"), [(40, 12), (500, 60), (9000, 1000)])
def test_where_the_smaller_group_varies_more_the_interval_is_welchs(n: int, m: int) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(3, 1, n), rng.normal(2, 4, m)
    low, high = intervals.careful_welch(a.mean(), a.var(ddof=1), n, b.mean(), b.var(ddof=1), m)
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert low <= theirs.low and theirs.high <= high
    same = intervals.careful_welch(a.mean(), 9.0, n, b.mean(), 9.0, m)
    spread = stats.t.ppf(0.975, (1 / n + 1 / m) ** 2 / (1 / n**2 / (n - 1) + 1 / m**2 / (m - 1)))
    assert (same[1] - same[0]) / 2 == pytest.approx(spread * 3 * math.sqrt(1 / n + 1 / m), rel=2e-4)


@pytest.mark.parametrize("held_out", [100, 1000])
def test_the_interval_of_revenue_covers_no_less_than_it_says(held_out: int) -> None:
    """Revenue as shops have it: one in fifteen orders, what they spend is skewed, and few are held out."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(600):
        values: list[float] = []
        for n in (9000, held_out):
            spent = rng.lognormal(10, 0.9, rng.binomial(n, 0.066))
            mean = spent.sum() / n
            values += [mean, ((spent**2).sum() - n * mean**2) / (n - 1), n]
        low, high = intervals.careful_welch(*values)  # type: ignore[arg-type]
        covered += low <= 0 <= high
    assert covered / 600 >= 0.95


def test_nothing_varies_where_nobody_ordered() -> None:
    assert intervals.careful_welch(0, 0, 10, 0, 0, 10) == (0, 0)
    assert compare(Group(10), Group(10))["detectable"] is None


def test_the_detectable_difference_is_shown_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    base, n, m = 0.05, 8000, 2000
    size = intervals.detectable(base, n, m)
    hits = sum(
        intervals.newcombe(rng.binomial(n, base + size), n, rng.binomial(m, base), m)[0] > 0 for _ in range(2000)
    )
    assert 0.75 <= hits / 2000 <= 0.83


def group(customers: int, ordered: int) -> Group:
    return Group(customers, ordered, Decimal(ordered * 10), 1.0)


@pytest.mark.parametrize(("treated", "holdout", "window", "left", "recorded", "word"), [
    (group(900, 90), group(0, 0), CLOSED, 9, False, "no holdout"),
    (group(0, 0), group(100, 9), CLOSED, 9, False, "no holdout"),
    (group(900, 90), group(100, 9), CLOSED, 0, False, "nothing left"),
    (group(900, 200), group(100, 2), OPEN, 9, False, "window open"),
    (group(900, 9), group(100, 1), CLOSED, 9, False, "too small"),
    (group(900, 0), group(100, 0), CLOSED, 9, False, "too small"),
    (group(900, 899), group(100, 100), CLOSED, 9, False, "too small"),
    (group(900, 90), group(100, 9), CLOSED, 9, False, "no effect shown"),
    (group(900, 200), group(100, 9), CLOSED, 9, False, "effect"),
    (group(900, 90), group(100, 30), CLOSED, 9, False, "effect"),
    (group(900, 200), group(100, 9), CLOSED, 9, True, "placebo test"),
    (group(900, 90), group(100, 9), CLOSED, 9, True, "placebo test"),
])  # fmt: skip
def test_the_verdict(treated: Group, holdout: Group, window: Window, left: int, recorded: bool, word: str) -> None:
    assert verdict(treated, holdout, window, left=left, recorded=recorded) == word
    told = said(treated, holdout, window, left=left, recorded=recorded)
    assert all(sentence.endswith(".") for sentence in told.values()) and told["en"] != told["ko"]


def said(
    treated: Group, holdout: Group, window: Window, *, left: int, recorded: bool, written_to: int = 0
) -> dict[str, str]:
    """The sentence of a comparison, by language."""
    found = readout(
        {True: treated, False: holdout}, window, {}, left=left, recorded=recorded, currency="KRW",
        written_to=written_to,
    )  # fmt: skip
    return {language: wording.sentence(found, wording.speak(language)) for language in ("en", "ko")}


@pytest.mark.parametrize(("written_to", "word"), [(0, "effect"), (1, "effect"), (2, "contaminated")])
@pytest.mark.parametrize("window", [OPEN, CLOSED])
def test_above_one_percent_of_the_held_out_written_to_there_is_no_verdict(
    window: Window, written_to: int, word: str
) -> None:
    expected = word if window.closed or word == "contaminated" else "window open"
    treated, holdout = group(900, 200), group(100, 9)
    assert verdict(treated, holdout, window, left=9, recorded=False, written_to=written_to) == expected
    told = said(treated, holdout, window, left=9, recorded=False, written_to=written_to)
    assert (
        ("2 of 100 held-out" in told["en"]) == (word == "contaminated") == told["ko"].startswith("비교군 100명 중 2명")
    )


def test_the_sentence_says_which_way() -> None:
    more, fewer = (
        said(group(900, n), group(100, 20), CLOSED, left=9, recorded=False) for n in (360, 45)
    )  # fmt: skip
    assert more["en"].startswith("20.00 points more of the customers") and "20.00%p 더 높" in more["ko"]
    assert fewer["en"].startswith("15.00 points fewer") and "15.00%p 더 낮" in fewer["ko"]


@given(shares, shares)
def test_what_is_too_small_does_not_depend_on_which_way_it_goes(a: tuple[int, int], b: tuple[int, int]) -> None:
    one, other = group(a[1], a[0]), group(b[1], b[0])
    assert too_small(one, other) == too_small(other, one)
    assert math.isfinite(compare(one, other)["difference"])


def who(story: Story, run_id: int) -> tuple[dict[str, bool], dict[str, int]]:
    with reading(story.settings) as ledger:
        run = runs.known(ledger, run_id)
        cohort = cohorts.cohort(ledger, run, NOW + 8 * DAY)
        return {row[1]: row[2] for row in cohorts.members(ledger, cohort)}, dict(cohort.left_out)


FIRST = {"a": "email/x", "b": "email/x", "h": "holdout", "g": "global_holdout", "n": "no_consent"}


def test_the_first_run_compares_everybody_it_drew(story: Story) -> None:
    run_id = story.plan(FIRST)
    assert who(story, run_id) == ({"a": True, "b": True, "h": False}, {"global_holdout": 1})


def test_whoever_an_earlier_run_could_write_to_is_left_out(story: Story) -> None:
    """b and h are there again; a is at the cap because it got the first message, which h could never be."""
    story.plan(FIRST)
    story.send()
    again = {
        "a": "frequency_cap",
        "b": "email/x",
        "h": "holdout",
        "g": "global_holdout",
        "n": "email/x",
        "k": "holdout",
    }
    run_id = story.plan(again, occurrence="2026-06-16", now=NOW + DAY)
    assert who(story, run_id) == ({"n": True, "k": False}, {"in_earlier_run": 2, "global_holdout": 1})


def test_a_run_without_anybody_new_says_so(story: Story) -> None:
    story.plan(FIRST)
    story.send()
    story.plan({"b": "email/x", "h": "holdout"}, occurrence="2026-06-16", now=NOW + DAY)
    story.send(at=NOW + DAY + HOUR)
    story.orders_are_loaded()
    found = story.report()
    assert found["readout"]["verdict"] == "nobody new"
    assert {"code": "in_earlier_run", "customers": 2} in found["notes"]


def test_a_version_that_sent_something_is_named_in_the_next_ones_report(story: Story) -> None:
    first = story.plan(FIRST)
    story.send(only={"a"})
    story.plan({"a": "in_earlier_version", "b": "in_earlier_version", "k": "email/x"}, now=NOW + HOUR)
    story.orders_are_loaded()
    found = story.report()
    assert [(v["version"], v["state"], v["accepted"]) for v in found["versions"]] == [
        (1, "superseded", 1), (2, "planned", 0)
    ]  # fmt: skip
    assert {"code": "other_version", "version": 1, "run_id": first, "accepted": 1} in found["notes"]
    older = story.report(run_id=first)
    assert wording.tell(older, "en")["outcome"] == "replaced by a newer version: 1 of 2 messages had left"


def test_a_run_of_which_nothing_left_or_of_another_campaign_leaves_nobody_out(story: Story) -> None:
    story.plan(FIRST, campaign="summer")
    story.send()
    story.cancelled(story.plan(FIRST))
    run_id = story.plan(FIRST, occurrence="2026-06-16", now=NOW + DAY)
    assert who(story, run_id) == ({"a": True, "b": True, "h": False}, {"global_holdout": 1})


def test_versions_of_an_occasion_are_compared_together(story: Story) -> None:
    """Each customer as first drawn, also where a later version draws them again."""
    story.plan(FIRST)
    story.send(only={"a"})
    run_id = story.plan(
        {"a": "in_earlier_version", "b": "in_earlier_version", "h": "holdout", "n": "email/x", "k": "holdout"},
        now=NOW + HOUR,
    )
    assert who(story, run_id) == ({"a": True, "b": True, "h": False, "n": True, "k": False}, {})


def test_a_version_with_another_holdout_share_is_left_out(story: Story) -> None:
    story.plan(FIRST)
    story.send(only={"a"})
    run_id = story.plan({"a": "in_earlier_version", "h": "holdout", "k": "holdout"}, now=NOW + HOUR, holdout=0.5)
    assert who(story, run_id) == ({"a": True, "b": True, "h": False}, {"another_holdout_share": 1})


def test_one_count_a_person_with_two_customer_ids(story: Story) -> None:
    """An order by either is the person's."""
    from controltower.ledger.database import begin
    from controltower.ledger.tables import subjects

    run_id = story.plan({"a": "email/x", "h": "holdout"})
    with begin(story.settings) as ledger:
        a = cohorts.subjects_of(ledger, ["a"])["a"]
        ledger.execute(subjects.insert().values(customer_id="a2", subject_id=a, created_at=NOW))
    story.send()
    story.order("a2", NOW + DAY, ("x", 1, 1_000))
    story.order("a", NOW + 2 * DAY, ("x", 1, 500))
    story.orders_are_loaded()
    assert who(story, run_id)[0] == {"a": True, "a2": True, "h": False}
    found = story.report()["readout"]
    assert (found["treated"]["customers"], found["treated"]["ordered"]) == (1, 1)
    assert found["treated"]["revenue"] == "1500.0000"


def test_orders_on_the_windows_edges(story: Story) -> None:
    story.plan({f"m{n}": "email/x" for n in range(4)} | {"h": "holdout"})
    story.send()
    for n, at in enumerate((NOW - timedelta(seconds=1), NOW, NOW + 7 * DAY - HOUR, NOW + 7 * DAY)):
        story.order(f"m{n}", at, ("x", 1, 100))
    story.orders_are_loaded()
    assert story.report()["readout"]["treated"]["ordered"] == 2


def test_the_specs_window_goes_before_the_shops(story: Story) -> None:
    story.plan({"m": "email/x", "h": "holdout"}, attribution_days=2)
    story.send()
    story.order("m", NOW + 3 * DAY, ("x", 1, 100))
    story.orders_are_loaded()
    found = story.report()
    assert found["readout"]["window"]["days"] == found["attribution_days"] == 2
    assert (found["readout"]["treated"]["ordered"], found["levels"][0]["figures"]["orders"]["value"]) == (0, 0)


def test_money_is_summed_exactly(story: Story) -> None:
    """Amounts that binary fractions can't hold; figures by hand."""
    story.plan({f"m{n}": "email/x" for n in range(4)} | {"h": "holdout", "k": "holdout"})
    story.send()
    for n, price in enumerate((0.1, 0.2, 0.7)):
        story.order(f"m{n}", NOW + DAY, ("x", 1, price))
    story.order("h", NOW + DAY, ("x", 3, 1e9))
    story.orders_are_loaded()
    found = story.report()["readout"]
    assert (found["treated"]["revenue"], found["treated"]["revenue_per_customer"]) == ("1.0000", "0.2500")
    assert found["treated"]["variance"] == pytest.approx((0.54 - 0.25) / 3, rel=1e-15)
    assert found["holdout"]["variance"] == 4.5e18


def test_random_hours_are_compared_with_the_best_ones() -> None:
    assert random_hours({}) is None and random_hours({False: (90, 9)}) is None
    few = random_hours({True: (40, 4), False: (900, 90)})
    assert few == {"random": 40, "best": 900, "difference": None}
    found = random_hours({True: (500, 40), False: (9500, 1140)})
    assert found is not None and (found["random_share"], found["best_share"]) == (0.08, 0.12)
    assert found["difference"] == pytest.approx(-0.04) and found["low"] < -0.04 < found["high"] < 0
    assert (found["low"], found["high"]) == intervals.newcombe(40, 500, 1140, 9500)
