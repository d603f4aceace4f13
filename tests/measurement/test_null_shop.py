"""Where no message has an effect, hardly any is claimed; where one has, it is found; intervals cover as they say.

The machinery is `bench/null_shop.py`: the product's arms, counting, interval and verdict on a simulated shop's orders.
`python -m bench null_shop` judges 2,000 campaigns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from controltower.campaigns.arms import assign
from controltower.ledger import cohorts, runs
from controltower.ledger.database import reading
from controltower.measurement.intervals import detectable
from controltower.measurement.readout import Group, compare, people, tally
from controltower.settings import Settings

from bench import null_shop

from .conftest import Story


@pytest.fixture(scope="module")
def shop() -> Iterator[null_shop.Shop]:
    with null_shop.simulated_shop(customers=1500, days=180) as made:
        yield made


def test_over_200_campaigns_without_effect_at_most_7_percent_claim_one(shop: null_shop.Shop) -> None:
    found = list(shop.judge(shop.campaigns(200)))
    assert len({f.campaign.at for f in found}) > 50 and {f.campaign.holdout for f in found} == {0.1, 0.2, 0.5}
    assert sum(f.verdict == "effect" for f in found) <= 14
    assert sum(f.verdict in ("effect", "no effect shown") for f in found) >= 190  # it isn't silence that keeps it low
    assert 0.92 <= sum(f.low <= 0 <= f.high for f in found) / 200 <= 1


def test_an_effect_is_found_the_more_often_the_larger_it_is_and_the_interval_covers_it(shop: null_shop.Shop) -> None:
    rates = []
    without = list(shop.judge(shop.campaigns(100, holdouts=[0.5])))
    anyway = [(f.treated.ordered + f.holdout.ordered) / (f.treated.customers + f.holdout.customers) for f in without]
    for lift in (0.0, 0.03, 0.06):
        found = list(shop.judge(shop.campaigns(100, lift, [0.5]))) if lift else without
        rates.append(sum(f.verdict == "effect" and f.difference > 0 for f in found) / 100)
        truth = [lift * (1 - share) for share in anyway]  # who would have ordered anyway was counted already
        assert sum(f.low <= t <= f.high for f, t in zip(found, truth, strict=True)) >= 90
        if lift == 0.06:
            smallest = [detectable(f.holdout.share or 0, f.treated.customers, f.holdout.customers) for f in found]
            assert max(smallest) < 0.06 and rates[-1] >= 0.8
    assert rates[0] <= 0.07 < 0.2 <= rates[1] < rates[2]


@pytest.mark.slow
def test_whom_the_cap_keeps_out_of_the_next_run_does_not_look_like_an_effect(
    shop: null_shop.Shop, home: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best customers are written to; at the cap, they are missing from the next run's treated, not from its held
    out. All who are in the next run would be compared unfairly: the held out among them look better.
    """
    story = Story(Settings(home=home))  # type: ignore[arg-type]
    by_orders: dict[str, int] = dict.fromkeys(shop.customers, 0)
    for customer in shop.orders["customer_id"].to_pylist():
        by_orders[customer] += 1
    ranked = sorted(by_orders, key=lambda c: (-by_orders[c], c))
    unfair, fair = [], []
    for drawn in shop.campaigns(5, holdouts=[0.3]):
        campaign = replace(drawn, name=f"daily_{drawn.name}")
        given = assign(campaign.name, np.arange(len(ranked)), holdout=0.3, global_holdout=0, weights={"a": 1.0})
        arms = dict(zip(ranked, ("holdout" if held else "email/a" for held in given.held_out), strict=True))
        first = {c: arms[c] for c in ranked[:400]}
        story.plan(first, campaign=campaign.name, now=campaign.at, occurrence="1", holdout=0.3)
        story.send(at=campaign.at + null_shop.DAY / 12)
        second = {c: arms[c] if arms[c] == "holdout" else "frequency_cap" for c in ranked[:400]}
        second |= {c: arms[c] for c in ranked[400:]}
        at = campaign.at + null_shop.DAY
        run_id = story.plan(second, campaign=campaign.name, now=at, occurrence="2", holdout=0.3)
        with reading(story.settings) as ledger:
            run = runs.known(ledger, run_id)
            chosen = list(cohorts.members(ledger, cohorts.cohort(ledger, run, at)))
        everybody = [
            (n, c, arm != "holdout", at) for n, (c, arm) in enumerate(second.items()) if arm != "frequency_cap"
        ]
        fair.append(shown(shop, chosen))
        unfair.append(shown(shop, everybody))
    assert sum(unfair) >= 4
    assert sum(fair) <= 1


def shown(shop: null_shop.Shop, members: list[null_shop.Member]) -> bool:
    who = people(1, members, null_shop.DAYS * null_shop.DAY)
    groups: dict[bool, Group] = tally(shop.reading, who, null_shop.ibis.memtable(shop.orders), null_shop.UNTIL, "KRW")[
        1
    ]
    found = compare(groups[True], groups[False])
    return bool(found["low"] > 0 or found["high"] < 0)
