"""Frequency caps as planning sees them: of one channel, and of all together. On each database."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
import yaml
from campaigns.test_specs import GOOD
from controltower import clock
from controltower.campaigns.specs import validate
from controltower.jobs import gathering, planning
from controltower.jobs.campaigns import plan_campaign
from controltower.jobs.planning import permissions
from controltower.ledger import plans
from controltower.ledger.database import begin, reading
from controltower.settings import INCLUDE, Settings, parse_shop
from controltower.shop import FrequencyCap
from ledger.conftest import NOW
from support import scored_shop
from support.sent_messages import plan, send

DAY = timedelta(days=1)
SPEC = validate(GOOD, "spring")
SHOP = parse_shop(INCLUDE / "shops" / "simulated.yaml")


def capped(settings: Settings, *caps: FrequencyCap, days: int = 0) -> dict[str, set[str]]:
    """Who is at a cap so many days later, by channel."""
    shop = SHOP.model_copy(update={"frequency_caps": list(caps)})
    with reading(settings) as ledger:
        return dict(permissions(ledger, shop, SPEC, NOW + days * DAY, None).capped)


def test_caps_of_one_channel_and_across_channels(ledger_settings: Settings) -> None:
    """c0 and c1 get a mail, then c0 a push, which waits still when the next campaign is planned."""
    plan(ledger_settings, NOW - 2 * DAY, ["a", "a"], campaign="mail")
    send(ledger_settings, NOW - 2 * DAY)
    plan(ledger_settings, NOW - DAY, ["a"], campaign="push", channel="push")
    across, mail, push = (FrequencyCap(most=n, days=7, channel=c) for n, c in ((2, None), (1, "email"), (1, "push")))
    nobody: set[str] = set()
    assert capped(ledger_settings, across) == {"push": {"c0"}, "email": {"c0"}}
    assert capped(ledger_settings, mail) == {"push": nobody, "email": {"c0", "c1"}}
    assert capped(ledger_settings, push) == {"push": {"c0"}, "email": nobody}
    assert capped(ledger_settings, across, mail, push) == {"push": {"c0"}, "email": {"c0", "c1"}}
    send(ledger_settings, NOW, channel="push")
    assert capped(ledger_settings, across, days=4) == {"push": {"c0"}, "email": {"c0"}}
    assert capped(ledger_settings, across, days=5) == {"push": nobody, "email": nobody}  # the mail is seven days old


@pytest.fixture
def capped_shop(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two campaigns for the same 8 customers, each of whom may get one message; its clock runs."""
    conf = scored_shop.make(ledger_settings.home, monkeypatch)
    scored_shop.write_shop(conf, approve_above=None, frequency_caps=[{"most": 1, "days": 7}])
    (conf.campaigns / "summer.yaml").write_text(yaml.safe_dump(scored_shop.SPEC | {"name": "summer"}))
    clock.set_clock(conf, scored_shop.NOW)
    with begin(conf) as ledger:  # they took part before: else the second plan waits until the first has noted them
        plans.subject_ids(ledger, [*(f"c{n}" for n in range(8)), "silent"], scored_shop.KNOWN)
    return conf


def after_gathering(monkeypatch: pytest.MonkeyPatch, then: Callable[[str], Any]) -> None:
    """Let something happen once a plan has its audience, before it decides: `then` is given the campaign."""
    gather = gathering.gather

    def gathered(conf: Settings, shop: Any, spec: Any, as_of: Any) -> Any:
        found = gather(conf, shop, spec, as_of)
        then(spec.name)
        return found

    monkeypatch.setattr(gathering, "gather", gathered)


def test_what_was_planned_while_a_plan_gathered_counts(capped_shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    after_gathering(monkeypatch, lambda name: plan_campaign("summer") if name == "spring" else None)
    spring = plan_campaign("spring")
    assert (spring["messages"], spring["not_sent"]) == (0, {"frequency_cap": 8, "no_consent": 1})


def test_plans_made_at_once_keep_the_cap_together(capped_shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows what the ledger says waits a while for the other to know it too, which must not come to pass."""
    gathered, both, allowed = Barrier(2), Barrier(2), planning.permissions

    def together(*given: Any) -> Any:
        found = allowed(*given)
        with suppress(BrokenBarrierError):
            both.wait(3)
        return found

    after_gathering(monkeypatch, lambda _: gathered.wait(60))
    monkeypatch.setattr(planning, "permissions", together)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(plan_campaign, ("spring", "summer")))
    assert sorted(report["messages"] for report in found) == [0, 8]
    assert both.broken
