"""How fast SendGrid's events are taken in: the time to answer at 2,000 events a second, on each database.

A process of its own sends signed bodies of 10 events at a steady pace, whether or not the answers keep up: a late
answer counts from when its body was due. No naive side: what matters is that none waits long, and none is lost.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import urllib3
from controltower.ledger.database import reading
from controltower.ledger.tables import webhook_bodies
from controltower.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import postgres, webhooks

EVENTS, EACH, SECONDS = 2000, 10, 10  # a second, a body


def run() -> list[dict[str, Any]]:
    """The median and the 99th percentile, in milliseconds."""
    found = []
    for kind in ("SQLite", "PostgreSQL"):
        waits = sorted(_take_in(kind))
        for name, value in (("median", statistics.median(waits)), ("99th percentile", waits[int(len(waits) * 0.99)])):
            about = f"webhook answered at {EVENTS:,} events/s, {kind}, {name}"
            found.append({"name": about, "value": round(value * 1000, 1), "unit": "ms"})
    return found


def _take_in(kind: str) -> list[float]:
    private, public = webhooks.keypair()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(stack.enter_context(postgres.running()).database()) if kind == "PostgreSQL" else None
        environment = {"CONTROLTOWER_HOME": str(home), "CONTROLTOWER_SENDGRID_WEBHOOK_KEYS": public}
        environment |= {"CONTROLTOWER_DATABASE_URL": url} if url else {}
        app = stack.enter_context(served(environment))
        urllib3.request("GET", f"{app}/health")  # the tables are made at first use
        bodies = [_body(n) for n in range(EVENTS // EACH * SECONDS)]
        signed = [(body, webhooks.sign(private, int(time.time()), body)) for body in bodies]
        waits = _post_steadily(f"{app}/webhooks/sendgrid", signed, EVENTS / EACH)
        with reading(Settings(home=home, database_url=url)) as ledger:
            stored = ledger.execute(sa.select(sa.func.count()).select_from(webhook_bodies)).scalar_one()
    if stored != len(bodies):
        raise RuntimeError(f"{len(bodies)} bodies were answered, {stored} are stored")
    return waits


@contextmanager
def served(environment: dict[str, str]) -> Iterator[str]:
    """The public app as users start it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CONTROLTOWER_")}
    command = [sys.executable, "-m", "controltower.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, env=kept | environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().split()[2]
    finally:
        process.terminate()
        process.wait()


def _body(number: int) -> bytes:
    events = [
        {"email": "somebody@customers.example", "timestamp": 1_781_492_400, "event": "delivered",
         "sg_event_id": f"{number}-{n}", "sg_message_id": f"m{number}.recvd", "message_id": f"{number * EACH + n:032x}",
         "smtp-id": "<x@ismtpd>", "category": ["win_back"], "response": "250 2.0.0 OK"}
        for n in range(EACH)
    ]  # fmt: skip
    return json.dumps(events).encode()


def _post_steadily(url: str, signed: list[tuple[bytes, dict[str, str]]], rate: float) -> list[float]:
    pool = urllib3.PoolManager(maxsize=16, retries=False)
    waits: list[float] = []
    lock = threading.Lock()
    begun = time.perf_counter() + 0.5

    def post(number: int) -> None:
        body, headers = signed[number]
        due = begun + number / rate
        time.sleep(max(due - time.perf_counter(), 0))
        answer = pool.request("POST", url, body=body, headers=headers)
        if answer.status != 202:
            raise RuntimeError(f"answered {answer.status}")
        with lock:
            waits.append(time.perf_counter() - due)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(post, range(len(signed))))
    return waits
