"""SendGrid's unsubscribe groups: who is in one, adding and taking off.

https://www.twilio.com/docs/sendgrid/api-reference/suppressions-suppressions. The sandbox has every group whose id is
below 1,000,000. As at SendGrid, what is added to a group that doesn't exist goes on the global list, here group 0. Mail
to an address in a group is still taken, and not dropped.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from controltower.sandbox import faults
from controltower.sandbox.mail import MOST_BYTES, WRONG_KEY, broken, has_key, refuse
from controltower.sandbox.mail_fields import Problem
from controltower.sandbox.sandbox import Sandbox, parse_json, read_body

GLOBAL: Final = 0
_GROUPS: Final = range(1, 1_000_000)


def router(sandbox: Sandbox) -> APIRouter:
    routes = APIRouter(prefix="/v3/asm")
    store = sandbox.store

    @routes.get("/groups/{group_id}")
    def group(request: Request, group_id: int) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        if group_id not in _GROUPS:
            return refuse(404, Problem("resource not found"))
        members = sum(row["group_id"] == group_id for row in store.unsubscribed())
        return JSONResponse({"id": group_id, "name": f"Group {group_id}", "description": "", "unsubscribes": members})

    @routes.get("/suppressions")
    def every(request: Request) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        found = [row for row in store.unsubscribed() if row["group_id"] != GLOBAL]
        return JSONResponse(
            [
                {"email": row["address"], "group_id": row["group_id"], "group_name": f"Group {row['group_id']}",
                 "created_at": row["created_at"]}
                for row in found
            ]
        )  # fmt: skip

    @routes.get("/groups/{group_id}/suppressions")
    def of_group(request: Request, group_id: int) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        return JSONResponse([row["address"] for row in store.unsubscribed() if row["group_id"] == group_id])

    @routes.post("/groups/{group_id}/suppressions")
    async def add(request: Request, group_id: int) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        try:
            addresses = parse_json(await read_body(request, MOST_BYTES) or b"")["recipient_emails"]
        except (ValueError, RecursionError, KeyError, TypeError):
            addresses = None
        if not isinstance(addresses, list) or not all(isinstance(a, str) and "@" in a for a in addresses):
            return refuse(400, Problem("recipient_emails must be a list of addresses", "recipient_emails"))

        async def accept() -> Response:
            wanted = group_id if group_id in _GROUPS else GLOBAL
            now = int(sandbox.now().timestamp())
            await run_in_threadpool(store.unsubscribe, wanted, [a.lower() for a in addresses], now)
            return JSONResponse({"recipient_emails": addresses}, 201)

        fault = await run_in_threadpool(store.take_fault, "sendgrid")
        return await faults.answer(request, fault, accept, broken)

    @routes.delete("/groups/{group_id}/suppressions/{address}")
    def remove(request: Request, group_id: int, address: str) -> Response:
        if not has_key(request, sandbox):
            return refuse(401, WRONG_KEY)
        store.resubscribe(group_id, address.lower())
        return Response(status_code=204)

    return routes
