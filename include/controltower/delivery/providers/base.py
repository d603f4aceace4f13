"""What a provider is to dispatch: it packs messages into calls, makes one call, and says how that ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, Protocol

import orjson
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError

from controltower.content.message import Email, Push
from controltower.errors import BadSettings
from controltower.settings import Shop


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A composed message to one address; a push to one device."""

    seq: int
    message_id: str
    to: str = field(repr=False)
    content: Email | Push = field(repr=False)
    device_id: str | None = None


@dataclass(frozen=True)
class Envelope:
    """What the messages of a batch share."""

    shop: Shop
    campaign: str
    variant: str
    expires_in: timedelta


@dataclass(frozen=True)
class Parcel:
    """One call: its body, and the messages in it."""

    outgoing: Sequence[Outgoing]
    body: bytes = field(repr=False)

    @property
    def members(self) -> list[int]:
        return [o.seq for o in self.outgoing]

    @property
    def device_id(self) -> str | None:
        return self.outgoing[0].device_id


@dataclass(frozen=True)
class Result:
    """The frozen result of a request: `retry_in` in seconds where the provider said when.

    `stop` tells that the provider can't be used at all at the moment, with the remedy.
    """

    state: Literal["sent", "retry", "rejected", "unknown"]
    reason: str | None = None
    http_status: int | None = None
    provider_message_id: str | None = None
    retry_in: float | None = None
    stop: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a provider said; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Provider(Protocol):
    """One way out. `post` never raises for what the provider or the network did. Several threads call it.

    `at_once` is how many calls may be under way in one worker; as many are unknown if it dies.
    """

    name: str
    at_once: int

    def trouble(self) -> str | None:
        """Why it can't be used at the moment, asked before requests are written down; renews access where it must."""

    def pack(self, outgoing: Sequence[Outgoing], envelope: Envelope, most: int) -> Iterator[Parcel]:
        """Calls of at most `most` messages each, in any order; one each where the provider takes no more."""

    def post(self, parcel: Parcel) -> Result: ...

    def close(self) -> None: ...


# The connection was not made, or the request was not well-formed: the body can't have left.
_NEVER_LEFT = (
    NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.SSLError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.LocationValueError,
    ValueError,
)


def _host(url: str) -> str:
    try:
        return str(urllib3.util.parse_url(url).host)
    except urllib3.exceptions.LocationParseError:
        return "the provider"


class Client:
    """One shared pool of kept connections, without hidden retries or redirects."""

    def __init__(self) -> None:
        timeout = urllib3.Timeout(connect=5.0, read=20.0)
        self._pool = urllib3.PoolManager(maxsize=32, timeout=timeout, retries=False)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer | Result:
        """POST JSON once: the answer, or what its absence means.

        Where the connection could not be made the body never left: retry. Where it broke later the provider may have
        taken the message: unknown.
        """
        try:
            answer = self._pool.request(
                "POST", url, body=body, headers={"Content-Type": "application/json", **headers}, redirect=False
            )
        except _NEVER_LEFT as e:  # nothing is quoted: an address or a key could be in it
            stop = f"{_host(url)} can't be reached ({type(e).__name__}). Is its address right, is it up?"
            return Result("retry", f"no_connection:{type(e).__name__}", stop=stop)
        except HTTPError as e:
            return Result("unknown", f"no_answer:{type(e).__name__}")
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data)

    def close(self) -> None:
        self._pool.clear()


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
