"""What each provider talks to in the contract suite: a real server that can be told to misbehave, one for each name.

A counterpart is a context manager. While it is open:

- `environment`: the settings with which its provider uses it; `wrong`: some with a bad password or key, by name;
  `nobody`: some that lead to where nothing listens.
- `taken()`: what it took, each a Taken; `calls`: how many it was asked to take, refused ones included.
- `meet(fault)`: the next call meets one of FAULTS. `cannot` says of which it knows none, and why.
- `says_when`: whether it says when to come back, once there were too many.
- `secrets`: what no error and no log may hold.
- `addresses` and `bad_addresses`: some that can be sent to, and some that can't.
- `hasten`: the modules whose ANSWER (seconds) is how long the provider waits for an answer.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from controltower import clock
from controltower.delivery.providers import client, smtp
from controltower.sandbox import credentials
from controltower.sandbox.app import create_app
from controltower.sandbox.serve import running
from fastapi import FastAPI

# too_many: come back in WAIT seconds. unavailable: not now. broken: an error that may come after it took the message.
# lost: taken, and the connection is cut. silent: taken, and no answer comes.
FAULTS: Final = ("too_many", "unavailable", "broken", "lost", "silent")
WAIT: Final = 30
KINDS: Final = {"too_many": "429", "unavailable": "503", "broken": "500", "lost": "drop", "silent": "hang"}  # HTTP's
EMAILS: Final = [f"c{n}@customers.example" for n in range(5)]
BAD_EMAILS: Final = [
    "",
    " ",
    "nobody",
    "two@@customers.example",
    "a b@customers.example",
    "x" * 65 + "@customers.example",
    "c0@customers.example\r\nBcc: evil@elsewhere.example",
    "c0@customers.example, c1@customers.example",
    "ö@customers.example",
    "c0@-customers.example",
]


@dataclass(frozen=True)
class Taken:
    """A message as it was taken: to whom (all of them), under which id, its subject or title, all of it as text."""

    to: tuple[str, ...]
    message_id: str
    title: str
    whole: str


class Counterpart(AbstractContextManager["Counterpart"]):
    """What all have. A subclass opens its server in `serve`."""

    provider: ClassVar[str]
    addresses: ClassVar[list[str]] = EMAILS
    bad_addresses: ClassVar[list[str]] = BAD_EMAILS
    cannot: ClassVar[dict[str, str]] = {}
    says_when: ClassVar[bool] = True
    hasten: ClassVar[list[ModuleType]] = [client]
    environment: dict[str, str]
    wrong: dict[str, dict[str, str]]
    nobody: dict[str, str]
    secrets: list[str]

    def __init__(self, folder: Path, keys: Path) -> None:
        """`folder` is this one's own; keys that take long to make may stay in `keys` for the next."""
        self.folder, self.keys = folder, keys
        self.calls = 0
        self._stack = ExitStack()

    def __enter__(self) -> Counterpart:
        self._stack.enter_context(self.serve())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def serve(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def taken(self) -> list[Taken]:
        raise NotImplementedError

    def meet(self, fault: str) -> None:
        raise NotImplementedError


def now() -> datetime:
    """The machine's clock: the servers' Date headers go by it."""
    return datetime.fromtimestamp(clock.wall(), UTC)


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Counting:
    """Counts the calls to paths that end so, and hands them on."""

    def __init__(self, app: Any, path: str, count: Callable[[], None]) -> None:
        self.app, self.path, self.count = app, path, count

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith(self.path):
            self.count()
        await self.app(scope, receive, send)


class Sandboxed(Counterpart):
    """A part of the sandbox, over HTTP."""

    path: ClassVar[str]
    channel: ClassVar[str]

    @contextmanager
    def serve(self) -> Iterator[None]:
        made = credentials.make(self.keys / "credentials", "http://127.0.0.1:9")
        app = self.app(made)
        app.add_middleware(Counting, path=self.path, count=self._count)
        with running(app) as self.url:
            self.made = credentials.make(self.keys / "credentials", self.url)
            self.elsewhere = f"http://127.0.0.1:{closed_port()}"
            self.set_up()
            yield

    def app(self, made: credentials.Credentials) -> FastAPI:
        return create_app(self.folder / "inbox.db", made.api_key, made.service_account(), now=now)

    def set_up(self) -> None:
        """Fill environment, wrong, nobody and secrets."""
        raise NotImplementedError

    def _count(self) -> None:
        self.calls += 1

    def meet(self, fault: str) -> None:
        seconds = 60 if fault == "silent" else WAIT
        body = {"kind": KINDS[fault], "count": 1, "seconds": seconds}
        assert self.http().post("/api/faults", json=body).status_code == 201

    def http(self) -> Any:
        import httpx

        return self._stack.enter_context(httpx.Client(base_url=self.url, timeout=60))

    def taken(self) -> list[Taken]:
        http = self.http()
        found = http.get("/api/messages", params={"channel": self.channel, "limit": 1000}).json()["messages"]
        return [
            Taken(tuple(m["recipient"].split(", ")), m["message_id"], m["title"],
                  http.get(f"/api/requests/{m['request_id']}").text)
            for m in reversed(found)
        ]  # fmt: skip


class SendGridSandbox(Sandboxed):
    provider = "sendgrid"
    path = "/v3/mail/send"
    channel = "email"

    def set_up(self) -> None:
        key = {"CONTROLTOWER_SENDGRID_API_KEY": self.made.api_key}
        self.environment = {"CONTROLTOWER_SENDGRID_URL": self.url, **key}
        self.nobody = {"CONTROLTOWER_SENDGRID_URL": self.elsewhere, **key}
        self.wrong = {"key": self.environment | {"CONTROLTOWER_SENDGRID_API_KEY": "SG.another-key"}}
        self.secrets = [self.made.api_key, "SG.another-key"]


class FcmSandbox(Sandboxed):
    provider = "fcm"
    path = "messages:send"
    channel = "push"
    addresses: ClassVar[list[str]] = [f"token-{n}" for n in range(5)]
    bad_addresses: ClassVar[list[str]] = ["", " ", "two words", "line\nbreak", "é", "t" * 4097]

    def set_up(self) -> None:
        account = {"CONTROLTOWER_FCM_CREDENTIALS": str(self.made.service_account_path)}
        self.environment = {"CONTROLTOWER_FCM_URL": self.url, **account}
        self.nobody = {"CONTROLTOWER_FCM_URL": self.elsewhere, **account}
        another = credentials.make(self.keys / "another", self.url)
        self.wrong = {"account": self.environment | {"CONTROLTOWER_FCM_CREDENTIALS": str(another.service_account_path)}}
        self.secrets = [self.made.service_account()["private_key"], another.service_account()["private_key"]]


class MailServer(Counterpart):
    """A mail server of aiosmtpd's that wants a user and password. It hangs up on the password of `rude`."""

    provider = "smtp"
    hasten: ClassVar[list[ModuleType]] = [smtp]
    says_when = False
    cannot: ClassVar[dict[str, str]] = {"broken": "an error after the mail is a refusal: SMTP knows no other"}

    @contextmanager
    def serve(self) -> Iterator[None]:
        self._taken: list[Taken] = []
        self._fault = ""
        self._woken = threading.Event()
        controller = Controller(
            self, hostname="127.0.0.1", port=(port := closed_port()), authenticator=self._authenticate,
            auth_required=True, auth_require_tls=False,
        )  # fmt: skip
        controller.start()
        try:
            self.environment = {"CONTROLTOWER_SMTP_URL": f"smtp://shop:p4ssw0rd@127.0.0.1:{port}"}
            self.wrong = {
                "password": {"CONTROLTOWER_SMTP_URL": f"smtp://shop:wr0ng@127.0.0.1:{port}"},
                "password, and it hangs up": {"CONTROLTOWER_SMTP_URL": f"smtp://rude:wr0ng@127.0.0.1:{port}"},
            }
            self.nobody = {"CONTROLTOWER_SMTP_URL": f"smtp://shop:p4ssw0rd@127.0.0.1:{closed_port()}"}
            self.secrets = ["p4ssw0rd", "wr0ng"]
            yield
        finally:
            self._woken.set()
            controller.stop()

    def _authenticate(self, server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        if given.login == b"rude":
            server.transport.abort()
        good = given == LoginPassword(b"shop", b"p4ssw0rd")
        return AuthResult(success=good, handled=False)

    async def handle_MAIL(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.calls += 1
        if self._fault in ("too_many", "unavailable"):
            return {"too_many": "451 4.7.1 Too many mails", "unavailable": "421 4.3.2 Not now"}[self._forget()]
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        parts = "\n".join(part.get_content() for part in mail.walk() if part.get_content_maintype() == "text")
        headers = "\n".join(f"{name}: {value}" for name, value in mail.items())
        message_id = str(mail["Message-ID"]).strip("<>").partition("@")[0]
        self._taken.append(
            Taken(tuple(envelope.rcpt_tos), message_id, str(mail["Subject"]), f"{headers}\n\n{parts}")
        )  # fmt: skip
        fault = self._forget()
        if fault == "lost":
            server.transport.abort()
        if fault == "silent":
            await asyncio.get_running_loop().run_in_executor(None, self._woken.wait, 60)
        return "250 OK"

    def _forget(self) -> str:
        fault, self._fault = self._fault, ""
        return fault

    def meet(self, fault: str) -> None:
        self._fault = fault

    def taken(self) -> list[Taken]:
        return self._taken


class NobodyToCall(Counterpart):
    """In-app messages wait in the ledger: nothing is called, so that nothing can fail."""

    provider = "in_app"
    addresses: ClassVar[list[str]] = [f"customer-{n}" for n in range(5)]
    bad_addresses: ClassVar[list[str]] = []
    cannot: ClassVar[dict[str, str]] = dict.fromkeys((*FAULTS, "nobody", "taken"), "nothing is called")
    hasten: ClassVar[list[ModuleType]] = []

    @contextmanager
    def serve(self) -> Iterator[None]:
        self.environment, self.nobody, self.wrong, self.secrets = {}, {}, {}, []
        yield


COUNTERPARTS: Final[dict[str, type[Counterpart]]] = {
    c.provider: c for c in (SendGridSandbox, MailServer, FcmSandbox, NobodyToCall)
}
