"""Signing webhook bodies as SendGrid does: ECDSA on P-256 with SHA-256, over the timestamp followed by the body."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from controltower.feedback import intake
from controltower.settings import Settings
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"


def keypair() -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A new private key, and its public key as SendGrid shows it and CONTROLTOWER_SENDGRID_WEBHOOK_KEYS takes it."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    return private_key, public_text(private_key.public_key())


def public_text(public_key: ec.EllipticCurvePublicKey) -> str:
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def sign(private_key: ec.EllipticCurvePrivateKey, timestamp: int | str, body: bytes) -> dict[str, str]:
    """The headers of a request with this body, signed at a moment in epoch seconds."""
    signature = private_key.sign(str(timestamp).encode() + body, ec.ECDSA(hashes.SHA256()))
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: str(timestamp)}


def receive(settings: Settings, provider: str, headers: Mapping[str, str], body: bytes) -> str:
    """What the public app does with a request: verify it, store its body, say whether it was new."""
    intake.verify(settings, provider, headers, body)
    return "stored" if intake.store(settings, provider, [body])[0] else "seen before"
