"""CPU per push from the ledger to FCM, rendering included, beside firebase-admin's `send_each`.

Both send the same pushes over TLS to the same sandbox, a process of its own whose work isn't counted. Ours also
claims, checks each message once more, and writes each request down twice.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import firebase_admin
import pyarrow as pa
from controltower import clock, settings
from controltower.campaigns.composing import Composer, catalogue
from controltower.campaigns.specs import find_spec
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.delivery.dispatch import Dispatcher
from controltower.ledger import consents, plans
from controltower.ledger.database import begin
from controltower.ledger.decisions import Decision, tabulate
from controltower.profiles.contacts import contacts
from controltower.settings import INCLUDE, Settings
from firebase_admin import messaging

from bench._sandbox import tls_sandbox

PUSHES, PAIRS = 5000, 5
NOW = datetime(2026, 6, 15, 3, tzinfo=UTC)
CAMPAIGN, VARIANT = "picked_for_you", "personal"
PICKS = [{"product_id": f"p{n}", "algorithm": "als", "reason": "popular", "value": None} for n in range(6)]


def run() -> list[dict[str, Any]]:
    """Medians of interleaved pairs."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Message.token, in each of the naive loop's messages
    with tempfile.TemporaryDirectory() as folder, tls_sandbox(Path(folder)) as conf:
        _write_shop(conf)
        naive = _Naive(conf)
        ours_took, naive_took = [], []
        for pair in range(PAIRS):
            _plan(conf, pair)
            ours_took.append(_micros(lambda: _ours(conf)))
            naive_took.append(_micros(naive.send))
    return [
        {
            "name": "send a push, ledger included, CPU (naive: send_each)",
            "value": statistics.median(ours_took),
            "unit": "µs",
            "naive": statistics.median(naive_took),
        }
    ]


def _micros(send: Any) -> float:
    started = time.process_time()
    send()
    return (time.process_time() - started) / PUSHES * 1e6


def _ours(conf: Settings) -> None:
    with Lake(conf).read(NOW) as lake:
        report = Dispatcher(conf, settings.load_shop(conf), lake).run()
    if report.requests != {"sent": PUSHES}:
        raise RuntimeError(f"not all was sent: {report}")


class _Naive:
    """Read the customers, render, and hand 500 messages at a time to firebase-admin."""

    def __init__(self, conf: Settings) -> None:
        assert conf.fcm_credentials
        self._conf = conf
        self._composer = _composer(conf)
        messaging._MessagingService.FCM_URL = f"{conf.fcm_url}/v1/projects/{{0}}/messages:send"
        self._app = firebase_admin.initialize_app(firebase_admin.credentials.Certificate(str(conf.fcm_credentials)))

    def send(self) -> None:
        with Lake(self._conf).read(NOW) as lake:
            who = contacts(lake, self._composer.shop, _customers())
            items = catalogue(lake, [str(p["product_id"]) for p in PICKS])
        made = []
        for number, contact in enumerate(who.values()):
            context = self._composer.context(contact, PICKS, items, f"{number:032x}")
            push = self._composer.push(context, VARIANT)
            notification = messaging.Notification(title=push.title, body=push.body, image=push.image_url)
            data = push.data | {"url": push.url}
            made.append(messaging.Message(token=contact.devices[0].push_token, notification=notification, data=data))
        for start in range(0, len(made), 500):
            answer = messaging.send_each(made[start : start + 500], app=self._app)
            if answer.failure_count:
                raise RuntimeError(f"not all was sent: {answer.responses[0].exception}")


def _composer(conf: Settings) -> Composer:
    return Composer.of(conf, settings.load_shop(conf), find_spec(conf.campaigns, CAMPAIGN))


def _customers() -> Sequence[str]:
    return [f"c{n}" for n in range(PUSHES)]


def _plan(conf: Settings, pair: int) -> None:
    spec = find_spec(conf.campaigns, CAMPAIGN)
    with begin(conf) as ledger:
        subjects = plans.subject_ids(ledger, _customers(), NOW)
        plans.freeze(
            ledger,
            occurrence_id=plans.lock_occurrence(ledger, spec.name, f"2026-06-{pair + 1:02}", NOW),
            campaign=spec.name, as_of=NOW, now=NOW, spec=spec.model_dump(mode="json"), spec_hash=spec.hash,
            content_hash=_composer(conf).template.content_hash, policy={}, policy_version="1", triggered_by=None,
            key=conf.signing_key(), expires_in=timedelta(days=1),
            plan=tabulate([
                Decision(c, subjects[c], "message", 0.45, arm=VARIANT, share=0.5, channel="push",
                               due_at=NOW, choices={"products": PICKS})
                for c in _customers()
            ]),
        )  # fmt: skip


def _write_shop(conf: Settings) -> None:
    shop = (INCLUDE / "shops" / "simulated.yaml").read_text(encoding="utf-8")
    before = shop.partition("frequency_caps:")[0]  # the same customers get every round
    (conf.home / "shop.yaml").write_text(before, encoding="utf-8")
    clock.set_clock(conf, NOW, speed=0)
    known = {"updated_at": NOW}
    customers = [
        {"customer_id": c, "first_name": "민지", "country": "KR", "locale": "ko-KR", "timezone": "Asia/Seoul", **known}
        for c in _customers()
    ]
    devices = [
        {"device_id": f"d-{c}", "customer_id": c, "push_token": f"{c}:{'t' * 150}", "platform": "android",
         "last_seen_at": NOW, **known}
        for c in _customers()
    ]  # fmt: skip
    products = [
        {"product_id": p["product_id"], "title": f"상품 {p['product_id']}", "price": Decimal(12300), "currency": "KRW",
         "url": "https://haru.example/p", "image_url": "https://haru.example/i.jpg", "in_stock": True, **known}
        for p in PICKS
    ]  # fmt: skip
    lake = Lake(conf)
    for table, rows in (("customers", customers), ("devices", devices), ("products", products)):
        lake.commit("i", {table: lake.write(table, pa.Table.from_pylist(rows, schema=CONTRACT[table].schema))})
    with begin(conf) as ledger:
        consents.record(
            ledger,
            [
                {"customer_id": c, "channel": "push", "purpose": "marketing", "recorded_at": NOW, "granted": True,
                 "source": "bench"}
                for c in _customers()
            ],
        )  # fmt: skip
