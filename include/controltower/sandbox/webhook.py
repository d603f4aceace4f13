"""SendGrid's Event Webhook: the events of a mail, and how they are signed and posted.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event and
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from controltower import clock

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
TOOK_IT: dict[str, Any] = {"response": "250 2.0.0 OK"}
BAD_ADDRESS: dict[str, Any] = {
    "type": "bounce",
    "status": "5.1.1",
    "reason": "550 5.1.1 The email account that you tried to reach does not exist.",
    "bounce_classification": "Invalid Address",
}
FULL_MAILBOX: dict[str, Any] = {
    "type": "blocked",
    "status": "4.2.2",
    "reason": "452 4.2.2 The email account that you tried to reach is over quota.",
    "bounce_classification": "Mailbox Unavailable",
}
_APPLE = "Mozilla/5.0"  # all that Apple's proxy says of itself
_READER = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"


def event(
    name: str, at: datetime, *, email: str, provider_id: str, position: int, categories: Sequence[str],
    custom_args: dict[str, str], number: int = 0, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One event; its sg_event_id is the same each time that it is made. Times are whole seconds, as SendGrid's are."""
    about = f"{provider_id}/{position}/{name}/{number}"
    return {
        "email": email,
        "timestamp": int(at.timestamp()),
        "smtp-id": f"<{provider_id}@geopod-ismtpd-sandbox>",
        "event": name,
        "category": list(categories),
        "sg_event_id": base64.urlsafe_b64encode(hashlib.sha256(about.encode()).digest()[:16]).decode().rstrip("="),
        "sg_message_id": f"{provider_id}.recvd-sandbox-{position}",
        **custom_args,
        **more,
    }


def opening(machine: bool) -> dict[str, Any]:
    """What an open event adds: the pixel was fetched by a person's mail program, or by their provider's machine."""
    return {"useragent": _APPLE if machine else _READER, "ip": "192.0.2.1", "sg_machine_open": machine,
            "sg_content_type": "html"}  # fmt: skip


def signed(key: ec.EllipticCurvePrivateKey, events: Sequence[dict[str, Any]]) -> tuple[bytes, dict[str, str]]:
    """A batch's body and headers. The signature covers the wall clock's time: its age is checked against that."""
    body = json.dumps(events, separators=(",", ":"), ensure_ascii=False).encode()
    timestamp = str(int(clock.wall()))
    signature = base64.b64encode(key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    return body, {"Content-Type": "application/json", SIGNATURE: signature, TIMESTAMP: timestamp}
