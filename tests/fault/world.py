"""The shop that every schedule starts from: made once, then copied with its ledger."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import httpx
from controltower import clock, settings
from controltower.ledger import database, plans
from controltower.settings import Settings
from support import postgres, small_shop, webhooks

NOW = datetime.fromisoformat("2026-06-15T12:00+09:00")
MAILS, PUSHES = 130, 90
CUSTOMERS = [f"c{n}" for n in range(MAILS)]
BATCH = 40  # messages: so that a schedule has several
_NO_PAUSES = {"pause": 0, "longest_pause": 0, "pause_after_unknown": 0}  # else one fault would hide the others
_KEY = "a secret that every copy of the home shares"


@dataclass
class Sandbox:
    """A sandbox in a process of its own, and its record."""

    url: str
    home: Path
    http: httpx.Client

    def caught(self) -> dict[tuple[str, str], int]:
        """How often each message came to each address: (message_id, recipient) -> times."""
        with sqlite3.connect(self.home / "sandbox" / "inbox.db", timeout=30) as record:
            counted = "SELECT message_id, recipient, count(*) FROM messages GROUP BY message_id, recipient"
            return {(message, to): n for message, to, n in record.execute(counted)}

    def mails(self) -> list[tuple[str, int, str, str]]:
        """(provider_id, position, recipient, message_id) of each mail that it took."""
        with sqlite3.connect(self.home / "sandbox" / "inbox.db", timeout=30) as record:
            rows = (
                "SELECT provider_id, position, recipient, message_id FROM messages WHERE channel = 'email' ORDER BY id"
            )
            return record.execute(rows).fetchall()

    def clear(self) -> None:
        for what in ("messages", "faults"):
            self.http.delete(f"/api/{what}").raise_for_status()


@dataclass
class World:
    """What the schedules of a lane share."""

    folder: Path
    sandbox: Sandbox
    template: Path
    server: postgres.Postgres | None
    signer: object  # the private key of SendGrid's events
    public_key: str

    @contextmanager
    def copy(self, seed: int) -> Iterator[tuple[Settings, dict[str, str]]]:
        """A home of its own, its settings, and the environment that gives them."""
        home = self.folder / f"home-{seed}"
        shutil.copytree(self.template, home)
        with ExitStack() as stack:
            url = stack.enter_context(self.server.database("fault_template")) if self.server else None
            environment = self._environment(home, url)
            with patch.dict(os.environ, environment):
                try:
                    yield settings.load(), environment
                finally:
                    database.forget()
        shutil.rmtree(home)

    def _environment(self, home: Path, url: str | None) -> dict[str, str]:
        return environment(home, self.sandbox, self.public_key) | ({"CONTROLTOWER_DATABASE_URL": url} if url else {})


def environment(home: Path, sandbox: Sandbox, public_key: str = "") -> dict[str, str]:
    made = sandbox.home / "sandbox"
    return {
        "CONTROLTOWER_HOME": str(home), "CONTROLTOWER_SECRET_KEY": _KEY,
        "CONTROLTOWER_SENDGRID_URL": sandbox.url, "CONTROLTOWER_FCM_URL": sandbox.url,
        "CONTROLTOWER_SENDGRID_API_KEY": (made / "sendgrid.key").read_text(),
        "CONTROLTOWER_FCM_CREDENTIALS": str(next(made.glob("*.json"))),
        "CONTROLTOWER_SENDGRID_WEBHOOK_KEYS": public_key,
    }  # fmt: skip


@contextmanager
def world(folder: Path, database_kind: str) -> Iterator[World]:
    """A sandbox, the template of the home, and for PostgreSQL a server with the template of the ledger."""
    with ExitStack() as stack:
        sandbox = stack.enter_context(_sandbox(folder / "sandbox-home"))
        server = stack.enter_context(postgres.running()) if database_kind == "postgresql" else None
        signer, public_key = webhooks.keypair()
        template = folder / "template"
        template.mkdir()
        if server:
            url = stack.enter_context(server.database(name="fault_template"))
            values = environment(template, sandbox) | {"CONTROLTOWER_DATABASE_URL": url}
        else:
            values = environment(template, sandbox)
        with patch.dict(os.environ, values), patch.object(plans, "BATCH_SIZE", BATCH):
            conf = settings.load()
            small_shop.write_shop(conf, CUSTOMERS, NOW)
            with conf.shop_file.open("a") as shop:
                shop.write(f"providers: {json.dumps({'sendgrid': _NO_PAUSES, 'fcm': _NO_PAUSES})}\n")
            clock.set_clock(conf, NOW, speed=0)
            small_shop.plan(conf, CUSTOMERS, NOW)
            yesterday = NOW - timedelta(hours=19)  # another occurrence
            small_shop.plan(conf, CUSTOMERS[:PUSHES], NOW, channel="push", due_at=yesterday)
            database.forget()
        yield World(folder, sandbox, template, server, signer, public_key)


@contextmanager
def _sandbox(home: Path) -> Iterator[Sandbox]:
    command = [sys.executable, "-m", "controltower.cli", "--home", str(home), "sandbox", "--port", "0"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CONTROLTOWER_")}
    process = subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = process.stdout.readline().split()[1]
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
            yield Sandbox(url, home, http)
    finally:
        process.terminate()
        process.wait()
