"""Taking in what providers post: the signature over the raw body is checked, then the body is stored, unread.

SendGrid signs the timestamp and the body with ECDSA on P-256:
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
It posts again for 24 hours what wasn't answered with 2xx, and doesn't say whether a later try is signed afresh. So the
age allowed (CONTROLTOWER_WEBHOOK_MAX_AGE) is a day and an hour by default: a shorter one could lose a night's events
after an outage. A replay within it does nothing: a body is stored once, and an event is recorded once.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from controltower import clock
from controltower.ledger import webhooks
from controltower.ledger.database import begin
from controltower.settings import Settings

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
LARGEST_BODY = 5_000_000  # bytes; SendGrid's own are below one million
_AHEAD = 300  # seconds that a provider's clock may be before ours

Reason = Literal["no_keys", "no_signature", "bad_signature", "stale"]


class Refused(Exception):
    """A request that is not the provider's, or not of now; nothing of it was kept."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def store(settings: Settings, provider: str, bodies: Sequence[bytes]) -> list[bool]:
    """Store verified bodies, all in one transaction. False: that was done already."""
    with begin(settings) as ledger:
        return webhooks.store(ledger, provider, bodies, clock.now(settings))


def verify(settings: Settings, provider: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raise Refused unless one of our keys signed this body, not too long ago; without a usable key, always."""
    keys = usable_keys(settings) if provider == "sendgrid" else []
    if not keys:
        raise Refused("no_keys")
    given = {name.lower(): value for name, value in headers.items()}
    signature, timestamp = given.get(SIGNATURE), given.get(TIMESTAMP)
    if not signature or not timestamp:
        raise Refused("no_signature")
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or not _signed(keys, signature, timestamp.encode() + body):
        raise Refused("bad_signature")
    if not -_AHEAD <= clock.wall() - int(timestamp) <= settings.webhook_max_age:
        raise Refused("stale")


def usable_keys(settings: Settings) -> list[ec.EllipticCurvePublicKey]:
    """SendGrid's public keys of the settings, without those that are none."""
    return [key for text in settings.webhook_keys if (key := _key(text))]


@lru_cache(maxsize=8)
def _key(text: str) -> ec.EllipticCurvePublicKey | None:
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):  # binascii's error is a ValueError
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) else None


def _signed(keys: list[ec.EllipticCurvePublicKey], signature: str, payload: bytes) -> bool:
    """Whether one of the keys made the signature: two are ours while one takes the other's place."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    for key in keys:
        try:
            key.verify(raw, payload, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return True
    return False
