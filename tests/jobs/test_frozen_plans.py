"""What a plan writes down, row by row, in a shop that has everything: the same on SQLite and PostgreSQL, and as kept.

`make golden` keeps what is written now: look at the difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
import yaml
from controltower import clock, settings
from controltower.data.lake import Lake, interval_key
from controltower.jobs.campaigns import plan_campaign, preview_campaign
from controltower.ledger import consents, suppressions
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import arms, batches, campaign_runs, choices, decisions, messages, subjects
from controltower.settings import INCLUDE, Settings
from support.lakes import publish_rows
from support.sent_messages import answer, message_ids, plan, send
from support.shop_tables import product, table

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
NOW = datetime.fromisoformat("2026-06-15T06:30+09:00")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SCORED, KNOWN = NOW - 6.5 * HOUR, NOW - 30 * DAY
N = 112
IDS = [f"c{n}" for n in range(N)]
ODD = 'o"d\\d,\t{1}\n고객'  # an id may hold anything
ZONES = ["Asia/Seoul", "America/New_York", None, "Mars/Base", "Europe/London"]
REASONS = [("popular", None), ("because_viewed", 'a "bag" \\ 가방,\t{x}'), (None, None)]


def customers() -> Iterator[dict[str, Any]]:
    for n, c in enumerate([*IDS, ODD]):
        yield {
            "customer_id": c, "updated_at": KNOWN, "email": None if n % 11 == 5 else f"{c}@Customers.example ",
            "country": ["KR", None, "GB"][n % 3], "timezone": ZONES[n % 5],
        }  # fmt: skip


def devices() -> Iterator[dict[str, Any]]:
    for n, c in enumerate([*IDS, ODD]):
        for k in range(25 if n == 6 else n % 3):  # of 25, the five oldest don't count
            yield {
                "device_id": f"d{n}-{k}", "customer_id": c, "push_token": " " if n % 7 == 4 else f"token {n} {k}",
                "updated_at": KNOWN, "last_seen_at": None if k % 2 else KNOWN - n * DAY - k * HOUR,
            }  # fmt: skip


def derived(name: str) -> Iterator[dict[str, Any]]:
    for n, c in enumerate([*IDS, ODD, "nobody"]):  # the shop has no such customer
        row = {"customer_id": c, "as_of": SCORED}
        if name == "features":
            yield row | {"lifecycle": "active"}
        elif name == "scores" and n % 17 != 3:
            hour = None if n % 19 == 2 else n * 7 % 24
            yield row | {"propensity_7d": 0.9 - n % 13 / 20, "send_hour": hour, "model_version": f"m{n % 2}"}
        elif name == "recommendations":
            for k in range(n % 9):
                code, value = REASONS[(n + k) % 3]
                yield row | {
                    "placement": "for_you", "rank": min(k + 1, 6) if n == 8 else k + 1,
                    "product_id": f"p{(n * k) % 5 + k}",
                    "algorithm": ["als", "popular"][n % 2], "reason_code": code, "reason_value": value,
                }  # fmt: skip


@pytest.fixture
def shop(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CONTROLTOWER_CAMPAIGNS", str(ledger_settings.home / "campaigns"))
    conf = settings.load()
    rules = yaml.safe_load((INCLUDE / "shops" / "simulated.yaml").read_text())
    rules |= {"global_holdout": 0.1, "approve_above": None, "quiet_hours": {"start": "12:00", "end": "07:00"}}
    (conf.home / "shop.yaml").write_text(yaml.safe_dump(rules))
    write_spec(conf)
    lake = Lake(conf)
    publish_rows(lake, "customers", "i", table("customers", customers()))
    publish_rows(lake, "devices", "i", table("devices", devices()))
    publish_rows(lake, "products", "i", table("products", [product(f"p{n}", updated_at=KNOWN) for n in range(13)]))
    text = pa.string()
    types = {
        "lifecycle": text, "propensity_7d": pa.float64(), "send_hour": pa.int64(), "model_version": text,
        "placement": text, "rank": pa.int64(), "product_id": text, "algorithm": text, "reason_code": text,
        "reason_value": text, "customer_id": text, "as_of": pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    for name in ("features", "scores", "recommendations"):
        rows = list(derived(name))
        schema = pa.schema({column: types[column] for column in max(rows, key=len)})
        publish_rows(lake, name, interval_key(SCORED), pa.Table.from_pylist(rows, schema=schema))
    with begin(conf) as ledger:
        permit(conf, ledger)
    return conf


def write_spec(conf: Settings, **changes: Any) -> None:
    spec = yaml.safe_load((INCLUDE / "campaigns" / "picked_for_you.yaml").read_text())
    spec |= {"holdout": 0.2, "window": {"start": "08:00", "end": "21:00", "hours": 24}, "approve_above": 900}
    conf.campaigns.mkdir(exist_ok=True)
    (conf.campaigns / "picked_for_you.yaml").write_text(yaml.safe_dump(spec | changes))


def permit(conf: Settings, ledger: sa.Connection) -> None:
    """Who agreed to what, who is suppressed, and two customers who are one person."""
    said = {"recorded_at": KNOWN, "source": "test", "granted": True}
    for n, c in enumerate([*IDS, ODD]):
        given = [ch for k, ch in enumerate(("push", "email", "in_app")) if (n + k) % (5 + k)]
        rows = [{"customer_id": c, "channel": ch, "purpose": "marketing", **said} for ch in given]
        if n % 4 == 1:
            rows.append({"customer_id": c, "channel": "push", "purpose": "night_marketing", **said})
        if n % 12 == 7:  # took it back
            rows.append(rows[0] | {"recorded_at": KNOWN + DAY, "granted": False})
        consents.record(ledger, rows)
    key, about = conf.signing_key(), {"reason": "bounced", "source": "test", "now": KNOWN}
    for n in range(0, N, 8):
        hashed = suppressions.address_hash(key, f"c{n}@customers.example")
        token = suppressions.address_hash(key, f"token {n + 2} 0")
        suppressions.add(ledger, "address", hashed, channel="email", **about)  # type: ignore[arg-type]
        suppressions.add(ledger, "customer", f"c{n + 1}", channel=[None, "push"][n // 8 % 2], **about)  # type: ignore[arg-type]
        suppressions.add(ledger, "address", token, channel="push", **about)  # type: ignore[arg-type]
        suppressions.add(ledger, "device", f"d{n + 5}-0", channel="push", **about)  # type: ignore[arg-type]
    for k in (*range(0, 25, 2), 1, 11, 13, 15, 17, 19, 21):  # of c6 only those that don't count are open
        token = suppressions.address_hash(key, f"token 6 {k}")
        suppressions.add(ledger, "address", token, channel="push", **about)  # type: ignore[arg-type]
    for customer, subject in (("c100", 7), ("c101", 7), ("c102", 8)):
        row = {"customer_id": customer, "subject_id": subject, "created_at": KNOWN}
        ledger.execute(sa.insert(subjects).values(**row))


def written(conf: Settings, run_id: int) -> dict[str, Any]:
    """All that a run wrote, readable, and without numbers that the database gives."""
    d, m, b = decisions.c, messages.c, batches.c
    with reading(conf) as ledger:
        run = ledger.execute(sa.select(campaign_runs).filter_by(run_id=run_id)).one()
        numbered = sa.select(b.batch_id, b.first_seq).where(b.run_id == run_id).order_by(b.first_seq)
        order = {batch: n for n, (batch, _) in enumerate(ledger.execute(numbered).tuples())}
        start = min(ledger.execute(sa.select(b.first_seq).where(b.run_id == run_id)).scalars())
        columns = (
            d.customer_id, d.subject_id, d.outcome, d.reason, d.arm, d.probability, d.channel, d.due_at, d.algorithm,
            d.choices, d.seq - start,
        )  # fmt: skip
        found = {
            "decisions": sa.select(*columns).where(d.run_id == run_id).order_by(d.customer_id),
            "messages": sa.select(m.seq - start, m.subject_id, m.message_id, m.batch_id, m.step, m.customer_id)
            .where(m.batch_id.in_(order)).order_by(m.seq),
            "batches": sa.select(
                b.batch_id, b.channel, b.variant, b.due_at, b.expires_at, b.first_seq - start, b.size, b.state,
            ).where(b.run_id == run_id).order_by(b.batch_id),
            "arms": sa.select(arms.c.subject_id, arms.c.arm, arms.c.share, arms.c.assigned_at)
            .where(arms.c.campaign == "picked_for_you").order_by(arms.c.subject_id),
            "subjects": sa.select(subjects.c.customer_id, subjects.c.subject_id, subjects.c.created_at)
            .order_by(subjects.c.customer_id),
        }  # fmt: skip
        rows = {name: [list(row) for row in ledger.execute(query)] for name, query in found.items()}
        known = dict(
            ledger.execute(sa.select(choices.c.number, choices.c.choice).filter_by(run_id=run_id)).tuples().all()
        )
    for row in rows["decisions"]:
        about, *products = (known[n] for n in row[9])
        row[9] = {**about, "products": products}
    for name, place in (("messages", 3), ("batches", 0)):
        for row in rows[name]:
            row[place] = order[row[place]]
    return {"policy": run.policy, "version": run.version, "hold": run.hold} | rows


def golden(name: str, found: dict[str, Any]) -> None:
    lines = [
        json.dumps({key: row}, ensure_ascii=False, sort_keys=True, default=str)
        for key, rows in found.items() for row in (rows if isinstance(rows, list) else [rows])
    ]  # fmt: skip
    path = GOLDEN / f"{name}.jsonl"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    kept = path.read_text().splitlines()
    assert [line for line in lines if line not in set(kept)] == []
    assert lines == kept


def test_every_row_of_two_versions_and_the_next_day_is_golden(shop: Settings) -> None:
    plan(shop, NOW - 2 * DAY, ["a"] * 40, campaign="mail")
    send(shop, NOW - 2 * DAY)
    for day in (3, 4):
        plan(shop, NOW - day * DAY, ["a"] * 30, campaign="news", channel="push")
        send(shop, NOW - day * DAY, channel="push")
    plan(shop, NOW - DAY, ["a"] * 25, campaign="push", channel="push")  # it waits
    clock.set_clock(shop, NOW, speed=0)
    previewed = preview_campaign("picked_for_you", customers=0)
    first = plan_campaign("picked_for_you")
    assert {k: first[k] for k in ("audience", "messages", "held_out", "not_sent")} == {
        k: previewed[k] for k in ("audience", "messages", "held_out", "not_sent")
    }
    rows = written(shop, first["run_id"])
    told = {(row[2], row[3]) for row in rows["decisions"]}
    assert {
        "same_person",
        "no_consent",
        "suppressed",
        "frequency_cap",
        "too_few_products",
        "no_hour_in_window",
        "no_address",
        "no_device",
    } <= {r for row in rows["decisions"] for r in [row[3], *row[9]["refused"].values()]}
    assert {("message", None), ("holdout", "holdout"), ("holdout", "global_holdout")} < told
    golden("first", rows)

    send(shop, NOW + 3 * HOUR)
    for message in list(message_ids(shop, first["run_id"]).values())[::3]:
        answer(shop, message, "clicked", NOW + 4 * HOUR)
    write_spec(shop, holdout=0.1, allocation="fixed")
    clock.set_clock(shop, NOW + 3 * HOUR, speed=0)
    second = plan_campaign("picked_for_you")
    rows = written(shop, second["run_id"])
    assert "in_earlier_version" in {row[3] for row in rows["decisions"]}
    golden("second", rows)

    write_spec(shop)
    clock.set_clock(shop, NOW + 24 * HOUR, speed=0)
    golden("next_day", written(shop, plan_campaign("picked_for_you")["run_id"]))
