"""Which channel customers answer on: trained, scored, evaluated, and asked for the campaign that follows another."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from controltower import clock
from controltower.campaigns.specs import find_spec
from controltower.cli import app
from controltower.data.lake import Lake, interval_key
from controltower.jobs.evaluating import evaluate
from controltower.jobs.gathering import gather
from controltower.jobs.predictions import Now, Past, channel
from controltower.jobs.privacy import erase_person
from controltower.jobs.profiles import build_profiles
from controltower.jobs.training import store
from controltower.ledger import consents
from controltower.models.registry import Registry
from controltower.settings import Settings
from support.lakes import publish_rows
from support.sent_messages import plan, send
from support.shop_tables import SHOP, T, ago, lake_with, order, orders
from typer.testing import CliRunner

CUSTOMERS = [f"c{n}" for n in range(120)]
COSTLY = SHOP.model_copy(update={"message_costs": {"email": 5.0}})
FROM_START = {"purpose": "marketing", "granted": True, "source": "test", "recorded_at": ago(300)}


def likes_push(n: int) -> bool:
    return n % 2 == 0


@pytest.fixture
def shop(ledger_settings: Settings) -> Settings:
    """Each even customer clicks half of the pushes, each odd one half of the mails, and hardly anything else. The first
    ten agreed to push only, the last ten to nothing; c11 has no device."""
    home = ledger_settings.home
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    clock.set_clock(ledger_settings, T, speed=0)
    rng = random.Random(1)
    sent: list[dict[str, Any]] = []
    came: list[dict[str, Any]] = []
    for n, who in enumerate(CUSTOMERS):
        for k in range(16):
            on, at = ("email", "push")[k % 2], ago(8 + rng.uniform(0, 150))
            sent.append({"message_id": f"m{n}_{k}", "customer_id": who, "channel": on, "campaign": "old",
                         "variant": "a", "sent_at": at})  # fmt: skip
            if rng.random() < (0.5 if likes_push(n) == (on == "push") else 0.03):
                came.append({"event_id": f"e{n}_{k}", "message_id": f"m{n}_{k}", "event": "clicked",
                             "occurred_at": at + timedelta(hours=1)})  # fmt: skip
    # held back by lot: no message, so it tells nothing of channels
    sent.append({"message_id": "held", "customer_id": "c0", "channel": "sms", "campaign": "old",
                 "treatment": "holdout", "sent_at": ago(20)})  # fmt: skip
    clicked = {row["message_id"] for row in came}
    bought = [order(f"o{i}", m["customer_id"], m["sent_at"] + timedelta(hours=2), ("p", 1, 20.0))
              for i, m in enumerate(sent) if m["message_id"] in clicked and i % 5 == 0]  # fmt: skip
    known = [{"customer_id": c, "updated_at": ago(300), "signed_up_at": ago(300), "email": f"{c}@x.example"}
             for c in CUSTOMERS]  # fmt: skip
    devices = [{"device_id": f"d{c}", "customer_id": c, "push_token": f"t{c}", "updated_at": ago(300)}
               for c in CUSTOMERS if c != "c11"]  # fmt: skip
    lake_with(home, {"customers": known, "devices": devices, "messages_history": sent, "message_events": came,
                     **orders(*bought)}, f"../{T.isoformat()}")  # fmt: skip
    agreed = [FROM_START | {"customer_id": c, "channel": on}
              for n, c in enumerate(CUSTOMERS[:110]) for on in ("push", "email")[: 1 + (n >= 10)]]  # fmt: skip
    consents.append(ledger_settings, pa.Table.from_pylist(agreed))
    with Past.of(ledger_settings, SHOP, T) as past:
        for outcome in channel.train(past):
            assert outcome.published, outcome.why
            store(Registry(home / "models"), outcome, T, T)
    return ledger_settings


ON_ONE_DATABASE = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)


@ON_ONE_DATABASE
def test_the_best_channel_of_those_that_are_open(shop: Settings) -> None:
    ids = np.array(CUSTOMERS)
    with Lake(shop).read(T) as reading:
        now = Now(shop, SHOP, reading, Registry(shop.home / "models"), T, ids, pd.DataFrame(index=ids))
        columns = {name: column.to_pylist() for name, column in channel.score(now).items()}
    assert list(columns) == ["channel_email", "channel_push", "channel"]
    likelier = [e < p for e, p in zip(columns["channel_email"], columns["channel_push"], strict=True)]
    assert np.mean([said == likes_push(n) for n, said in enumerate(likelier)]) > 0.95
    best = columns["channel"]
    assert set(best[:10]) == {"push"} and set(best[110:]) == {None} and best[11] == "email"
    assert [b == "push" for b in best[12:110]] == likelier[12:110]


@ON_ONE_DATABASE
def test_what_would_have_served_is_judged_by_what_came_since(shop: Settings) -> None:
    report, rows = evaluate("channel", T.isoformat(), 40)
    assert (
        report["said"][0].startswith("own_channel would have served.") and "better beyond chance" in report["said"][1]
    )
    losses = rows.to_pandas().pivot(index="model", columns="channel", values="log_loss")
    assert (losses.loc["own_channel"] < losses.loc["best_channel"]).all()


@ON_ONE_DATABASE
def test_how_a_campaign_follows_another(shop: Settings, tmp_path: Path) -> None:
    """Counts on the screen, ids in the file only; a mail that costs more than it brings isn't sent."""
    build_profiles(T.isoformat())
    plan(shop, T, ["a"] * 40)
    send(shop, T)
    out = tmp_path / "who.json"
    command = ["campaign", "channels", "picked_for_you", "--after", "spring", "--out", str(out)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    rows = {row["customer_id"]: row for row in json.loads(out.read_text())}
    assert rows.keys() == set(CUSTOMERS[:40]) and "c17" not in shown.output
    assert {rows[c]["channel"] for c in CUSTOMERS[:10]} == {"push"}
    assert np.mean([(rows[c]["channel"] == "push") == likes_push(n) for n, c in enumerate(CUSTOMERS[:40])][10:]) > 0.9
    (shop.home / "shop.yaml").write_text(yaml.safe_dump(COSTLY.model_dump(mode="json")))
    assert CliRunner().invoke(app, command).exit_code == 0
    dear = {row["customer_id"]: (row["channel"], row["reason"]) for row in json.loads(out.read_text())}
    assert dear.pop("c11") == (None, "not_worth_it"), "there is but a mail for c11"
    assert set(dear.values()) == {("push", "chosen")}, "an order is 20, and one follows each fifth click"


@ON_ONE_DATABASE
def test_who_counts_and_why_nothing_goes_to_others(shop: Settings, tmp_path: Path) -> None:
    """As of a past moment, however many runs came after it; without who was erased since."""
    build_profiles(T.isoformat())
    plan(shop, T, ["a"] * 20)
    send(shop, T)
    withdrawn = [
        FROM_START | {"granted": False, "recorded_at": T, "customer_id": c, "channel": on}
        for c, on in (("c11", "email"), ("c12", "email"), ("c12", "push"))
    ]
    consents.append(shop, pa.Table.from_pylist(withdrawn))
    for later in range(1, 52):
        plan(shop, T + timedelta(days=later), ["a"])
    erase_person("c3")
    out = tmp_path / "who.json"
    command = ["campaign", "channels", "picked_for_you", "--after", "spring", "--as-of", T.isoformat()]
    shown = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    rows = {row["customer_id"]: row for row in json.loads(out.read_text())}
    assert rows.keys() == {*CUSTOMERS[:20]} - {"c3"}
    reasons = {c: row["reason"] for c, row in rows.items() if row["reason"] != "chosen"}
    assert reasons == {"c11": "no_device", "c12": "no_consent"}
    assert "no_device: 1" in shown.output


@ON_ONE_DATABASE
def test_planning_reads_what_is_expected(shop: Settings) -> None:
    spec = find_spec(shop.campaigns, "picked_for_you")
    everybody = spec.audience.model_copy(update={"rules": [], "order_by": "orders_total"})
    build_profiles(T.isoformat())
    scored = [{"customer_id": c, "as_of": T, "send_hour": 10, "model_version": "m"} for c in CUSTOMERS]
    picked = [{"customer_id": c, "placement": "for_you", "rank": 1, "product_id": "p", "algorithm": "a",
               "reason_code": "r", "reason_value": ""} for c in CUSTOMERS]  # fmt: skip
    for name, made in (("scores", scored), ("recommendations", picked)):
        publish_rows(Lake(shop), name, interval_key(T), pa.Table.from_pylist(made))
    for choice, weighed in (("order", False), ("expected", True)):
        asked = spec.model_copy(update={"channel_choice": choice, "audience": everybody})
        members = gather(shop, SHOP, asked, T).members.to_pandas().set_index("customer_id")
        assert members["expected"].notna().all() == weighed
    push, email, in_app = np.stack(members["expected"]).T
    assert np.mean((push > email) == [likes_push(int(c[1:])) for c in members.index]) > 0.95
    assert (in_app <= np.minimum(push, email) * 1.5).all(), "nothing was sent there: the lowest is expected"
