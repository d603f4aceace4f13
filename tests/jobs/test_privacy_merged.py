"""Erasing somebody who has several customer ids: all of them, by any of them, and no load brings one back."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from controltower import cli, clock
from controltower.data.identity import history
from controltower.data.lake import Lake, interval_key
from controltower.errors import ControlTowerError
from controltower.jobs.identity import list_identity, undo_merge
from controltower.jobs.ingest import ingest_data
from controltower.jobs.privacy import erase_person, export_person, look_up_person
from controltower.ledger import event_bodies, merges, plans, reports, suppressions, tables, webhooks
from controltower.ledger.database import begin, reading
from controltower.settings import Settings
from support import small_shop
from support.lakes import publish_rows
from support.whole_home import counts, everything, hand_over, left_of

NOW = datetime(2026, 6, 15, 3, 0, tzinfo=UTC)
# Web and store by their telephone, web and card by a log-in, store and club by a card; `parted` once, by an address.
IDS = ["zq-web", "zq-store", "zq-card", "zq-club"]
OTHER, PARTED = "other-88", "parted-99"
HIDDEN = ["zq-", "zq@mail", "zq2@mail", "0077-7766", "tok-zq", "Quellmann"]  # ids, orders, visitors; addresses; a name

FILES = {
    "customers.csv": "customer_id,updated_at,email,phone,last_name\n"
    "zq-web,2026-05-01,zq@mail.example,010-0077-7766,Quellmann\n"
    "zq-store,2026-05-02,,+82 10 0077 7766,Quellmann\n"
    "zq-card,2026-05-03,zq2@mail.example,,Quellmann\nzq-club,2026-05-04,,,\n"
    f"{PARTED},2026-05-05,Office@mail.example,,Anders\n{OTHER},2026-05-05,other@mail.example,,Andere\n"
    "zq-web,2026-05-06,office@mail.example,010-0077-7766,Quellmann\n",
    "identities.csv": "kind,value,customer_id,visitor_id,seen_at\n"
    "login,zq-login,zq-web,,2026-05-01\nlogin,zq-login,zq-card,zq-vis-card,2026-05-03\n"
    "loyalty,zq-loyal,zq-store,,2026-05-02\nloyalty,zq-loyal,zq-club,,2026-05-04\n",
    "consents.csv": "customer_id,channel,purpose,recorded_at,granted,source,proof\n"
    + "".join(f"{c},email,marketing,2026-06-01,true,form,Quellmann signed\n" for c in IDS)
    + f"{OTHER},email,marketing,2026-06-01,true,form,\n{PARTED},email,marketing,2026-06-01,true,form,\n"
    + "zq-club,e mail,marketing,2026-06-02,false,form,\n",
    "devices.csv": "device_id,customer_id,push_token,platform,updated_at\n"
    "zq-dev,zq-store,tok-zq-1,ios,2026-05-01\nzq-dev,zq-card,tok-zq-2,ios,2026-06-01\n"
    f"dev-88,{OTHER},tok-88,ios,2026-06-01\n",
    "events.csv": "event_id,occurred_at,event_name,customer_id,visitor_id\n"
    "zq-e1,2026-06-01,view_item,,zq-vis\nzq-e2,2026-06-02,login,zq-web,zq-vis\n"
    "zq-e3,2026-06-03,login,zq-store,zq-vis\nzq-e4,2026-06-03,view_item,,zq-vis-card\n"
    f"e5,2026-06-03,view_item,{OTHER},vis-88\n",
    "orders.csv": "order_id,ordered_at,currency,customer_id\n"
    + "".join(f"zq-o{n},2026-06-02,KRW,{c}\n" for n, c in enumerate(IDS)) + f"ord-88,2026-06-02,KRW,{OTHER}\n",
    "order_lines.csv": "order_id,line_no,product_id,quantity,unit_price\n"
    + "".join(f"zq-o{n},1,p1,1,100\n" for n in range(4)) + "ord-88,1,p1,2,100\n",
    "subscriptions.csv": "subscription_id,customer_id,product_id,updated_at\nzq-s,zq-club,p1,2026-06-01\n",
    "coupons.csv": f"coupon_code,pool,updated_at,issued_to\nzq-c,a,2026-06-01,zq-card\nc-88,a,2026-06-01,{OTHER}\n",
    "messages_history.csv": "message_id,customer_id,channel,sent_at\n"
    f"zq-m,zq-store,email,2026-06-01\nm-88,{OTHER},email,2026-06-01\n",
    "message_events.csv": "event_id,message_id,event,occurred_at\nzq-me,zq-m,opened,2026-06-01\n"
    "me-88,m-88,opened,2026-06-01\n",
    "source.yaml": "bad_rows_limit: 0.5\n",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hand_over(tmp_path / "shop", FILES)


@pytest.fixture
def shop(ledger_settings: Settings, folder: Path) -> Settings:
    """A person of four ids, to each of whom a message was planned before they were known to be one."""
    conf = ledger_settings
    clock.set_clock(conf, NOW - timedelta(days=30), speed=0)
    small_shop.plan(conf, [*IDS, OTHER, PARTED], NOW - timedelta(days=30))
    clock.set_clock(conf, NOW, speed=0)
    ingest_data(str(folder))
    undo_merge(next(m["merge"] for m in list_identity()["merges"] if PARTED in (m["person"], m["gone"])), "Ann")
    lake, ids = Lake(conf), [*IDS, OTHER]
    for table in ("features", "scores", "recommendations", "inferences"):
        publish_rows(lake, table, interval_key(NOW), pa.table({"customer_id": ids, "product_id": ["p1"] * len(ids)}))
    with begin(conf) as ledger:
        m = tables.messages.c
        named = dict(ledger.execute(sa.select(m.customer_id, m.message_id)).tuples().all())
        element = {"event": "bounce", "type": "bounce", "timestamp": int(NOW.timestamp()), "reason": "550 zq2@mail"}
        hooks = [
            element | {"email": "zq2@mail.example", "sg_event_id": str(n), "message_id": named[c]}
            for n, c in enumerate(IDS)
        ]
        webhooks.store(ledger, "sendgrid", [json.dumps(hooks).encode()], NOW)
        posted = [{"event_id": f"p-{c}", "occurred_at": NOW.isoformat(), "event_name": "login", "customer_id": c,
                   "visitor_id": f"v-{c}"} for c in IDS]  # fmt: skip
        event_bodies.store(ledger, [json.dumps({"events": posted}).encode()], NOW)
        suppressions.add(ledger, "customer", "zq-club", reason="objection", source="test", now=NOW)
    return conf


@pytest.mark.parametrize("asked", ["zq-web", "zq-club"])  # the id that stands for the person, and one far from it
def test_all_ids_go_by_any_of_them(shop: Settings, asked: str, tmp_path: Path) -> None:
    assert left_of(shop, HIDDEN) == HIDDEN
    before = counts(shop)
    certificate = erase_person(asked, "Ann", at_once=True)
    assert left_of(shop, HIDDEN) == [] and certificate["ids_of_the_person"] == 4
    kept = everything(shop)
    for one in IDS:  # a subject's number is made of the id
        assert str(plans.new_subject(one)) not in kept
    for trace in (OTHER, "other@mail.example", "tok-88", "ord-88", "c-88", "me-88", PARTED, "Anders"):
        assert trace in kept
    after = counts(shop)
    assert {t: after[t] - before[t] for t in after if after[t] != before[t]} == {
        "erased": 4 + 2, "suppressions": 3, "delivery_events": 4, "loads": 1,  # visitors; the bounce, addresses
    }  # fmt: skip
    lake = certificate["rows"]["lake"]
    expected = {"customers": 5, "orders": 4, "order_lines": 4, "identities": 4, "messages_history": 1, "features": 4}
    assert {table: lake[table] for table in expected} == expected
    with reading(shop) as ledger:
        (totals,) = reports.totals(ledger, [1])
        held = ledger.execute(sa.select(tables.merges.c.customer_id, tables.merges.c.person_id)).all()
        assert totals.accounted
        assert not [c for row in held for c in row if c in IDS]
        assert merges.families(ledger)  # that they were one person is still told, of the pseudonyms
    for one in IDS:
        with pytest.raises(ControlTowerError, match="They were erased on 2026-06-15"):
            export_person(one, tmp_path / "none.json")


def test_no_load_brings_an_id_back(shop: Settings, folder: Path) -> None:
    erase_person("zq-store", "Ann", at_once=True)
    before = counts(shop)["consents"]
    clock.set_clock(shop, NOW + timedelta(days=1), speed=0)
    report = ingest_data(str(folder))
    assert {name: found["erased"] for name, found in report["tables"].items() if found["erased"]} == {
        "customers": 5, "identities": 4, "consents": 5, "devices": 2, "events": 4, "orders": 4, "order_lines": 4,
        "subscriptions": 1, "coupons": 1, "messages_history": 1, "message_events": 1,
    }  # fmt: skip
    assert left_of(shop, HIDDEN) == [] and counts(shop)["consents"] == before
    assert report["identity"]["merged"] == 0 and list_identity()["merged_ids"] == 0
    again = erase_person("zq-card", "Ann", at_once=True)
    assert again["rows"] == {"ledger": {}, "lake": {}, "serving": {}}


def test_who_comes_back_under_a_new_id_is_a_new_person(shop: Settings, folder: Path) -> None:
    erase_person("zq-web", "Ann", at_once=True)
    new = "customer_id,updated_at,email,phone\nnew-1,2026-06-16,zq@mail.example,010-0077-7766\n"
    (folder / "customers.csv").write_text(new, encoding="utf-8")
    clock.set_clock(shop, NOW + timedelta(days=2), speed=0)
    assert ingest_data(str(folder))["identity"]["merged"] == 0
    assert look_up_person("new-1")["ids"] == ["new-1"]
    key = shop.signing_key()
    with reading(shop) as ledger:
        held = suppressions.held(ledger, "address", "email", "marketing", NOW)
    assert suppressions.address_hash(key, "zq@mail.example") in held


def test_a_merge_that_comes_meanwhile_stops_it(shop: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was confirmed is what is erased: not less, and not somebody who became the same person meanwhile."""
    more = folder.parent / "more"
    more.mkdir()
    told = f"kind,value,customer_id,seen_at\nlogin,zq-login,{OTHER},2026-06-10\n"
    (more / "identities.csv").write_text(told, encoding="utf-8")

    def load_meanwhile() -> None:
        assert ingest_data(str(more))["identity"]["merged"] == 1

    with monkeypatch.context() as patch, pytest.raises(ControlTowerError, match="Other ids than before"):
        patch.setattr("controltower.jobs.events.ingest_events", load_meanwhile)
        erase_person("zq-web", "Ann")
    assert left_of(shop, HIDDEN) == HIDDEN
    with pytest.raises(ControlTowerError, match="Other ids than before"):
        erase_person("zq-web", "Ann", ids=IDS)
    assert erase_person("zq-web", "Ann", at_once=True)["ids_of_the_person"] == 5
    assert left_of(shop, [*HIDDEN, OTHER, "other@mail"]) == []


