"""What a provider is to dispatch: it takes one message and says how that ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError


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
    """One way out. `post` never raises for what the provider or the network did. Several threads call it."""

    name: str

    def trouble(self) -> str | None:
        """Why it can't be used at the moment, asked before requests are written down; renews access where it must."""

    def post(self, payload: Mapping[str, Any]) -> Result: ...

    def close(self) -> None: ...


class Client:
    """One shared pool of kept connections, without hidden retries or redirects."""

    def __init__(self) -> None:
        timeout = urllib3.Timeout(connect=5.0, read=20.0)
        self._pool = urllib3.PoolManager(maxsize=32, timeout=timeout, retries=False)

    def post(self, url: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Answer | Result:
        """POST once: the answer, or what its absence means.

        Where the connection could not be made the body never left: retry. Where it broke later the provider may have
        taken the message: unknown.
        """
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        try:
            answer = self._pool.request(
                "POST", url, body=body, headers={"Content-Type": "application/json", **headers}, redirect=False
            )
        except (NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as e:
            where = urllib3.util.parse_url(url).host
            return Result("retry", f"no_connection:{type(e).__name__}", stop=f"{where} can't be reached. Is it up?")
        except HTTPError as e:
            return Result("unknown", f"no_answer:{type(e).__name__}")
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data)

    def close(self) -> None:
        self._pool.clear()


def retry_after(answer: Answer) -> float | None:
    """Seconds from a Retry-After header in its numeric form."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
