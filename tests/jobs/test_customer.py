"""`controltower customer show`: all that was known of one customer as of a moment, and nothing that came later."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from controltower import cli, clock
from controltower.data.lake import Lake, interval_key
from controltower.ledger import consents, events, plans, suppressions, tables
from controltower.ledger.database import begin, reading
from controltower.ledger.decisions import Decision, tabulate
from controltower.ledger.states import message_states
from controltower.settings import Settings
from support import small_shop
from support.lakes import publish_rows

NOW = datetime(2026, 6, 15, 3, 0, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(days=2), NOW + timedelta(days=2)
Command = Callable[..., tuple[int, str, str]]


def order(order_id: str, at: datetime, known: datetime, customer: str = "c0") -> dict[str, Any]:
    return {"order_id": order_id, "ordered_at": at, "updated_at": known, "customer_id": customer, "status": "placed",
            "currency": "KRW"}  # fmt: skip


def event(event_id: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "occurred_at": at, "received_at": at, "event_name": "view_item", "customer_id": "c0",
            "visitor_id": "v0", "product_id": "p1", **more}  # fmt: skip


@pytest.fixture
def shop(ledger_settings: Settings) -> Settings:
    """c0 and c1 as of NOW, and what became known of c0 two days before and two days later."""
    conf = ledger_settings
    small_shop.write_shop(conf, ["c0", "c1"], NOW)
    clock.set_clock(conf, AFTER + timedelta(days=1), speed=0)
    lake = Lake(conf)
    made = [order("o1", BEFORE, BEFORE), order("late", BEFORE, AFTER), order("o2", BEFORE, BEFORE, "c1")]
    publish_rows(lake, "orders", "i", small_shop.rows("orders", *made))
    seen = [event(f"e{n}", BEFORE + timedelta(minutes=n)) for n in range(5)]
    seen.append(event("e9", AFTER, visitor_id="v9", query="mail c0@customers.example"))
    publish_rows(lake, "events", "i", small_shop.rows("events", *seen))
    publish_rows(lake, "features", interval_key(BEFORE), features(orders_30d=1.0, at=BEFORE))
    publish_rows(lake, "features", interval_key(AFTER), features(orders_30d=2.0, at=AFTER))
    with begin(conf) as ledger:
        consents.withdraw(ledger, ["c0"], "email", "marketing", AFTER, source="test")
        hashed = suppressions.address_hash(conf.signing_key(), "c0@customers.example")
        suppressions.add(ledger, "address", hashed, channel="email", reason="bounced", source="test", now=BEFORE)
        suppressions.end(ledger, "address", [hashed], "bounced", AFTER, "Ann")
    return conf


def features(orders_30d: float, at: datetime) -> pa.Table:
    rows = [{"customer_id": c, "as_of": at, "orders_30d": orders_30d, "lifecycle": "active"} for c in ("c0", "c1")]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def command(
    shop: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Command:
    """Call `customer show`; gives its exit code, what it printed and what was logged."""
    caplog.set_level(logging.DEBUG)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["controltower", "customer", "show", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as e:
            code = int(e.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err, caplog.text

    return call


@pytest.fixture
def report(command: Command) -> Callable[..., dict[str, Any]]:
    def of(customer: str = "c0", as_of: datetime = NOW, *more: str) -> dict[str, Any]:
        code, said, _ = command(customer, "--as-of", as_of.isoformat(), "--json", *more)
        assert code == 0
        found: dict[str, Any] = json.loads(said)
        return found

    return of


def test_nothing_that_was_received_later(report: Callable[..., dict[str, Any]]) -> None:
    then, now = report(), report(as_of=AFTER)
    assert {e["order_id"] for e in then["timeline"]["shown"] if e["kind"] == "order"} == {"o1"}
    assert {e["order_id"] for e in now["timeline"]["shown"] if e["kind"] == "order"} == {"o1", "late"}
    assert (then["identity"]["visitors"], now["identity"]["visitors"]) == (["v0"], ["v0", "v9"])
    values = [{f["name"]: f["value"] for f in found["features"]}["orders_30d"] for found in (then, now)]
    assert values == [1.0, 2.0]
    assert {f["name"]: f["means"] for f in then["features"]}["orders_30d"] == "purchases in the last 30 days"
    holds = [{c["channel"]: c["holds"] for c in found["consents"]} for found in (then, now)]
    assert holds == [{"email": True, "push": True}, {"email": False, "push": True}]
    (held,) = then["suppressions"]
    assert held["reason"] == "bounced" and "until" not in held and "lifted_by" not in held and not then["lifted"]
    assert not now["suppressions"] and now["lifted"][0]["lifted_by"] == "Ann"


def test_the_timeline_is_newest_first_and_the_rest_is_counted(report: Callable[..., dict[str, Any]]) -> None:
    found = report("c0", NOW, "--most", "2")["timeline"]
    assert [(e["kind"], e["at"]) for e in found["shown"]] == [
        ("event", (BEFORE + timedelta(minutes=n)).isoformat()) for n in (4, 3)
    ]
    assert found["more"] == {"event": 3, "order": 1}


def test_addresses_are_masked_unless_asked_for_and_never_logged(command: Command) -> None:
    code, said, logged = command("c0")
    assert code == 0 and "xx9@" not in said and "x9@xxxxxxxxx.xxxxxxx" in said
    assert "customers.example" not in said and "token-c0" not in said and "민지" in said
    code, said, logged = command("c0", "--unmasked")
    assert code == 0 and "email c0@customers.example" in said and "push_token token-c0" in said
    assert "customers.example" not in logged and "token-c0" not in logged


def test_an_unknown_id(command: Command) -> None:
    code, said, _ = command("nobody@customers.example")
    assert code == 1 and "No such customer was known as of 2026-06-18" in said and "nobody" not in said
    code, said, _ = command("c0", "--as-of", "2026-01-01")  # before the shop knew them
    assert code == 1 and "ask for a later moment" in said


@pytest.mark.parametrize("form", ["--json", "--unmasked"])
def test_it_writes_nothing(command: Command, shop: Settings, form: str) -> None:
    def state() -> tuple[int, list[int]]:
        with reading(shop) as ledger:
            counts = [ledger.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()
                      for t in tables.metadata.sorted_tables]  # fmt: skip
        return Lake(shop).manifest().version, counts

    before = state()
    assert command("c0", form)[0] == 0
    assert state() == before


def test_why_each_message_was_or_was_not_sent(report: Callable[..., dict[str, Any]], shop: Settings) -> None:
    run_id = small_shop.plan(shop, ["c0"], BEFORE)
    decided(shop, "win_back", "holdout", "holdout", arm="holdout")
    decided(shop, "welcome", "not_sent", "no_consent")
    with begin(shop) as ledger:
        s = message_states.c
        seq, message_id = ledger.execute(sa.select(s.seq, s.message_id)).one()
        (batch,) = ledger.execute(sa.select(tables.batches.c.batch_id)).scalars()
        change = sa.update(tables.batches).where(tables.batches.c.batch_id == batch)
        ledger.execute(change.values(state="done", attempts=1, done_at=NOW - timedelta(hours=1)))
        ledger.execute(
            sa.insert(tables.outcomes).values(
                seq=seq, state="not_sent", reason="suppressed", at=NOW + timedelta(hours=1)
            )
        )
        told = {"provider": "sendgrid", "event": "opened", "occurred_at": NOW, "received_at": NOW}
        came = [told | {"provider_event_id": "1", "message_id": message_id},
                told | {"provider_event_id": "2", "message_id": message_id, "received_at": AFTER}]  # fmt: skip
        events.record(ledger, came)
    then, later = report(), report(as_of=AFTER)
    why = {m["campaign"]: (m["outcome"], m.get("reason")) for m in then["messages"]}
    assert why == {"picked_for_you": ("message", None), "win_back": ("holdout", "holdout"),
                   "welcome": ("not_sent", "no_consent")}  # fmt: skip
    states = [
        {m["run_id"]: (m.get("state"), m.get("state_reason")) for m in r["messages"]}[run_id] for r in (then, later)
    ]
    assert states == [("accepted", None), ("not_sent", "suppressed")]
    kinds = [[e["kind"] for e in r["timeline"]["shown"] if e["kind"] == "reaction"] for r in (then, later)]
    assert (len(kinds[0]), len(kinds[1])) == (1, 2)
    assert not report(as_of=BEFORE - timedelta(hours=1))["messages"]


def decided(conf: Settings, campaign: str, outcome: str, reason: str, arm: str | None = None) -> None:
    with begin(conf) as ledger:
        plans.freeze(
            ledger, occurrence_id=plans.lock_occurrence(ledger, campaign, "2026-06-13", BEFORE), campaign=campaign,
            as_of=BEFORE, now=BEFORE, spec={}, spec_hash="s", content_hash="t", policy={}, policy_version="1",
            triggered_by=None, key=conf.signing_key(), expires_in=timedelta(days=1),
            plan=tabulate([Decision("c0", 1, outcome, 1.0, reason=reason, arm=arm)]),
        )  # fmt: skip


def test_money_and_scores_are_plain_values(report: Callable[..., dict[str, Any]], shop: Settings) -> None:
    scores = pa.table(
        {"customer_id": ["c0"], "propensity_7d": [0.25], "as_of": pa.array([BEFORE], pa.timestamp("us", "UTC"))}
    )
    lists = pa.table({"customer_id": ["c0"], "placement": ["for_you"], "rank": [1], "product_id": ["p1"]})
    lake = Lake(shop)
    publish_rows(lake, "scores", interval_key(BEFORE), scores)
    publish_rows(lake, "recommendations", interval_key(BEFORE), lists)
    bought = event("e10", BEFORE, event_name="add_to_cart", value=Decimal("12.5"))
    publish_rows(lake, "events", "j", small_shop.rows("events", bought))
    found = report()
    assert found["scores"][0]["propensity_7d"] == 0.25
    assert found["recommendations"][0]["title"] == "상품 1"
    assert 12.5 in [e.get("value") for e in found["timeline"]["shown"]]


def test_two_ids_of_one_person_are_shown_as_one(report: Callable[..., dict[str, Any]], shop: Settings) -> None:
    """c1 was merged into c0 after both were scored: what was made of each isn't mixed."""
    made, lake = BEFORE + timedelta(hours=1), Lake(shop)

    def derived(table: str, *rows: dict[str, Any]) -> None:
        publish_rows(lake, table, interval_key(made), pa.Table.from_pylist([row | {"as_of": made} for row in rows]))

    derived("features", {"customer_id": "c0", "orders_30d": 5.0}, {"customer_id": "c1", "orders_30d": 7.0})
    derived("scores", {"customer_id": "c1", "propensity_7d": 0.5})
    c1 = {"told_age": 40, "inferred_gender": "male", "inferred_age": 33, "inferred_female_probability": 0.1,
          "inferred_male_probability": 0.9}  # fmt: skip
    derived("profiles", {"customer_id": "c0", "told_gender": "female"} | dict.fromkeys(c1), {"customer_id": "c1"} | c1)
    with begin(shop) as ledger:
        ledger.execute(sa.insert(tables.merges).values(customer_id="c1", person_id="c0", merged_at=made))
    found = report("c1")
    assert found["identity"]["ids"] == ["c0", "c1"]
    assert {row["customer_id"] for row in found["identity"]["attributes"]} == {"c0", "c1"}
    assert {e["order_id"] for e in found["timeline"]["shown"] if e["kind"] == "order"} == {"o1", "o2"}
    assert [(f["name"], f["value"]) for f in found["features"]] == [("orders_30d", 5.0)]
    assert found["features_as_of"] == made.isoformat()
    assert [(row["customer_id"], row["propensity_7d"]) for row in found["scores"]] == [("c1", 0.5)]
    profile = found["profile"]
    assert profile.pop("journey_minutes") > 0 and profile == {
        "journey": "bought", "told_gender": "female", "profile_as_of": made.isoformat()
    }  # fmt: skip


