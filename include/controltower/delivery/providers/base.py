"""What a provider is to dispatch: it packs messages into calls, makes one call, and says how that ended."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, Protocol

import orjson

from controltower.content.message import Email, Push, SplitEmail
from controltower.errors import BadSettings
from controltower.shop import Shop

log = logging.getLogger(__name__)

# Reasons that mean the same of every provider.
UNAUTHORIZED: Final = "unauthorized"
NO_CONNECTION: Final = "no_connection"  # begins it
REFUSED_TOGETHER: Final = "refused_together"  # one of several messages is at fault

_LOCAL_PART = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_DOMAIN = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]")
_PLAIN = re.compile(rf"(?=.{{1,254}}$){_LOCAL_PART.pattern}@{_DOMAIN.pattern}")  # needs no further look


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A composed message to one address; a push to one device, an in-app message to one customer."""

    seq: int
    message_id: str
    to: str = field(repr=False)
    content: Email | SplitEmail | Push = field(repr=False)
    device_id: str | None = None


@dataclass(frozen=True)
class Envelope:
    """What the messages of a batch share.

    `test`: they are test sends, to be kept out of the provider's figures; `check_only`: it is to check them, no more,
    for which it must have `checks`.
    """

    shop: Shop
    campaign: str
    variant: str
    expires_in: timedelta
    test: bool = False
    check_only: bool = False


@dataclass(frozen=True)
class Result:
    """The frozen result of a request: `retry_in` in seconds where the provider said when, also with a success.

    `stop` tells that the provider can't be used at all at the moment, with the remedy; `of_address`, that it lies with
    the address, and says nothing of the provider; `suppress`, the reason for which it mustn't be written to again.
    """

    state: Literal["sent", "retry", "rejected", "unknown"]
    reason: str | None = None
    http_status: int | None = None
    provider_message_id: str | None = None
    retry_in: float | None = None
    stop: str | None = None
    of_address: bool = False
    suppress: str | None = None


@dataclass(frozen=True)
class Parcel:
    """One call: its body, and the messages in it. `refused`: it can't be made, and that is its result."""

    outgoing: Sequence[Outgoing]
    body: bytes = field(repr=False)
    refused: Result | None = None
    check_only: bool = False

    @property
    def members(self) -> list[int]:
        return [o.seq for o in self.outgoing]

    @property
    def device_id(self) -> str | None:
        return self.outgoing[0].device_id


@dataclass(frozen=True)
class Answer:
    """What a provider said; header names in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


class Unfit(Exception):
    """An address that a provider can't write to: the reason, which doesn't quote it, and Result's `suppress`."""

    def __init__(self, reason: str, suppress: str | None = None) -> None:
        super().__init__(reason)
        self.suppress = suppress


class Provider(Protocol):
    """One way out. `post` never raises for what the provider or the network did. Several threads call it.

    `calls_at_once` is how many may be under way in one worker; as many are unknown if it dies. `local`: what it is
    given stays on this machine, in the sandbox. `splits`: it takes mails in halves, many of one layout in a call.
    `secret` is what it proves itself with; other credentials have another one.
    `checks`: it can check a message without sending it.
    """

    name: str
    channel: str
    calls_at_once: int
    splits: bool
    checks: bool
    local: bool
    secret: str

    def trouble(self) -> str | None:
        """Why it can't be used at the moment, asked before requests are written down; renews access where it must."""

    def pack(self, outgoing: Sequence[Outgoing], envelope: Envelope, most: int) -> Iterator[Parcel]:
        """Calls of at most `most` messages each, in any order; one each where the provider takes no more."""

    def post(self, parcel: Parcel) -> Result: ...

    def close(self) -> None: ...


def refused_alone(one: Outgoing, why: Unfit) -> Parcel:
    """The call that can't be made for an address that can't be."""
    return Parcel((one,), b"", refused=Result("rejected", str(why), of_address=True, suppress=why.suppress))


def one_each(outgoing: Sequence[Outgoing], encode: Callable[[Outgoing], bytes]) -> Iterator[Parcel]:
    """A call for each message. One that can't be encoded is refused by itself: the others must not wait for it."""
    for one in outgoing:
        try:
            yield Parcel((one,), encode(one))
        except Unfit as e:
            yield refused_alone(one, e)
        except Exception as e:  # the error's own text may hold a customer's data
            log.error("message %s can't be encoded: %s", one.message_id, type(e).__name__)
            yield Parcel((one,), b"", refused=Result("rejected", f"not_encoded:{type(e).__name__}"))


def mail_address(to: str) -> str:
    """An e-mail address in ASCII, as envelopes take it; Unfit where it is none, or null."""
    to = to or ""
    if _PLAIN.fullmatch(to):
        return to
    local, _, domain = to.strip().rpartition("@")
    try:
        domain = domain.encode("idna").decode()
    except UnicodeError:
        domain = ""
    if not _LOCAL_PART.fullmatch(local) or not _DOMAIN.fullmatch(domain) or len(local) + len(domain) > 253:
        raise Unfit("invalid:to")
    return f"{local}@{domain}"


def encoded(payload: Any) -> bytes:
    """JSON. Half a surrogate pair, as broken sources hold, becomes a question mark."""
    try:
        return orjson.dumps(payload)
    except TypeError:
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def clean_secret(name: str, value: str) -> str:
    """A key as it can stand in a header; BadSettings, which doesn't quote it, where it can't."""
    value = value.strip()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadSettings(f"{name} holds characters that no key has.", "Copy it again, without spaces or line breaks.")
    return value


def retry_after(answer: Answer) -> float | None:
    """Seconds from a Retry-After header in its numeric form."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
