"""What the schedules of a lane share: a sandbox, a database server, and a home that is copied for each of them."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import httpx
from controltower import clock, settings
from controltower.jobs import dispatch, feedback, reconcile
from controltower.ledger import database, plans
from controltower.ledger.database import begin
from controltower.sandbox.serve import serve
from controltower.settings import Settings
from support import postgres, webhooks

from fault import shop
from fault.forking import fork

_KEY = "a secret that every copy of the home shares"
_TEMPLATE, _COPY = "fault_template", "fault"


class Mail(NamedTuple):
    """A mail that the sandbox took."""

    provider_id: str
    position: int
    to: str
    message_id: str


@dataclass
class Sandbox:
    """A sandbox in a process of its own, and its record."""

    url: str
    home: Path
    http: httpx.Client

    def _rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.home / "sandbox" / "inbox.db", timeout=30)) as record:
            return record.execute(query).fetchall()

    def size(self) -> int:
        return int(self._rows("SELECT count(*) FROM messages")[0][0])

    def caught(self) -> dict[tuple[str, str], int]:
        """How often each message came to each address or device: (message_id, recipient) -> times."""
        counted = "SELECT message_id, recipient, count(*) FROM messages GROUP BY message_id, recipient"
        return {(message, to): n for message, to, n in self._rows(counted)}

    def mails(self) -> list[Mail]:
        columns = "provider_id, position, recipient, message_id"
        return [Mail(*row) for row in self._rows(f"SELECT {columns} FROM messages WHERE channel = 'email' ORDER BY id")]

    def set_faults(self, faults: list[dict[str, Any]]) -> None:
        for fault in faults:
            self.http.post("/api/faults", json=fault).raise_for_status()

    def end_faults(self, faults: list[dict[str, Any]]) -> Counter[str]:
        """No more of them; how often each was met."""
        met = Counter[str]()
        for fault in faults:
            met[fault["kind"]] += fault["count"]
        for kind, left in self._rows("SELECT kind, sum(remaining) FROM faults GROUP BY kind"):
            met[kind] -= left
        if faults:
            self.http.delete("/api/faults").raise_for_status()
        return +met

    def clear(self) -> None:
        for what in ("messages", "faults"):
            self.http.delete(f"/api/{what}").raise_for_status()


@dataclass
class World:
    """`conf` and the environment name the copy of the home, which has the same address in every schedule."""

    sandbox: Sandbox
    template: Path
    conf: Settings
    server: postgres.Postgres | None
    signer: Any  # the private key of SendGrid's events

    @contextmanager
    def fresh(self) -> Iterator[Settings]:
        """The home and its ledger as they were planned."""
        self.close()
        self.sandbox.clear()
        shutil.rmtree(self.conf.home, ignore_errors=True)
        shutil.copytree(self.template, self.conf.home)
        with ExitStack() as stack:
            if self.server:
                stack.enter_context(self.server.database(_TEMPLATE, _COPY))
            yield self.conf
            self.close()

    def close(self) -> None:
        """Nothing of the ledger is open in this process; what SQLAlchemy has compiled stays."""
        database.opened(self.conf).dispose()

    def restart(self) -> None:
        if self.server:
            self.server.restart()
            self.close()


@contextmanager
def world(folder: Path, kind: str) -> Iterator[World]:
    """The sandbox, the home's template, and for PostgreSQL a server with the ledger's."""
    with ExitStack() as stack:
        sandbox = stack.enter_context(_sandbox(folder / "sandbox-home"))
        server = stack.enter_context(postgres.running(restarts=True)) if kind == "postgresql" else None
        signer, public_key = webhooks.keypair()
        template, home = folder / "template", folder / "home"
        template.mkdir()
        environment = _environment(sandbox, public_key)
        url = stack.enter_context(server.database(name=_TEMPLATE)) if server else None
        with patch.dict(os.environ, environment | _of(template, url)), patch.object(plans, "BATCH_SIZE", shop.BATCH):
            conf = settings.load()
            clock.set_clock(conf, shop.NOW, speed=0)
            shop.write(conf)
            if server:
                _forget_cached_numbers(conf)
            database.forget()
        stack.enter_context(patch.dict(os.environ, environment | _of(home, url and url.replace(_TEMPLATE, _COPY))))
        stack.enter_context(patch.object(plans, "BATCH_SIZE", shop.BATCH))
        shutil.copytree(template, home)
        made = World(sandbox, template, settings.load(), server, signer)
        _warm_up(made)
        yield made
        database.forget()


def _forget_cached_numbers(conf: Settings) -> None:
    """A copied sequence believes that its next numbers are in the write-ahead log, where only the template's are: they
    would be given twice after the server's restart."""
    again = "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, last_value) FROM pg_sequences"
    with begin(conf) as ledger:
        ledger.exec_driver_sql(f"{again} WHERE last_value IS NOT NULL".replace("%I", "%%I"))


def _warm_up(made: World) -> None:
    """What a worker needs is imported and compiled here, before the first of them is forked."""
    with made.server.database(_TEMPLATE, _COPY) if made.server else ExitStack():
        dispatch.dispatch_messages()
        feedback.ingest_feedback()
        reconcile.reconcile()
        made.close()


def _environment(sandbox: Sandbox, public_key: str) -> dict[str, str]:
    made = sandbox.home / "sandbox"
    return {
        "CONTROLTOWER_SECRET_KEY": _KEY, "CONTROLTOWER_SENDGRID_URL": sandbox.url, "CONTROLTOWER_FCM_URL": sandbox.url,
        "CONTROLTOWER_SENDGRID_API_KEY": (made / "sendgrid.key").read_text(),
        "CONTROLTOWER_FCM_CREDENTIALS": str(next(made.glob("*.json"))),
        "CONTROLTOWER_SENDGRID_WEBHOOK_KEYS": public_key,
    }  # fmt: skip


def _of(home: Path, url: str | None) -> dict[str, str]:
    names = {"CONTROLTOWER_HOME": str(home), "CONTROLTOWER_CAMPAIGNS": str(home / "campaigns")}
    return names | ({"CONTROLTOWER_DATABASE_URL": url} if url else {})


@contextmanager
def _sandbox(home: Path) -> Iterator[Sandbox]:
    """A copy of this process serves it until it is told to end."""
    with patch.dict(os.environ, {"CONTROLTOWER_HOME": str(home)}):
        conf = settings.load()
    read, write = os.pipe()

    def run() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        serve(conf, port=0, announce=lambda url, _: print(url, file=os.fdopen(write, "w"), flush=True))

    pid = fork(run)
    os.close(write)
    try:
        with os.fdopen(read) as told:
            url = told.readline().strip()
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
            yield Sandbox(url, home, http)
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
