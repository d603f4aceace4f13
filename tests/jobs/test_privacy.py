"""`controltower privacy export` and `erase`: all that is held about a person, and nothing of it afterwards."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from controltower import cli, clock
from controltower.data.lake import Lake, interval_key
from controltower.errors import ControlTowerError
from controltower.jobs.ingest import ingest_data
from controltower.jobs.privacy import erase_person, export_person
from controltower.ledger import event_bodies, events, plans, reports, suppressions, tables, webhooks
from controltower.ledger.database import begin, reading
from controltower.settings import Settings
from support import small_shop
from support.lakes import publish_rows
from support.whole_home import counts, everything, hand_over, left_of

NOW = datetime(2026, 6, 15, 3, 0, tzinfo=UTC)
WHO, OTHER = "cust-zero-77", "other-88"
# Whatever names the person: ids, addresses, and what only leads to them.
TRACES = [WHO, "zero@mail.example", "+82-10-1234", "token-zero", "dev-zero", "ord-zero", "vis-zero", "Nullmann"]

# What the lake and its rules decide, whatever the database of the ledger.
ON_ONE_DATABASE = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)

FILES = {
    "customers.csv": "customer_id,updated_at,email,phone,last_name,locale\n"
    f"{WHO},2026-05-01,old.zero@mail.example,,Nullmann,ko-KR\n{WHO},2026-06-01,zero@mail.example,+82-10-1234,Nullmann,ko-KR\n"
    f"{OTHER},2026-06-01,other@mail.example,+82-10-9999,Andere,ko-KR\n",
    "consents.csv": "customer_id,channel,purpose,recorded_at,granted,source,proof\n"
    f"{WHO},email,marketing,2026-06-01,true,form,Nullmann signed\n{OTHER},email,marketing,2026-06-01,true,form,\n"
    f"{WHO},e mail,marketing,2026-06-02,false,form,\n",
    "devices.csv": "device_id,customer_id,push_token,platform,updated_at\n"
    f"dev-zero,{OTHER},token-zero-before,ios,2026-05-01\ndev-zero,{WHO},token-zero,ios,2026-06-01\n"
    f"dev-other,{OTHER},token-other,ios,2026-06-01\n",
    "events.csv": "event_id,occurred_at,event_name,received_at,customer_id,visitor_id\n"
    f"e1,2026-06-01,view_item,,,vis-zero\ne2,2026-06-02,login,,{WHO},vis-zero\ne3,2026-06-02,login,,{WHO},shared\n"
    f"e4,2026-06-03,login,,{OTHER},shared\ne5,2026-06-03,view_item,,,shared\n",
    "orders.csv": "order_id,ordered_at,currency,customer_id\n"
    f"ord-zero,2026-06-02,KRW,{WHO}\nord-88,2026-06-02,KRW,{OTHER}\n",
    "order_lines.csv": "order_id,line_no,product_id,quantity,unit_price\nord-zero,1,p1,1,100\nord-88,1,p1,2,100\n",
    "source.yaml": "bad_rows_limit: 0.5\n",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hand_over(tmp_path / "shop", FILES)


@pytest.fixture
def shop(ledger_settings: Settings, folder: Path) -> Settings:
    """Two customers in every place of a home: lake, quarantine, derived tables, ledger, raw bodies."""
    conf = ledger_settings
    clock.set_clock(conf, NOW, speed=0)
    ingest_data(str(folder))
    lake = Lake(conf)
    for table in ("features", "scores", "recommendations"):
        publish_rows(
            lake, table, interval_key(NOW), pa.table({"customer_id": [WHO, OTHER], "product_id": ["p1", "p1"]})
        )
    small_shop.plan(conf, [WHO, OTHER], NOW)
    with begin(conf) as ledger:
        named = dict(
            ledger.execute(sa.select(tables.messages.c.customer_id, tables.messages.c.message_id)).tuples().all()
        )
        element = {"event": "delivered", "timestamp": int(NOW.timestamp())}
        body = [element | {"email": "Zero@mail.example", "sg_event_id": "1", "message_id": named[WHO]},
                element | {"email": "other@mail.example", "sg_event_id": "2", "message_id": named[OTHER]}]  # fmt: skip
        alone = [element | {"email": "other@mail.example", "sg_event_id": "3", "message_id": named[OTHER]}]
        webhooks.store(ledger, "sendgrid", [json.dumps(b).encode() for b in (body, alone)], NOW)
        posted = [{"event_id": f"p-{c}", "occurred_at": NOW.isoformat(), "event_name": "view_item", "customer_id": c}
                  for c in (WHO, OTHER)]  # fmt: skip
        event_bodies.store(ledger, [json.dumps({"events": posted}).encode(), json.dumps(posted[1:]).encode()], NOW)
        suppressions.add(ledger, "customer", WHO, reason="objection", source="test", now=NOW)
        click = {"provider": "links", "provider_event_id": "c", "message_id": named[WHO], "event": "clicked"}
        click |= {"occurred_at": NOW, "received_at": NOW, "detail": {"url": "https://haru.example"}}
        events.record(ledger, [click])
    return conf


def left_of_them(conf: Settings) -> list[str]:
    return left_of(conf, TRACES)


def test_nothing_is_left_but_hashes_and_counts(shop: Settings) -> None:
    assert left_of_them(shop) == TRACES and str(plans.new_subject(WHO)) in everything(shop)
    before = counts(shop)
    certificate = erase_person(WHO, "Ann", at_once=True)
    assert left_of_them(shop) == []
    after = counts(shop)
    added = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert added == {
        "erased": 2,
        "suppressions": 2,
        "delivery_events": 3,
        "loads": 1,
    }  # their visitor; both addresses; what waited
    kept = everything(shop)
    assert str(plans.new_subject(WHO)) not in kept  # made of the id: it would tell whoever has that
    assert all(trace in kept for trace in (OTHER, "other@mail.example", "token-other", "ord-88", "e5", "Andere"))
    assert certificate["rows"]["lake"] == {
        "customers": 2, "consents": 1, "devices": 2, "events": 3, "orders": 1, "order_lines": 1, "quarantine": 1,
        "features": 1, "scores": 1, "recommendations": 1,
    }  # fmt: skip
    ledger = certificate["rows"]["ledger"]
    assert {name: ledger[name] for name in ("messages", "decisions", "webhook_bodies", "subjects")} == {
        "messages": 1, "decisions": 1, "webhook_bodies": 1, "subjects": 1,
    }  # fmt: skip
    with reading(shop) as ledger_rows:
        (totals,) = reports.totals(ledger_rows, [1])
        proofs = ledger_rows.execute(sa.select(tables.consents.c.proof)).scalars().all()
        m, s = tables.messages.c, tables.subjects.c
        both = tables.messages.join(tables.subjects, m.subject_id == s.subject_id)
        assert ledger_rows.execute(sa.select(sa.func.count()).select_from(both)).scalar_one() == 2
        choices = dict(
            ledger_rows.execute(sa.select(tables.decisions.c.customer_id, tables.decisions.c.choices)).tuples().all()
        )
    assert totals.accounted and not any(proofs)
    assert len(choices.pop(OTHER)) == 5 and list(map(len, choices.values())) == [1]  # the candidates, and the products


@ON_ONE_DATABASE
def test_the_certificate_tells_no_person(shop: Settings) -> None:
    report = erase_person(WHO, "Ann")
    file = shop.home / report["certificate"]
    text = file.read_text(encoding="utf-8")
    assert json.loads(text) == {name: value for name, value in report.items() if name != "certificate"}
    assert not [trace for trace in TRACES if trace in text] and '"erased_by": "Ann"' in text
    assert file.stat().st_mode & 0o077 == 0


@ON_ONE_DATABASE
def test_replaced_files_stay_for_the_grace_and_no_longer(shop: Settings) -> None:
    report = erase_person(WHO, "Ann")
    assert report["files_until_the_grace_ends"] == 11 and left_of_them(shop) == TRACES
    with Lake(shop).read() as lake:  # no reader sees them
        assert WHO not in str(lake.arrow(lake.table("customers")).to_pylist())
    again = erase_person(WHO, "Ann", at_once=True)
    assert again["files_until_the_grace_ends"] == 0 and left_of_them(shop) == []


def test_a_later_load_does_not_bring_them_back(shop: Settings, folder: Path) -> None:
    erase_person(WHO, "Ann", at_once=True)
    consents = counts(shop)["consents"]
    report = ingest_data(str(folder))["tables"]
    assert {name: found["erased"] for name, found in report.items()} == {
        "customers": 2, "consents": 2, "devices": 2, "events": 3, "orders": 1, "order_lines": 1,
    }  # fmt: skip
    assert all(
        t["read"] == t["loaded"] + t["duplicates"] + t["quarantined"] + t["outside"] + t["erased"]
        for t in report.values()
    )
    assert left_of_them(shop) == []  # nor has the device its earlier owner again
    assert counts(shop)["consents"] == consents
    with begin(shop) as ledger:
        posted = {"event_id": "new", "occurred_at": NOW.isoformat(), "event_name": "view_item", "customer_id": WHO}
        event_bodies.store(ledger, [json.dumps(posted).encode()], NOW)
    again = erase_person(WHO, "Ann", at_once=True)
    assert again["rows"] == {"ledger": {}, "lake": {}, "serving": {}}
    with begin(shop) as ledger:
        held = ledger.execute(sa.select(tables.event_bodies.c.body).order_by(tables.event_bodies.c.body_id))
        assert [body is None for body in held.scalars()] == [True, True, True]  # read together
    with Lake(shop).read() as lake:
        assert WHO not in str(lake.arrow(lake.table("events")).to_pylist())


def test_an_order_of_a_later_load_is_its_last_owners(shop: Settings, folder: Path) -> None:
    erase_person(WHO, "Ann", at_once=True)
    versions = [("kept", WHO, 3), ("kept", OTHER, 4), ("gone", OTHER, 3), ("gone", WHO, 4)]
    (folder / "orders.csv").write_text(
        "order_id,ordered_at,currency,customer_id,updated_at\n"
        + "".join(f"{order},2026-06-02,KRW,{customer},2026-06-0{day}\n" for order, customer, day in versions)
    )
    (folder / "order_lines.csv").write_text(
        "order_id,line_no,product_id,quantity,unit_price\nkept,1,p1,1,100\ngone,1,p1,1,100\n"
    )
    report = ingest_data(str(folder))["tables"]
    assert (report["orders"]["erased"], report["order_lines"]["erased"]) == (3, 1)
    with Lake(shop).read() as reading:
        assert reading.frame(reading.table("orders"))[["order_id", "customer_id"]].values.tolist() == [["kept", OTHER]]
        assert reading.frame(reading.table("order_lines"))["order_id"].tolist() == ["kept"]


@ON_ONE_DATABASE
def test_what_a_browser_does_after_the_erasure_is_new(shop: Settings, folder: Path) -> None:
    erase_person(WHO, "Ann")
    clock.set_clock(shop, NOW + timedelta(days=1), speed=0)
    later = "event_id,occurred_at,event_name,visitor_id\n"
    later += "n1,2026-06-15T12:00:00Z,view_item,vis-zero\nn2,2026-06-14,view_item,vis-zero\n"
    (folder / "events.csv").write_text(later, encoding="utf-8")
    report = ingest_data(str(folder))["tables"]["events"]
    assert (report["loaded"], report["erased"]) == (1, 1)


@pytest.mark.parametrize(
    "step",
    ["controltower.jobs.events.ingest_events", "controltower.ledger.erasures.pseudonymise",
     "controltower.data.persons.Persons.erase", "controltower.data.manifest.swap",
     "controltower.data.persons.Persons.left_over"],
)  # fmt: skip
def test_killed_halfway_it_is_run_again(shop: Settings, tmp_path: Path, step: str) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(step, killed)
        erase_person(WHO, "Ann", at_once=True)
    if not step.endswith("left_over"):
        with pytest.raises(ControlTowerError, match="erasure began on 2026-06-15, and didn't end"):
            export_person(WHO, tmp_path / "theirs.json")
    erase_person(WHO, "Ann", at_once=True)
    assert left_of_them(shop) == []
    version = Lake(shop).manifest().version
    third = erase_person(WHO, "Ann", at_once=True)
    assert third["rows"] == {"ledger": {}, "lake": {}, "serving": {}} and Lake(shop).manifest().version == version


@ON_ONE_DATABASE
def test_an_address_that_others_have_is_not_suppressed(shop: Settings, folder: Path) -> None:
    (folder / "customers.csv").write_text(FILES["customers.csv"].replace("other@mail", "ZERO@mail"), encoding="utf-8")
    with shop.shop_file.open("a", encoding="utf-8") as file:  # or the address would make them one person
        file.write("\nidentity: {customers_per_key: 2}\n")
    more = "".join(f"more-{n},2026-06-01,zero@mail.example,,,ko-KR\n" for n in range(2))
    with (folder / "customers.csv").open("a", encoding="utf-8") as file:
        file.write(more)
    ingest_data(str(folder))
    report = erase_person(WHO, "Ann")
    assert (report["addresses_suppressed"], report["addresses_of_others_too"]) == (1, 1)
    key = shop.signing_key()
    expected = {suppressions.address_hash(key, "old.zero@mail.example")}
    with reading(shop) as ledger:
        assert suppressions.held(ledger, "address", "email", "marketing", NOW) == expected
    for one in (OTHER, "more-0", "more-1"):  # within the hour: files with the others' rows are still there
        erase_person(one, "Ann")
    with reading(shop) as ledger:
        expected.add(suppressions.address_hash(key, "zero@mail.example"))
        assert suppressions.held(ledger, "address", "email", "marketing", NOW) >= expected


def test_the_export_has_all_of_theirs_and_nothing_of_others(shop: Settings, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    report = export_person(WHO, out)
    text = out.read_text(encoding="utf-8")
    assert [t for t in TRACES if t not in text and t.lower() not in text.lower()] == []
    found = json.loads(text)
    assert set(found["lake"]) == {
        "customers", "consents", "devices", "events", "orders", "order_lines", "quarantine", "features", "scores",
        "recommendations",
    }  # fmt: skip
    assert set(found["ledger"]) == {
        "decisions",
        "messages",
        "consents",
        "subjects",
        "delivery_events",
        "suppressions",
        "arms",
    }
    assert [len(found["posted"][table]) for table in ("webhook_bodies", "event_bodies")] == [1, 1]
    assert OTHER not in text and "other@mail.example" not in text and "ord-88" not in text
    assert report["rows"]["lake.customers"] == 2 and out.stat().st_mode & 0o077 == 0
    export_person(WHO, tmp_path / "parts")
    assert json.loads((tmp_path / "parts" / "lake" / "orders.json").read_text())[0]["order_id"] == "ord-zero"


@pytest.fixture
def command(
    shop: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., tuple[int, str]]:
    """Call the command line; gives its exit code and all that it wrote, logs too."""
    caplog.set_level(logging.DEBUG)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["controltower", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as e:
            code = int(e.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err + caplog.text

    return call


@ON_ONE_DATABASE
def test_the_commands_say_no_address(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    said: list[Any] = [command("privacy", "export", WHO, "--out", str(tmp_path / "x.json"))]
    said.append(command("privacy", "erase", WHO, "--by", "Ann", "--yes"))
    assert [code for code, _ in said] == [0, 0] and "--at-once deletes them now" in said[1][1]
    for arguments in (("privacy", "export", WHO, "--out", str(tmp_path / "y.json")), ("customer", "show", WHO)):
        code, text = command(*arguments)
        assert code == 1 and "They were erased on 2026-06-15" in text
        said.append((code, text))
    assert not [trace for _, text in said for trace in TRACES if trace in text]


@ON_ONE_DATABASE
def test_an_unknown_id(command: Callable[..., tuple[int, str]], shop: Settings) -> None:
    for arguments in (("export", "nobody", "--out", "n.json"), ("erase", "nobody", "--by", "Ann"),
                      ("erase", "nobody", "--by", "Ann", "--yes")):  # fmt: skip
        code, said = command("privacy", *arguments)
        assert code == 1 and "Nothing is held about such a customer" in said.splitlines()[0]
    assert counts(shop)["erased"] == 0 and not (shop.home / "erasures").exists()
