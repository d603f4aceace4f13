"""Storing bodies that come at the same time in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.concurrency import run_in_threadpool


class Together:
    """Stores bodies; what comes while a transaction is under way shares the next one.

    Each is answered when it is stored, and all of them wait for one commit instead of one after the other's. Used from
    the event loop only. `store_all` commits some, and says of each whether it was new.
    """

    def __init__(self, store_all: Callable[[Sequence[bytes]], list[bool]]) -> None:
        self._store_all = store_all
        self._waiting: list[tuple[bytes, asyncio.Future[bool]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def store(self, body: bytes) -> str:
        """ "stored", or "seen before" where that was done already; raises what the ledger raised."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, told))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_waiting())
        return "stored" if await told else "seen before"

    async def _store_waiting(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting, []
            try:
                found = await run_in_threadpool(self._store_all, [b for b, _ in some])
            except Exception as e:
                for _, told in some:
                    if not told.done():
                        told.set_exception(e)
            else:
                for (_, told), new in zip(some, found, strict=True):
                    if not told.done():  # who posted it may have gone
                        told.set_result(new)
        self._storing = None