@pytest.mark.parametrize(
    "step", ["data.persons.Persons.erase", "ledger.erasures.pseudonymise_merges", "ledger.suppressions.add"]
)
def test_killed_halfway_any_id_goes_on(shop: Settings, step: str) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"controltower.{step}", killed)
        erase_person("zq-web", "Ann", at_once=True)
    erase_person("zq-club", "Ann", at_once=True)
    assert left_of(shop, HIDDEN) == []


def test_the_command_shows_all_ids_and_asks(
    shop: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(answer: str, *more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["controltower", "privacy", "erase", "zq-store", "--by", "Ann", *more])
        monkeypatch.setattr("sys.stdin", _Answer(answer))
        code: Any = 0
        try:
            cli.main()
        except SystemExit as e:
            code = e.code
        said = capsys.readouterr()
        return int(code or 0), said.out + said.err

    for answer in ("n\n", ""):
        code, said = call(answer)
        assert code == 1 and all(one in said for one in IDS) and "4 ids" in said and "lake.orders: 4" in said
        assert "mail" not in said and "Quellmann" not in said
    assert left_of(shop, HIDDEN) == HIDDEN and counts(shop)["erased"] == 0
    code, said = call("y\n", "--at-once")
    assert code == 0 and "ids_of_the_person: 4" in said and left_of(shop, HIDDEN) == []
    assert not [s for s in history.stays(Lake(shop)) if s.customer in IDS]


class _Answer:
    def __init__(self, text: str) -> None:
        self._text = text

    def readline(self, *_: int) -> str:
        text, self._text = self._text, ""
        return text
