"""What a provider is to dispatch: it takes one message and says how that ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx

TIMEOUT = httpx.Timeout(20.0, connect=5.0)


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


class Provider(Protocol):
    """One way out. `post` never raises for what the provider or the network did. Several threads call it."""

    name: str
    channel: str

    def post(self, payload: Mapping[str, Any]) -> Result: ...

    def close(self) -> None: ...


def send(
    client: httpx.Client, url: str, payload: Mapping[str, Any], headers: Mapping[str, str]
) -> httpx.Response | Result:
    """POST once, without hidden retries: the answer, or what its absence means.

    Where the connection could not be made the body never left: retry. Where it broke later the provider may have
    taken the message: unknown.
    """
    try:
        return client.post(url, json=payload, headers=dict(headers))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as e:
        where = httpx.URL(url).host
        return Result("retry", f"no_connection:{type(e).__name__}", stop=f"{where} can't be reached. Is it up?")
    except httpx.TransportError as e:
        return Result("unknown", f"no_answer:{type(e).__name__}")


def retry_after(response: httpx.Response) -> float | None:
    """Seconds from a Retry-After header in its numeric form."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None
