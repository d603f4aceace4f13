"""A mail server, by SMTP. https://www.rfc-editor.org/rfc/rfc5321

It tells nothing after it took a mail: bounces come as mails to the sender's address.
"""

from __future__ import annotations

import re
import smtplib
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from controltower import clock
from controltower.content.message import Email
from controltower.content.text import one_line
from controltower.delivery.policy import is_local
from controltower.delivery.providers.base import (
    NO_CONNECTION,
    UNAUTHORIZED,
    Envelope,
    Outgoing,
    Parcel,
    Result,
    mail_address,
    one_each,
)
from controltower.errors import BadSettings
from controltower.settings import Settings, airflow_connection

CONNECT = 5.0  # seconds for each step to a connection
ANSWER = 30.0  # seconds for a mail, once connected: less than a batch's lease
_HUNG_UP: Final = 599  # no code of SMTP's: the server ended the connection instead of answering
_PORTS: Final = {"smtp+starttls": 587, "smtps": 465, "smtp": 25}
_HINT: Final = "It is smtp+starttls://user:password@host:587, or smtps://user:password@host:465."


@dataclass(frozen=True)
class Letter(Parcel):
    """A mail with the address it is sent from."""

    sender: str = field(default="", repr=False)


class Smtp:
    """Some kept connections; the ledger retries, nothing else does."""

    name = "smtp"
    channel = "email"
    calls_at_once = 8
    splits = False
    checks = False
    local = False  # a mail server on this machine sends to the world

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = _server(settings)
        self.secret = f"{self._server.user}:{self._server.password}"
        self._kept: deque[smtplib.SMTP] = deque()

    def trouble(self) -> str | None:
        return None

    def pack(self, outgoing: Sequence[Outgoing], envelope: Envelope, most: int) -> Iterator[Parcel]:  # noqa: ARG002
        now, sender = clock.now(self._settings), envelope.shop.sender.email
        for parcel in one_each(outgoing, lambda one: letter(one, envelope, now)):
            yield Letter(parcel.outgoing, parcel.body, parcel.refused, sender=sender)

    def post(self, parcel: Parcel) -> Result:
        assert isinstance(parcel, Letter)
        try:
            server = self._connection(parcel.sender.rpartition("@")[2])
        except (OSError, UnicodeError) as e:  # smtplib's errors are OSErrors; their text may quote an address
            return _unreachable(self._server.host, e)
        result, keep = _deliver(server, parcel)
        if keep:
            self._kept.append(server)
        else:
            server.close()
        return result

    def close(self) -> None:
        while self._kept:
            with suppress(OSError):
                self._kept.pop().quit()

    def _connection(self, own_name: str) -> smtplib.SMTP:
        """A kept connection that still answers, else a new one."""
        while self._kept:
            with suppress(IndexError, OSError):
                kept = self._kept.pop()
                _allow(kept, CONNECT)
                if kept.rset()[0] == 250:
                    return kept
                kept.close()
        server, trust = self._server, ssl.create_default_context()
        if server.security == "smtps":
            made: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, own_name, timeout=CONNECT, context=trust)
        else:
            made = smtplib.SMTP(server.host, server.port, own_name, timeout=CONNECT)
        try:
            if server.security == "smtp+starttls":
                made.starttls(context=trust)
            if server.user:
                _log_in(made, server.user, server.password)
            made.ehlo_or_helo_if_needed()
        except BaseException:
            made.close()
            raise
        return made


@dataclass(frozen=True)
class _Server:
    """Where mails go."""

    security: str
    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)


def _server(settings: Settings) -> _Server:
    if settings.smtp_url is None:
        connection = airflow_connection("smtp_default")
        if not connection or not connection["host"]:
            raise BadSettings("There is no mail server.", f"Set CONTROLTOWER_SMTP_URL. {_HINT}")
        extra = connection["extra"] or {}  # as Airflow's own provider reads it
        security = "smtps" if not extra.get("disable_ssl") else "smtp" if extra.get("disable_tls") else "smtp+starttls"
        found = _Server(
            security, connection["host"], connection["port"] or _PORTS[security],
            connection["login"], connection["password"] or "",
        )  # fmt: skip
    else:
        parts = urlsplit(settings.smtp_url.get_secret_value().strip())
        try:
            port = parts.port or _PORTS[parts.scheme]
        except (KeyError, ValueError):
            raise BadSettings("CONTROLTOWER_SMTP_URL can't be used.", _HINT) from None
        user = unquote(parts.username) if parts.username else None
        found = _Server(parts.scheme, parts.hostname or "", port, user, unquote(parts.password or ""))
    if not found.host or not f"{found.user}{found.password}".isascii():
        raise BadSettings("The mail server's host, user or password can't be used.", _HINT)
    if found.security == "smtp" and not is_local(f"//{found.host}"):
        raise BadSettings("Mails and the password would travel unencrypted.", _HINT)
    return found


