"""What feedback changes outside its room: the next plan, the doctor."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from controltower import clock
from controltower.campaigns.specs import find_spec
from controltower.data.lake import Lake
from controltower.jobs import doctor
from controltower.jobs.gathering import gather, members_of
from controltower.ledger import suppressions
from controltower.ledger.database import begin
from controltower.settings import Settings, load, load_shop
from support import webhooks
from support.daily_shop import open_shop, score
from support.lakes import publish_rows
from support.shop_tables import table

MORNING = datetime.fromisoformat("2026-06-15T06:30+09:00")
MIDNIGHT = MORNING - timedelta(hours=6.5)


def test_a_plan_does_not_count_on_a_dead_token(ledger_settings: Settings) -> None:
    conf = ledger_settings
    open_shop(conf, MORNING, ["c0", "c1"])
    score(conf, MIDNIGHT, ["c0", "c1"])
    before = MORNING - timedelta(days=1)
    devices = [
        {"device_id": f"d{n}", "customer_id": customer, "push_token": f"token-{n}", "updated_at": before}
        for n, customer in enumerate(["c0", "c0", "c1"])
    ]
    publish_rows(Lake(conf), "devices", "i", table("devices", devices))
    clock.set_clock(conf, MORNING, speed=0)
    with begin(conf) as ledger:
        for n, received in ((0, before), (2, before), (1, MORNING + timedelta(days=1))):
            dead = suppressions.address_hash(conf.signing_key(), f"token-{n}")
            keys = {"channel": "push", "reason": "dead_token", "source": "fcm", "now": received}
            assert suppressions.add(ledger, "address", dead, **keys)  # type: ignore[arg-type]
            assert not suppressions.add(ledger, "address", dead, **keys)  # type: ignore[arg-type]
    shop, spec = load_shop(conf), find_spec(conf.campaigns, "picked_for_you")

    def devices_at(moment: datetime) -> dict[str, bool | None]:
        gathered = gather(conf, shop, spec, moment)
        with begin(conf) as ledger:
            members = members_of(ledger, conf.signing_key(), spec, gathered, [1, 2], moment)
        return dict(zip(gathered.customers, members["device"].to_pylist(), strict=True))

    assert devices_at(MORNING) == {"c0": True, "c1": None}
    assert devices_at(MORNING + timedelta(days=2)) == {"c0": None, "c1": None}


def feedback_finding() -> tuple[bool, str]:
    (found,) = [f for f in doctor.examine() if f["name"] == "feedback"]
    return found["ok"], found["text"]


def test_the_doctor_says_when_nothing_can_come_back(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert feedback_finding() == (True, "verification keys for SendGrid's events: 0")
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_API_KEY", "SG.key")
    ok, text = feedback_finding()
    assert not ok
    assert "CONTROLTOWER_SENDGRID_WEBHOOK_KEYS" in text
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_URL", "http://127.0.0.1:8025")
    assert feedback_finding()[0]
    monkeypatch.delenv("CONTROLTOWER_SENDGRID_URL")
    _, public_key = webhooks.keypair()
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_WEBHOOK_KEYS", public_key)
    assert feedback_finding() == (True, "verification keys for SendGrid's events: 1")
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_WEBHOOK_KEYS", f"{public_key},{public_key[:-8]}")
    ok, text = feedback_finding()
    assert not ok
    assert "1 can't be used" in text
    assert public_key[:20] not in text
    assert load().webhook_keys[0] == public_key
