"""Reading a request's body, up to a limit."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

LARGEST_FORM: Final = 16_384  # bytes of what our own pages post


async def read(request: Request, most: int) -> bytes:
    """The body as it came; HTTPException 413 as soon as it is known to have more than `most` bytes."""
    told = request.headers.get("content-length", "")
    if told.isdecimal() and (len(told) > 12 or int(told) > most):
        raise HTTPException(413)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise HTTPException(413)
    except ClientDisconnect:
        raise HTTPException(400) from None
    return bytes(body)
