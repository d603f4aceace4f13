"""Frequency caps as planning sees them: of one channel, and of all together. On each database."""

from __future__ import annotations

from datetime import timedelta

from campaigns.test_specs import GOOD
from controltower.campaigns.specs import validate
from controltower.jobs.planning import permissions
from controltower.ledger.database import reading
from controltower.settings import INCLUDE, Settings, parse_shop
from controltower.shop import FrequencyCap
from ledger.conftest import NOW
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
