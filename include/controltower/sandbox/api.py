"""The sandbox's own API, for summaries and tests: what it holds, and the faults it is to show."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from controltower.sandbox import faults, rendering
from controltower.sandbox.sandbox import Sandbox


class FaultRequest(BaseModel):
    """`count` requests answer wrongly; `seconds`: how slow, how long silent, or when to try again."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    count: int = Field(default=1, ge=1, le=1_000_000)
    seconds: float = Field(default=1.0, ge=0, le=3600)
    provider: str | None = None

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        if value not in faults.KINDS:
            raise ValueError(f"not one of {', '.join(faults.KINDS)}")
        return value

    @field_validator("provider")
    @classmethod
    def _known_provider(cls, value: str | None) -> str | None:
        if value not in (None, "sendgrid", "fcm"):
            raise ValueError("not one of sendgrid, fcm")
        return value


def router(sandbox: Sandbox) -> APIRouter:
    routes = APIRouter(prefix="/api")
    store = sandbox.store

    @routes.get("/summary")
    def summary() -> dict[str, int]:
        return store.summary()

    @routes.get("/messages")
    def messages(message_id: str | None = None, channel: str | None = None, limit: int = 100, offset: int = 0) -> Any:
        """The newest first; with a message_id each comes with its content as the customer sees it."""
        found, total = store.find(
            message_id=message_id, channel=channel, limit=max(min(limit, 1000), 1), offset=max(offset, 0)
        )
        if message_id:
            found = [row | {"content": _content(sandbox, row)} for row in found]
        return {"total": total, "messages": found}

    @routes.delete("/messages")
    def clear() -> Response:
        store.clear()
        return Response(status_code=204)

    @routes.get("/requests/{key}")
    def whole_request(key: int) -> Response:
        body = store.body(key)
        if body is None:
            return JSONResponse({"error": "There is no such request."}, 404)
        return Response(body, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    @routes.post("/faults")
    async def add_fault(request: Request) -> Response:
        # A page elsewhere can't send this type without asking first, so it can't set faults in a reader's browser.
        if not request.headers.get("content-type", "").startswith("application/json"):
            return JSONResponse({"error": "Send application/json."}, 415)
        try:
            fault = FaultRequest.model_validate_json(await request.body())
        except ValidationError as e:
            first = e.errors()[0]
            return JSONResponse({"error": f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"}, 400)
        store.add_fault(fault.kind, fault.count, fault.seconds, fault.provider)
        return JSONResponse(fault.model_dump(), 201)

    @routes.delete("/faults")
    def clear_faults() -> Response:
        store.clear_faults()
        return Response(status_code=204)

    return routes


def _content(sandbox: Sandbox, row: dict[str, Any]) -> dict[str, Any]:
    request = rendering.parse(sandbox.store.body(row["request_id"]) or b"{}")
    if row["channel"] == "email":
        mail = rendering.mail_as_received(request, row["position"])
        return vars(mail) | {"links": mail.links}
    return vars(rendering.push_as_received(request))
