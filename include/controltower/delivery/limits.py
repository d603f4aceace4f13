"""How much may leave through a provider now: rates, for all and by the recipients' domain, and the warm-up of a day.

Functions of values. A rate of N a period is a bucket of a tenth of N that is filled evenly with the rest, so that no
period sees more than N, wherever it begins. What is kept of a bucket is when it will be full again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from controltower.ledger.providers import Bucket, Usage
from controltower.shop import ProviderRules

ALL: Final = ""  # the bucket of every message; others bear a domain's name
EACH_OTHER: Final = "*"
_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_ROUNDING: Final = 0.01  # of a message: epoch seconds are kept to less than a microsecond


class Rate(NamedTuple):
    """At most `burst` at once, and `speed` a second."""

    burst: int
    speed: float

    @classmethod
    def of(cls, text: str) -> Rate:
        """As settings have it: 600/minute."""
        number, _, period = text.partition("/")
        most = int(number)
        burst = max(most // 10, 1)
        return cls(burst, max(most - burst, most / 2) / _SECONDS[period])

    def room(self, bucket: Bucket, now: float) -> int:
        """How many may leave now."""
        return math.floor(self.burst - max(bucket.spent_until - now, 0.0) * self.speed + _ROUNDING)

    def wait(self, bucket: Bucket, now: float, n: int) -> float:
        """Seconds until n may leave at once, or as many as ever do."""
        return max(bucket.spent_until - now - max(self.burst - n, 0) / self.speed, 0.0)

    def taken(self, bucket: Bucket, now: float, n: int) -> Bucket:
        return bucket._replace(spent_until=max(bucket.spent_until, now) + n / self.speed)


def warm_up(rules: ProviderRules, today: date) -> int | None:
    """The most messages of a day; None: any number."""
    if rules.warm_up is None:
        return None
    day = (today - rules.warm_up.start).days
    return rules.warm_up.days[day] if 0 <= day < len(rules.warm_up.days) else None


class Wanted(NamedTuple):
    """A message that could leave: `n` calls or addresses; `bucket`: its domain's, by the name that is kept."""

    seq: int
    domain: str = ""
    bucket: str = ALL
    n: int = 1


class Limits(NamedTuple):
    """What holds for a provider today."""

    rates: Mapping[str, Rate]  # by domain
    today: int | None = None  # the most messages
    day: str | None = None  # that this is for

    @classmethod
    def of(cls, rules: ProviderRules, today: date) -> Limits | None:
        """None where there are none."""
        rates = {domain.lower(): Rate.of(text) for domain, text in rules.per_domain.items()}
        rates |= {ALL: Rate.of(rules.rate)} if rules.rate else {}
        most = warm_up(rules, today)
        if most is None:
            return cls(rates) if rates else None
        return cls(rates, most, today.isoformat())

    def buckets(self, some: Iterable[Wanted]) -> set[str]:
        """Those that messages take from, if any is kept."""
        return {ALL, *(one.bucket for one in some)} if self.rates else set()

    def of_domain(self, domain: str) -> Rate | None:
        return self.rates.get(domain) or self.rates.get(EACH_OTHER) if domain else None


@dataclass
class Allotment:
    """Which messages may leave now, and when the others may try again."""

    allowed: list[Wanted] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)  # for the provider's rate, `wait` seconds
    wait: float = 0.0
    tomorrow: list[int] = field(default_factory=list)  # the day's warm-up is used up
    later: list[tuple[float, list[int]]] = field(default_factory=list)  # for their domain: in how many seconds, which
    taken: int = 0
    buckets: dict[str, Bucket] = field(default_factory=dict)  # those that changed


def allot(limits: Limits, wanted: Iterable[Wanted], usage: Usage) -> Allotment:
    """Allot what is left, in the messages' order. Each needs room in its domain's bucket and in the provider's."""
    found, now = Allotment(taken=usage.taken), usage.now
    of_all, most = limits.rates.get(ALL), math.inf if limits.today is None else limits.today
    rates: dict[str, Rate] = {}  # of the buckets come across
    room: dict[str, int] = {}
    late: dict[str, list[Wanted]] = {}

    def fits(bucket: str, rate: Rate | None, n: int) -> bool:
        if rate is None:
            return True
        if bucket not in room:
            rates[bucket], room[bucket] = rate, rate.room(usage.buckets.get(bucket, Bucket()), now)
        return room[bucket] >= min(n, rate.burst)

    spent: Counter[str] = Counter()
    for one in wanted:
        if one.domain and not fits(one.bucket, limits.of_domain(one.domain), one.n):
            late.setdefault(one.bucket, []).append(one)
        elif found.taken + one.n > most:
            found.tomorrow.append(one.seq)
        elif not fits(ALL, of_all, one.n):
            found.waiting.append(one.seq)
        else:
            found.allowed.append(one)
            found.taken += one.n
            for bucket in {ALL, one.bucket} & room.keys():
                room[bucket] -= one.n
                spent[bucket] += one.n
    for bucket, n in spent.items():
        found.buckets[bucket] = rates[bucket].taken(usage.buckets.get(bucket, Bucket()), now, n)
    if of_all and found.waiting:
        found.wait = of_all.wait(found.buckets.get(ALL) or usage.buckets[ALL], now, len(found.waiting))
    for bucket, some in late.items():
        _queue(found, rates[bucket], bucket, some, found.buckets.get(bucket) or usage.buckets[bucket], now)
    return found


def _queue(found: Allotment, rate: Rate, bucket: str, some: list[Wanted], kept: Bucket, now: float) -> None:
    """Let a domain's messages come back in parts that can leave at once, after those that wait for it already."""
    at = max(kept.queued_until, now + rate.wait(kept, now, len(some)))
    for start in range(0, len(some), rate.burst):
        part = [one.seq for one in some[start : start + rate.burst]]
        found.later.append((at - now, part))
        at += len(part) / rate.speed
    found.buckets[bucket] = kept._replace(queued_until=at)


def returned(limits: Limits, unused: Iterable[Wanted], usage: Usage) -> Allotment:
    """What is taken altogether once these, which were allowed, haven't left."""
    found = Allotment(taken=usage.taken)
    for one in unused:
        found.taken = max(found.taken - one.n, 0)
        for bucket, rate in ((ALL, limits.rates.get(ALL)), (one.bucket, limits.of_domain(one.domain))):
            if rate:
                kept = found.buckets.get(bucket) or usage.buckets.get(bucket, Bucket())
                found.buckets[bucket] = kept._replace(spent_until=kept.spent_until - one.n / rate.speed)
    return found
