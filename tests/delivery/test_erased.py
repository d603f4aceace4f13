"""Who was erased gets nothing more, and stays where SendGrid keeps them from being written to."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa
import yaml
from controltower import clock
from controltower.jobs.privacy import erase_person
from controltower.jobs.unsubscribe_group import sync_asm_group
from controltower.ledger import consents, tables
from controltower.ledger.database import begin, reading
from support.patience import PATIENCE
from support.sandbox import NOW as THERE

from delivery.conftest import NOW, Desk

GROUP = "/v3/asm/groups/7/suppressions"


@pytest.fixture
def there(desk: Desk) -> Iterator[httpx.Client]:
    """SendGrid's API, with the group empty before and after."""
    headers = {"Authorization": f"Bearer {desk.sandbox.api_key}"}
    with httpx.Client(base_url=desk.sandbox.url, headers=headers, timeout=PATIENCE) as there:
        _empty(there)
        yield there
        _empty(there)


def _empty(there: httpx.Client) -> None:
    for address in there.get(GROUP).json():
        assert there.delete(f"{GROUP}/{address}").status_code == 204


@pytest.mark.parametrize("channel", ["email", "push"])
def test_a_message_that_was_to_leave_does_not(desk: Desk, channel: str) -> None:
    desk.plan(channel)
    clock.set_clock(desk.settings, NOW, speed=0)
    erase_person("c0", "Ann")
    desk.dispatch()
    with reading(desk.settings) as ledger:
        o = tables.outcomes.c
        assert ledger.execute(sa.select(o.state, o.reason)).all() == [("not_sent", "customer_gone")]
    assert sum(desk.totals().accepted.values()) == len(desk.customers) - 1


def test_who_stands_in_sendgrids_group_stays_there(desk: Desk, there: httpx.Client) -> None:
    path = desk.settings.shop_file
    shop = yaml.safe_load(path.read_text(encoding="utf-8")) | {"sendgrid": {"asm_group_id": 7}}
    path.write_text(yaml.safe_dump(shop), encoding="utf-8")
    clock.set_clock(desk.settings, THERE, speed=0)
    with begin(desk.settings) as ledger:
        consents.withdraw(ledger, ["c0"], "email", "marketing", THERE, source="test")
    assert sync_asm_group()["added"] == 1
    for customer in ("c0", "c1"):  # c1 never unsubscribed
        erase_person(customer, "Ann")
    report = sync_asm_group()
    assert {name: report[name] for name in ("in_group", "added", "removed", "withdrawn", "suppressed")} == {
        "in_group": 1, "added": 0, "removed": 0, "withdrawn": 0, "suppressed": 0,
    }  # fmt: skip
    assert there.get(GROUP).json() == ["c0@customers.example"]
