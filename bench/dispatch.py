"""CPU per six-product mail from the ledger to the provider, rendering included, beside the official client in a loop.

Ours both ways: a request for the mails of one layout, and one rendered body a request. All send over plain HTTP to the
same sandbox, a process of its own whose work isn't counted; nor is planning. Ours also claims, checks each message once
more, and writes each request down twice.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import sendgrid
from controltower import clock, settings
from controltower.campaigns.composing import CatalogueItem, Composer, catalogue
from controltower.campaigns.specs import find_spec
from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.delivery.dispatch import Dispatcher
from controltower.delivery.providers.base import Envelope, Outgoing
from controltower.delivery.providers.sendgrid import SendGrid, payload
from controltower.ledger import consents, plans, reports
from controltower.ledger.database import begin, reading
from controltower.profiles.contacts import Contact, contacts
from controltower.settings import INCLUDE, Settings

MAILS, PAIRS = 500, 5
NOW = datetime(2026, 6, 15, 3, tzinfo=UTC)
PICKS = [{"product_id": f"p{n}", "algorithm": "als", "reason": "popular", "value": None} for n in range(6)]


def run() -> list[dict[str, Any]]:
    """Medians of interleaved pairs."""
    with tempfile.TemporaryDirectory() as folder, _sandbox(Path(folder)) as conf:
        _write_shop(conf)
        split, whole, naive = [], [], []
        for pair in range(PAIRS):
            for ours, splits in ((split, True), (whole, False)):
                run_id = _plan(conf, 2 * pair + splits)
                with patch.object(SendGrid, "splits", splits):
                    ours.append(_micros(_ours, conf, run_id))
            naive.append(_micros(_naive, conf, pair))
    return [
        {"name": f"send a mail, {how}, ledger included, CPU", "value": statistics.median(ours), "unit": "µs",
         "naive": statistics.median(naive)}
        for how, ours in (("a request for a layout", split), ("one body a request", whole))
    ]  # fmt: skip


def _micros(send: Any, *arguments: Any) -> float:
    started = time.process_time()
    send(*arguments)
    return (time.process_time() - started) / MAILS * 1e6


def _ours(conf: Settings, run_id: int) -> None:
    with Lake(conf).read(NOW) as lake:
        report = Dispatcher(conf, settings.load_shop(conf), lake).run()
    with reading(conf) as ledger:
        (totals,) = reports.totals(ledger, [run_id])
    if totals.accepted != {"sendgrid": MAILS}:
        raise RuntimeError(f"not all was sent: {report}")


def _naive(conf: Settings, _pair: int) -> None:
    """Read the customers, then render and send one after the other with SendGrid's client."""
    client = sendgrid.SendGridAPIClient(conf.sendgrid_api_key.get_secret_value(), host=conf.sendgrid_url)  # type: ignore[union-attr]
    composer = _composer(conf)
    who, items = _people(conf)
    for number, contact in enumerate(who.values()):
        email = composer.email(composer.context(contact, PICKS, items, f"{number:032x}"), "we_miss_you")
        to = str(contact.email)
        one = Outgoing(number, f"{number:032x}", to, email)
        body = payload([one], Envelope(composer.shop, "c", "v", timedelta(days=1)))
        client.client.mail.send.post(request_body=body)


def _people(conf: Settings) -> tuple[dict[str, Contact], dict[str, CatalogueItem]]:
    with Lake(conf).read(NOW) as lake:
        return (
            contacts(lake, settings.load_shop(conf), _customers()),
            catalogue(lake, [str(p["product_id"]) for p in PICKS]),
        )


def _composer(conf: Settings) -> Composer:
    return Composer.of(conf, settings.load_shop(conf), find_spec(conf.campaigns, "win_back"))


def _customers() -> Sequence[str]:
    return [f"c{n}" for n in range(MAILS)]


def _plan(conf: Settings, pair: int) -> int:
    spec = find_spec(conf.campaigns, "win_back")
    with begin(conf) as ledger:
        subjects = plans.subject_ids(ledger, _customers(), NOW)
        return plans.freeze(
            ledger,
            occurrence_id=plans.lock_occurrence(ledger, spec.name, f"2026-06-{pair + 1:02}", NOW),
            campaign=spec.name, as_of=NOW, now=NOW, spec=spec.model_dump(mode="json"), spec_hash=spec.hash,
            content_hash=_composer(conf).template.content_hash, policy={}, policy_version="1", triggered_by=None,
            key=conf.signing_key(), expires_in=timedelta(days=1),
            plan=[
                plans.Decision(c, subjects[c], "message", 0.45, arm="we_miss_you", share=0.5, channel="email",
                               due_at=NOW, choices={"products": PICKS})
                for c in _customers()
            ],
        )  # fmt: skip


def _write_shop(conf: Settings) -> None:
    shop = (INCLUDE / "shops" / "simulated.yaml").read_text(encoding="utf-8")
    before = shop.partition("frequency_caps:")[0]  # the same customers get every round
    (conf.home / "shop.yaml").write_text(before, encoding="utf-8")
    clock.set_clock(conf, NOW, speed=0)
    customers = [
        {"customer_id": c, "updated_at": NOW, "email": f"{c}@customers.example", "first_name": "민지", "country": "KR",
         "locale": "ko-KR", "timezone": "Asia/Seoul"}
        for c in _customers()
    ]  # fmt: skip
    products = [
        {"product_id": p["product_id"], "updated_at": NOW, "title": f"상품 {p['product_id']}", "price": Decimal(12300),
         "currency": "KRW", "url": "https://haru.example/p", "in_stock": True}
        for p in PICKS
    ]  # fmt: skip
    lake = Lake(conf)
    for table, rows in (("customers", customers), ("products", products)):
        lake.publish(table, "i", pa.Table.from_pylist(rows, schema=CONTRACT[table].schema))
    with begin(conf) as ledger:
        consents.record(
            ledger,
            [
                {"customer_id": c, "channel": "email", "purpose": "marketing", "recorded_at": NOW, "granted": True,
                 "source": "bench"}
                for c in _customers()
            ],
        )  # fmt: skip


@contextmanager
def _sandbox(home: Path) -> Iterator[Settings]:
    """A sandbox process, and the settings of a home that sends to it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONTROLTOWER_")}
    command = [sys.executable, "-m", "controltower.cli", "--home", str(home), "sandbox", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = process.stdout.readline().split()[1]
        key = (home / "sandbox" / "sendgrid.key").read_text()
        yield Settings(home=home, sendgrid_url=url, sendgrid_api_key=key)
    finally:
        process.terminate()
        process.wait()
