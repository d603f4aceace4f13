"""Consent to what isn't done on a channel: a yes on some channel, and a no on none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from controltower.ledger import consents, merges
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import merges as united
from controltower.settings import Settings

NOW = datetime(2026, 6, 15, tzinfo=UTC)
YES, NO = True, False


def said(conf: Settings, customer: str, *words: tuple[str, float, bool], **more: object) -> None:
    """Words on profiling: channel, days before NOW, granted."""
    with begin(conf) as ledger:
        consents.record(
            ledger,
            [
                {"customer_id": customer, "channel": channel, "purpose": "profiling", "granted": granted,
                 "recorded_at": NOW - timedelta(days=days), "source": "test", **more}
                for channel, days, granted in words
            ],
        )  # fmt: skip


@pytest.fixture
def conf(ledger_settings: Settings) -> Settings:
    conf = ledger_settings
    said(conf, "yes", ("email", 9, NO), ("email", 5, YES))
    said(conf, "yes_twice", ("email", 9, YES), ("push", 5, YES))
    said(conf, "no_on_one", ("email", 5, YES), ("push", 9, NO))
    said(conf, "withdrew", ("email", 9, YES), ("email", 5, NO))
    said(conf, "at_once", ("email", 5, YES), ("email", 5, NO))
    said(conf, "later", ("email", -1, YES))
    said(conf, "ended", ("email", 9, YES), expires_at=NOW)
    said(conf, "marketing", ("email", 9, YES), purpose="marketing")
    return conf


def agreed(conf: Settings, days: float = 0, customers: list[str] | None = None) -> set[str]:
    with reading(conf) as ledger:
        return consents.agreed(ledger, "profiling", NOW - timedelta(days=days), customers)


def test_the_last_word_on_each_channel_holds(conf: Settings) -> None:
    assert agreed(conf) == {"yes", "yes_twice"}
    assert agreed(conf, 6) == {"yes_twice", "withdrew", "ended"}
    assert agreed(conf, -1) == {"yes", "yes_twice", "later"}
    assert agreed(conf, 0, ["yes", "withdrew", "nobody"]) == {"yes"} and agreed(conf, 0, []) == set()


def test_of_merged_customers_a_no_of_one_is_all_of_theirs(conf: Settings) -> None:
    with begin(conf) as ledger:
        for person, customer in (("yes", "alias"), ("yes_twice", "withdrew")):
            ledger.execute(united.insert().values(person_id=person, customer_id=customer, merged_at=NOW))
        assert merges.families(ledger)
    assert agreed(conf) == {"yes", "alias"}
    assert agreed(conf, 0, ["alias"]) == {"alias"} and not agreed(conf, 0, ["yes_twice"])
