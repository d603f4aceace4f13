"""The job that Airflow starts every five minutes, from before the first load on."""

from __future__ import annotations

import pytest
from controltower.errors import BadSettings
from controltower.jobs.campaigns import plan_campaign
from controltower.jobs.dispatch import dispatch_messages
from controltower.settings import Settings
from support import scored_shop


def test_before_the_first_load_there_is_nothing_to_send(ledger_settings: Settings) -> None:
    report = dispatch_messages()
    assert (report["requests"], report["pending"], report["next_due"]) == ({}, 0, None)


def test_a_home_whose_shop_file_is_lost_is_no_new_one(
    ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = scored_shop.make(ledger_settings.home, monkeypatch)
    plan_campaign("spring")
    conf.shop_file.unlink()
    with pytest.raises(BadSettings, match="There is no shop file"):
        dispatch_messages()
