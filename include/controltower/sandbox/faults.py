"""Faults on purpose, for tests of delivery: refusals, too many requests, server errors, late and lost answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from controltower.sandbox.store import Fault

STATUSES = ("400", "429", "500", "503")
KINDS = (*STATUSES, "late_500", "slow", "hang", "drop", "reset")
_TRANSPORT = "controltower.transport"


class CuttableProtocol(HttpToolsProtocol):
    """Hands the connection to the app, which can then cut it without an answer: ASGI itself has no way to."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {_TRANSPORT: self.transport}
        self.scope["extensions"] = extensions


async def answer(
    request: Request,
    fault: Fault | None,
    accept: Callable[[], Awaitable[Response]],
    refuse: Callable[[int, float], Response],
) -> Response:
    """The answer that `fault` leaves.

    `slow`, `hang`, `drop` and `late_500` take the request, and the caller learns it late or never: `hang` stays silent
    for `fault.seconds` or until the caller gives up, `drop` cuts the connection, `late_500` says that it failed.
    `reset` cuts it without having taken it.
    """
    if fault is None:
        return await accept()
    if fault.kind in STATUSES:
        return refuse(int(fault.kind), fault.seconds)
    if fault.kind == "late_500":
        await accept()
        return refuse(500, fault.seconds)
    if fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
        return await accept()
    response = await accept() if fault.kind != "reset" else Response(status_code=503)
    if fault.kind in ("drop", "reset"):
        request.scope["extensions"][_TRANSPORT].abort()
    try:
        await asyncio.wait_for(_gone(request), fault.seconds)
    except TimeoutError:
        return response
    return response  # to nobody: the connection is closed


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
