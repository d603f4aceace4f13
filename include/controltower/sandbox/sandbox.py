"""What every route of the sandbox shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, NoReturn

from fastapi import Request

from controltower.sandbox.store import Store


@dataclass(frozen=True)
class Sandbox:
    """Its store, the credentials it accepts, its clock, and the zone in which its pages show times.

    `rate` is how many mail/send requests a minute it takes (None: any number).
    """

    store: Store
    api_key: str
    service_account: dict[str, Any] | None
    now: Callable[[], datetime]
    zone: Callable[[], tzinfo]
    rate: int | None = None

    def received_at(self) -> str:
        return self.now().isoformat(timespec="milliseconds")


def bearer(request: Request) -> str:
    """The token of the Authorization header; empty where there is none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def read_body(request: Request, most: int) -> bytes | None:
    """The whole body, or None where it is longer than `most` bytes; read to its end, so that the caller can listen."""
    parts: list[bytes] = []
    length = 0
    async for part in request.stream():
        length += len(part)
        if length <= most:
            parts.append(part)
        else:
            parts.clear()
    return b"".join(parts) if length <= most else None


def parse_json(body: bytes) -> Any:
    """The value of a JSON text; ValueError or RecursionError where it is none, NaN and lone surrogates included."""
    value = json.loads(body, parse_constant=_refuse_constant)
    if b"\\u" in body:
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate can't be encoded: UnicodeEncodeError
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