class _Whole(UnstructuredHeader):
    """A header that stays on its line: Python would encode a long address as words, which mailboxes don't read."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _Whole)  # type: ignore[arg-type]
_POLICY: Any = SMTP.clone(cte_type="7bit", header_factory=_HEADERS)


def letter(one: Outgoing, envelope: Envelope, now: datetime) -> bytes:
    """The mail as it travels: plain text and HTML. Its Message-ID carries our own: a reply or a bounce names it."""
    email, sender = one.content, envelope.shop.sender
    assert isinstance(email, Email)
    message = EmailMessage(_POLICY)
    message["From"] = Address(_sound(one_line(sender.name)), addr_spec=mail_address(sender.email))
    message["To"] = mail_address(one.to)
    if sender.reply_to:
        message["Reply-To"] = mail_address(sender.reply_to)
    message["Subject"] = _sound(one_line(email.subject))
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{one.message_id}@{sender.email.rpartition('@')[2]}>"
    for name, value in email.headers.items():
        message[name] = value
    message.set_content(_sound(email.text), cte="base64")
    message.add_alternative(_sound(email.html), subtype="html", cte="base64")
    return message.as_bytes()


def _sound(text: str) -> str:
    """Half a surrogate pair, as broken sources hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    """SMTPAuthenticationError also where the server hangs up, as some do upon a wrong password."""
    server.ehlo_or_helo_if_needed()
    try:
        server.login(user, password)
    except smtplib.SMTPServerDisconnected:
        raise smtplib.SMTPAuthenticationError(_HUNG_UP, b"") from None


def _deliver(server: smtplib.SMTP, parcel: Letter) -> tuple[Result, bool]:
    """Hand a mail over, and what came of it; whether the connection can be kept."""
    until = time.monotonic() + ANSWER
    sender, recipient = mail_address(parcel.sender), mail_address(parcel.outgoing[0].to)
    size = [f"size={len(parcel.body)}"] if server.has_extn("size") else []
    steps: tuple[tuple[str, tuple[int, ...], Callable[[], tuple[int, bytes]]], ...] = (
        ("sender", (250,), lambda: server.mail(sender, size)),
        ("recipient", (250, 251, 252), lambda: server.rcpt(recipient)),
        ("content", (354,), lambda: server.docmd("DATA")),
    )
    for step, wanted, ask in steps:
        try:
            _allow(server, until - time.monotonic())
            code, text = ask()
        except OSError as e:
            return Result("retry", f"{NO_CONNECTION}:{type(e).__name__}"), False
        if code not in wanted:
            return read_answer(step, code, text), code != 421
    try:
        _allow(server, until - time.monotonic())
        server.send(re.sub(rb"(?m)^\.", b"..", parcel.body) + b".\r\n")
        code, text = server.getreply()
    except OSError as e:  # the whole mail may have arrived
        return Result("unknown", f"no_answer:{type(e).__name__}"), False
    return Result("sent", None, code) if code == 250 else read_answer("content", code, text), code != 421


def _allow(server: smtplib.SMTP, seconds: float) -> None:
    if server.sock:
        server.sock.settimeout(max(seconds, 0.001))


def read_answer(step: str, code: int, text: bytes) -> Result:
    """What it means that a server refuses the sender, the recipient or the content. Its text may quote an address."""
    reason = f"{step}_refused:{code}"
    if code in (530, 535) or (step == "sender" and code != 552 and code >= 500):
        stop = f"The mail server refuses us as a sender ({code}). Check the user and the shop's sender address."
        return Result("retry", UNAUTHORIZED, code, stop=stop)
    if code < 500:  # a recipient's may be a full mailbox, or a server that wants to be asked twice
        return Result("retry", reason, code, of_address=step == "recipient" and code != 421)
    if step == "recipient" and re.match(rb"5\.[12]\.\d", text):  # RFC 3463: the mailbox, rather than us
        return Result("rejected", reason, code, of_address=True, suppress="bounced" if text[2:3] == b"1" else None)
    return Result("rejected", reason, code)


def _unreachable(host: str, error: Exception) -> Result:
    """Why there is no connection: nothing left."""
    match error:
        case smtplib.SMTPAuthenticationError(smtp_code=code) if code >= 500:  # 454: not now
            how = "by hanging up" if code == _HUNG_UP else str(code)
            stop = f"{host} refuses the user or password ({how}). Check CONTROLTOWER_SMTP_URL."
            return Result("retry", UNAUTHORIZED, None if code == _HUNG_UP else code, stop=stop)
        case smtplib.SMTPNotSupportedError():
            stop = f"{host} offers no encryption or no log-in. Check CONTROLTOWER_SMTP_URL."
            return Result("retry", "not_offered", stop=stop)
    stop = f"{host} can't be reached ({type(error).__name__}). Is its address right, is it up?"
    return Result("retry", f"{NO_CONNECTION}:{type(error).__name__}", stop=stop)


PROVIDER = Smtp
