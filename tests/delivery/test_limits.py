"""Rates, domains' rates and warm-up: what may leave, as functions of values."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from controltower.delivery.limits import Limits, Rate, Wanted, allot, returned, warm_up
from controltower.ledger.providers import Bucket, Usage
from controltower.shop import ProviderRules, WarmUp
from pydantic import ValidationError

DAY = date(2026, 12, 1)


def limits(**rules: object) -> Limits:
    found = Limits.of(ProviderRules.model_validate(rules), DAY)
    assert found
    return found


def mails(n: int, domain: str = "", first: int = 0) -> list[Wanted]:
    return [Wanted(seq, domain, domain) for seq in range(first, first + n)]


@pytest.mark.parametrize("text", ["1/minute", "3/minute", "10/minute", "600/minute", "20000/hour", "7/day"])
def test_no_period_sees_more_than_the_rate_however_it_is_asked(text: str) -> None:
    rate, bucket = Rate.of(text), Bucket()
    most, period = int(text.partition("/")[0]), {"minute": 60, "hour": 3600, "day": 86_400}[text.partition("/")[2]]
    left: list[float] = []
    now = 1_800_000_000.0
    for _ in range(600):
        if n := rate.room(bucket, now):
            bucket = rate.taken(bucket, now, n)
            left += [now] * n
        now += period / 150
    for start in set(left):
        assert sum(start <= at < start + period for at in left) <= most
    assert len(left) >= min(most / 2, most - rate.burst) * 600 / 150 * 0.9  # and it isn't idle


def test_a_bucket_waits_until_as_many_can_leave_as_ever_do() -> None:
    rate = Rate.of("600/minute")
    spent = rate.taken(Bucket(), 1000.0, rate.burst)
    assert rate.room(spent, 1000.0) == 0
    assert rate.wait(spent, 1000.0, 1) == pytest.approx(1 / rate.speed)
    assert rate.wait(spent, 1000.0, 10_000) == pytest.approx(rate.burst / rate.speed)
    assert rate.room(spent, 1000.0 + rate.wait(spent, 1000.0, 10_000)) == rate.burst


def test_what_has_no_room_at_its_provider_stays_with_its_batch() -> None:
    found = allot(limits(rate="100/minute"), mails(24), Usage(0.0, 0, {}))
    assert [one.seq for one in found.allowed] == list(range(10))
    assert found.waiting == list(range(10, 24))
    assert found.wait == pytest.approx(10 / 1.5)


def test_a_slow_domain_comes_back_in_parts_one_after_another_and_holds_up_no_other() -> None:
    some = limits(per_domain={"gmail.com": "100/minute"})
    found = allot(some, [*mails(25, "gmail.com"), *mails(3, "naver.com", 25)], Usage(0.0, 0, {}))
    assert [one.seq for one in found.allowed] == [*range(10), 25, 26, 27]
    (first, one), (second, two) = found.later
    assert (one, two) == (list(range(10, 20)), list(range(20, 25)))
    assert (first, second) == (pytest.approx(10 / 1.5), pytest.approx(20 / 1.5))
    again = allot(some, mails(5, "gmail.com", 30), Usage(0.0, 0, found.buckets))
    assert again.later == [(pytest.approx(25 / 1.5), list(range(30, 35)))]  # after those that wait already


def test_each_other_domain_has_a_rate_of_its_own() -> None:
    some = limits(per_domain={"*": "10/minute", "gmail.com": "20/minute"})
    found = allot(
        some, [*mails(2, "a.example"), *mails(2, "b.example", 2), *mails(3, "gmail.com", 4)], Usage(0.0, 0, {})
    )
    assert [one.seq for one in found.allowed] == [0, 2, 4, 5]


def test_a_message_that_costs_more_than_ever_leaves_at_once_leaves_alone() -> None:
    some = limits(rate="10/minute")
    found = allot(some, [Wanted(1, n=3), Wanted(2)], Usage(0.0, 0, {}))
    assert ([one.seq for one in found.allowed], found.waiting) == ([1], [2])


def test_what_did_not_leave_is_given_back() -> None:
    some = limits(rate="100/minute", warm_up={"start": DAY, "days": [50]}, per_domain={"x.example": "100/minute"})
    taken = allot(some, mails(10, "x.example"), Usage(5.0, 0, {}))
    rest = returned(some, taken.allowed[4:], Usage(5.0, taken.taken, taken.buckets))
    used = Usage(5.0, rest.taken, rest.buckets)
    assert rest.taken == 4
    assert len(allot(some, mails(10, "x.example"), used).allowed) == 6


def test_warm_up_doubles_for_fifteen_days_and_is_over_then() -> None:
    rules = ProviderRules(warm_up=WarmUp(start=DAY))
    by_day = [warm_up(rules, DAY + timedelta(days=n)) for n in range(-1, 16)]
    assert by_day == [None, *(50 * 2**n for n in range(15)), None]
    assert Limits.of(rules, DAY - timedelta(days=1)) is None


def test_the_rest_of_a_day_waits_for_tomorrow() -> None:
    some = limits(warm_up={"start": DAY, "days": [50]})
    found = allot(some, mails(24), Usage(0.0, 40, {}))
    assert (len(found.allowed), len(found.tomorrow), found.taken) == (10, 14, 50)


@pytest.mark.parametrize("text", ["0/minute", "600", "600/second", "ten/minute", "600 / minute"])
def test_a_rate_is_written_in_one_way(text: str) -> None:
    with pytest.raises(ValidationError):
        ProviderRules(rate=text)
