"""Who was erased gets nothing more, and stays where SendGrid keeps them from being written to."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml
from controltower import clock
from controltower.delivery.providers.base import Parcel, Result
from controltower.delivery.providers.sendgrid import SendGrid
from controltower.delivery.sending import Sending
from controltower.jobs.privacy import erase_person
from controltower.jobs.unsubscribe_group import sync_asm_group
from controltower.ledger import consents, erasures, tables
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


def arrived(desk: Desk) -> set[str]:
    found = desk.sandbox.http.get("/api/messages", params={"limit": 100}).json()["messages"]
    return {m["recipient"] for m in found}


def test_a_message_in_a_workers_hands_does_not_leave(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker asked who may be written to, and composed; then c0 is erased. The others' messages leave."""
    desk.plan()
    clock.set_clock(desk.settings, NOW, speed=0)
    compose, erased = Sending._compose, []

    def then_erase(sending: Sending, leaving: Any) -> Any:
        composed = compose(sending, leaving)
        if not erased:
            assert "c0@customers.example" in {one.to for one in composed} | {c.email for _, c in leaving}
            erased.append(erase_person("c0", "Ann"))
        return composed

    monkeypatch.setattr(Sending, "_compose", then_erase)
    desk.dispatch()
    assert arrived(desk) == {f"{c}@customers.example" for c in desk.customers} - {"c0@customers.example"}
    assert desk.totals().not_sent == {"customer_gone": 1}


def test_a_call_that_is_under_way_ends_before_the_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be called back: the erasure waits for it, and its result is kept."""
    desk.plan()
    clock.set_clock(desk.settings, NOW, speed=0)
    asked, came_back = Event(), erasures.call_back
    answers: list[bool] = []
    order: list[str] = []

    def asking(*given: Any) -> bool:
        answers.append(came_back(*given))
        asked.set()
        return answers[-1]

    def erase() -> None:
        erase_person("c0", "Ann")
        order.append("erased")

    post = SendGrid.post

    def slow_post(provider: SendGrid, parcel: Parcel) -> Result:
        if "c0@customers.example" in {one.to for one in parcel.outgoing}:
            erasing.append(pool.submit(erase))
            assert asked.wait(PATIENCE)
            order.append("sent")
        return post(provider, parcel)

    erasing: list[Future[None]] = []
    monkeypatch.setattr(erasures, "call_back", asking)
    monkeypatch.setattr(SendGrid, "post", slow_post)
    with ThreadPoolExecutor(1) as pool:
        desk.dispatch()
        erasing[0].result(PATIENCE)
    assert order == ["sent", "erased"] and answers[0] is False and answers[-1] is True
    assert desk.totals().accepted == {"sendgrid": len(desk.customers)} and len(arrived(desk)) == len(desk.customers)


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