def test_what_other_systems_did_and_every_kind_of_suppression(
    report: Callable[..., dict[str, Any]], shop: Settings
) -> None:
    lake, later = Lake(shop), BEFORE + timedelta(hours=1)
    small_shop.plan(shop, ["c0"], BEFORE)  # waits: it is in no timeline
    with begin(shop) as ledger:
        (ours,) = ledger.execute(sa.select(message_states.c.message_id)).scalars()
        key = shop.signing_key()
        values = {"customer": "c0", "device": "d-c0", "address": suppressions.address_hash(key, "token-c0")}
        for kind, value in values.items():
            suppressions.add(ledger, kind, value, reason="objected", source="test", now=BEFORE)
    sent = [{"message_id": m, "customer_id": "c0", "channel": "email", "campaign": "old", "sent_at": BEFORE}
            for m in ("theirs", ours)]  # fmt: skip
    came = [{"event_id": m, "message_id": m, "event": "clicked", "occurred_at": later, "received_at": later}
            for m in ("theirs", ours)]  # fmt: skip
    login = {"kind": "login", "value": "l", "customer_id": "c0", "visitor_id": "v7", "seen_at": BEFORE}
    logins = [login, login | {"value": "another", "customer_id": "c1", "visitor_id": "v8"}]
    for table, rows in (("messages_history", sent), ("message_events", came), ("identities", logins)):
        publish_rows(lake, table, "i", small_shop.rows(table, *rows))
    found = report()
    assert found["identity"]["visitors"] == ["v0", "v7"]
    shown = [(e["kind"], e["message_id"], e["campaign"]) for e in found["timeline"]["shown"] if "message_id" in e]
    assert shown == [("reaction", "theirs", "old"), ("message", "theirs", "old")]
    assert {s["kind"] for s in found["suppressions"] if s["reason"] == "objected"} == values.keys()
    assert {(s["channel"], s["purpose"]) for s in found["suppressions"]} >= {("all", "all"), ("email", "all")}
    assert found["timeline"]["more"] == {}
