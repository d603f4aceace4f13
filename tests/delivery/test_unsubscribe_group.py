"""SendGrid's unsubscribe group and the ledger come to one word, over HTTP against the sandbox."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa
import yaml
from controltower import cli, clock
from controltower.data.lake import Lake
from controltower.delivery.unsubscribe_group import Span, Step, decide
from controltower.errors import BadSettings, ProviderDown
from controltower.jobs import unsubscribe_group
from controltower.jobs.unsubscribe_group import sync_asm_group
from controltower.ledger import consents, suppressions, tables
from controltower.ledger.consents import Standing
from controltower.ledger.database import begin, reading
from support import small_shop
from support.lakes import publish_rows
from support.patience import PATIENCE
from support.sandbox import NOW as THERE  # where the sandbox's clock stands

from delivery.conftest import Desk

GROUP = 7
EARLIER, LATER = THERE - timedelta(days=2), THERE + timedelta(hours=1)


def address(customer: str) -> str:
    return f"{customer}@customers.example"


class Shop:
    """A shop that names the group, and what stands in it at the sandbox."""

    def __init__(self, desk: Desk) -> None:
        self.conf = desk.settings
        headers = {"Authorization": f"Bearer {desk.sandbox.api_key}"}
        self.http = httpx.Client(base_url=desk.sandbox.url, headers=headers, timeout=PATIENCE)
        self.name_group(GROUP)
        clock.set_clock(self.conf, THERE, speed=0)

    def name_group(self, group_id: int | None) -> None:
        path = self.conf.home / "shop.yaml"
        shop = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(shop | {"sendgrid": {"asm_group_id": group_id}}), encoding="utf-8")

    def group(self, group_id: int = GROUP) -> list[str]:
        return sorted(self.http.get(f"/v3/asm/groups/{group_id}/suppressions").json())

    def unsubscribe_there(self, *addresses: str, group_id: int = GROUP) -> None:
        path = f"/v3/asm/groups/{group_id}/suppressions"
        assert self.http.post(path, json={"recipient_emails": list(addresses)}).status_code == 201

    def hashed(self, given: str) -> str:
        return suppressions.address_hash(self.conf.signing_key(), given)

    def withdraw(self, *customers: str, at: datetime = EARLIER) -> None:
        with begin(self.conf) as ledger:
            consents.withdraw(ledger, customers, "email", "marketing", at, source="test")

    def grant(self, customer: str, at: datetime) -> None:
        with begin(self.conf) as ledger:
            consents.grant(ledger, customer, "email", "marketing", at, source="test")

    def suppress(self, given: str, reason: str, kind: str = "address") -> None:
        value = self.hashed(given) if kind == "address" else given
        with begin(self.conf) as ledger:
            suppressions.add(ledger, kind, value, channel="email", reason=reason, source="test", now=EARLIER)

    def granted(self, at: datetime) -> set[str]:
        with reading(self.conf) as ledger:
            return consents.granted(ledger, "email", "marketing", at)

    def rows(self) -> tuple[int, int]:
        with reading(self.conf) as ledger:
            consented, suppressed = (
                ledger.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()
                for t in (tables.consents, tables.suppressions)
            )
        return consented, suppressed


@pytest.fixture
def shop(desk: Desk) -> Iterator[Shop]:
    made = Shop(desk)
    for group_id in (0, GROUP, GROUP + 1):
        for one in made.group(group_id):
            made.http.delete(f"/v3/asm/groups/{group_id}/suppressions/{one}")
    yield made
    made.http.close()


def numbers(report: dict[str, object]) -> dict[str, object]:
    return {name: n for name, n in report.items() if n and name != "as_of"}


def test_who_may_not_be_written_to_here_stands_in_the_group(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsubscribe_group, "CHUNK", 5)
    monkeypatch.setattr("controltower.delivery.unsubscribe_group.MOST", 2)
    shop.withdraw("c0", "c1", "c20")
    shop.suppress(address("c2"), "bounced")
    shop.suppress("c3", "objection", kind="customer")
    assert numbers(sync_asm_group()) == {"added": 5}
    assert shop.group() == sorted(map(address, ("c0", "c1", "c2", "c20", "c3")))


def test_who_unsubscribed_there_has_withdrawn_here(shop: Shop) -> None:
    shop.unsubscribe_there(address("c4").upper(), "stranger@elsewhere.example")
    shop.unsubscribe_there(address("c5"), group_id=GROUP + 1)
    assert numbers(sync_asm_group()) == {"in_group": 2, "withdrawn": 1, "suppressed": 1}
    assert "c4" not in shop.granted(THERE) and "c5" in shop.granted(THERE)
    with reading(shop.conf) as ledger:
        (row,) = suppressions.of(ledger, {"address": [shop.hashed("stranger@elsewhere.example")]}, THERE)
        source = sa.select(tables.consents.c.source).where(
            tables.consents.c.customer_id == "c4", sa.not_(tables.consents.c.granted)
        )
        assert ledger.execute(source).scalar_one() == "provider_unsubscribe"
    assert (row.reason, row.source, row.purpose, row.until) == ("unsubscribed", "sendgrid", "marketing", None)


def test_who_consents_again_is_taken_off(shop: Shop) -> None:
    shop.withdraw("c0")
    shop.suppress(address("c1"), "bounced")
    sync_asm_group()
    assert shop.group() == [address("c0"), address("c1")]
    shop.grant("c0", LATER)
    with begin(shop.conf) as ledger:
        suppressions.end(ledger, "address", [shop.hashed(address("c1"))], "bounced", LATER, "ANN")
    clock.set_clock(shop.conf, LATER, speed=0)
    assert numbers(sync_asm_group()) == {"in_group": 2, "removed": 2}
    assert shop.group() == [] and {"c0", "c1"} <= shop.granted(LATER)


def test_a_second_run_changes_nothing(shop: Shop) -> None:
    shop.withdraw("c0")
    shop.suppress(address("c1"), "complained")
    shop.unsubscribe_there(address("c2"), "stranger@elsewhere.example")
    sync_asm_group()
    before = shop.rows(), shop.group()
    assert numbers(sync_asm_group()) == {"in_group": 4}
    assert (shop.rows(), shop.group()) == before


def test_no_address_is_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shop.withdraw("c0")
    shop.unsubscribe_there("stranger@elsewhere.example", address("c1"))
    report = sync_asm_group()
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("controltower")]
    assert any("1 added" in line for line in ours)
    assert "@" not in str(report) + "".join(ours)


def test_the_command(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shop.withdraw("c0")
    monkeypatch.setattr(sys, "argv", ["controltower", "suppressions", "sync"])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    said = capsys.readouterr()
    assert "added" in said.out and "@" not in said.out + said.err
    assert shop.group() == [address("c0")]


def test_without_a_group_nothing_is_done(shop: Shop) -> None:
    shop.withdraw("c0")
    shop.name_group(None)
    assert "asm_group_id" in sync_asm_group()["skipped"]
    shop.name_group(GROUP)
    assert shop.group() == []


def test_mails_by_another_provider(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_EMAIL_PROVIDER", "smtp")
    shop.withdraw("c0")
    assert "smtp" in sync_asm_group()["skipped"] and shop.group() == []


def test_a_group_that_is_not_there_puts_nobody_on_the_global_list(shop: Shop) -> None:
    shop.withdraw("c0")
    shop.name_group(1_000_000)
    with pytest.raises(BadSettings, match=r"no unsubscribe group 1000000 .*shop\.yaml"):
        sync_asm_group()
    assert shop.group(0) == []


def test_a_refused_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", "SG.another")
    with pytest.raises(BadSettings, match=r"\(401\).*permission Suppressions"):
        sync_asm_group()


def test_too_many_calls(shop: Shop) -> None:
    shop.withdraw("c0")
    fault = {"kind": "429", "count": 1, "provider": "sendgrid"}
    assert shop.http.post("/api/faults", json=fault).status_code == 201
    with pytest.raises(ProviderDown, match=r"\(429\).*next run"):
        sync_asm_group()
    assert numbers(sync_asm_group()) == {"added": 1}


def test_addresses_as_mail_goes_to_them(shop: Shop) -> None:
    """One that no mail can go to is left out; a domain in letters of its own stands there in ASCII."""
    known = EARLIER - timedelta(days=1)
    emails = {"x1": "no address", "x2": "kim@b\u00fccher.example", "x3": " KIM@b\u00fccher.example", "x4": None}
    given = ({"customer_id": c, "updated_at": known, "email": email} for c, email in emails.items())
    publish_rows(Lake(shop.conf), "customers", "j", small_shop.rows("customers", *given))
    shop.withdraw(*emails)
    assert numbers(sync_asm_group()) == {"added": 1, "unfit": 1}
    assert shop.group() == ["kim@xn--bcher-kva.example"]
    assert numbers(sync_asm_group()) == {"in_group": 1, "unfit": 1}


def test_customers_of_one_address_are_looked_at_together(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsubscribe_group, "CHUNK", 1)
    shared = {"customer_id": "x1", "updated_at": EARLIER - timedelta(days=1), "email": address("c0")}
    publish_rows(Lake(shop.conf), "customers", "j", small_shop.rows("customers", shared))
    shop.withdraw("x1", "c1")
    assert numbers(sync_asm_group()) == {"added": 1}
    assert shop.group() == [address("c1")]


def test_a_stranger_who_is_suppressed_already(shop: Shop) -> None:
    shop.suppress("stranger@elsewhere.example", "complained")
    shop.unsubscribe_there("stranger@elsewhere.example")
    assert numbers(sync_asm_group()) == {"in_group": 1}


NO = Standing(False, EARLIER, False)
OLD, YOUNG = Standing(True, EARLIER, True), Standing(True, LATER, True)
BOUNCED = Span(EARLIER, None)


@pytest.mark.parametrize(
    ("words", "objected", "spans", "since", "step"),
    [
        ({"a": None}, set(), [], None, Step()),
        ({"a": OLD}, set(), [], None, Step()),
        ({"a": NO}, set(), [], None, Step(add=True)),
        ({"a": NO, "b": OLD}, set(), [], None, Step()),
        ({"a": NO, "b": OLD}, {"b"}, [], None, Step(add=True)),
        ({"a": OLD}, set(), [BOUNCED], None, Step(add=True)),
        ({"a": OLD}, set(), [BOUNCED], THERE, Step()),
        ({"a": OLD}, set(), [Span(THERE + timedelta(minutes=6), None)], THERE, Step(withdraw=("a",))),
        ({"a": OLD}, set(), [Span(EARLIER, EARLIER)], THERE, Step(withdraw=("a",))),
        ({"a": OLD}, set(), [Span(EARLIER, LATER)], THERE, Step(remove=True)),
        ({"a": NO}, set(), [Span(EARLIER, LATER)], THERE, Step()),
        ({"a": OLD, "b": YOUNG}, set(), [], THERE, Step(remove=True, withdraw=("a",))),
        ({"a": YOUNG}, {"a"}, [], THERE, Step()),
        ({"a": None}, set(), [], THERE, Step(withdraw=("a",))),
        ({"a": NO}, set(), [], THERE, Step()),
    ],
)
def test_the_step_for_an_address(
    words: dict[str, Standing | None], objected: set[str], spans: list[Span], since: datetime | None, step: Step
) -> None:
    assert decide(words, objected, spans, since, LATER + timedelta(hours=1)) == step
