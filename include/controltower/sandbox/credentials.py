"""The sandbox's own credentials: an API key, a service account and a key that signs its webhooks, once per home.

The product reads them as it reads real ones; only the URLs differ.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from controltower.errors import BadSettings

PROJECT = "control-tower-sandbox"


@dataclass(frozen=True)
class Credentials:
    """What CONTROLTOWER_SENDGRID_API_KEY and CONTROLTOWER_FCM_CREDENTIALS are set to, and the key of the webhooks."""

    api_key: str
    service_account_path: Path
    webhook_key_path: Path

    def service_account(self) -> dict[str, Any]:
        return _read(self.service_account_path)

    def webhook_key(self) -> ec.EllipticCurvePrivateKey:
        """Signs events as SendGrid's own key does: ECDSA on P-256."""
        try:
            key = load_pem_private_key(self.webhook_key_path.read_bytes(), None)
        except ValueError:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadSettings(f"{self.webhook_key_path} is not a private key.", "Delete it: the sandbox makes another.")
        return key

    @property
    def webhook_public_key(self) -> str:
        """What CONTROLTOWER_SENDGRID_WEBHOOK_KEYS is set to: base64 DER, as SendGrid shows its own."""
        der = self.webhook_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()


def make(folder: Path, base_url: str) -> Credentials:
    """The credentials in `folder` (mode 0600), made where absent; the account's token_uri follows `base_url`."""
    folder.mkdir(parents=True, exist_ok=True)
    key, path = folder / "sendgrid.key", folder / "service-account.json"
    if not key.exists():
        _write(key, "SG.sandbox-" + secrets.token_urlsafe(24), new=True)
    if not path.exists():
        _write(path, json.dumps(_account()), new=True)
    account = _read(path)
    token_uri = base_url.rstrip("/") + "/token"
    if account.get("token_uri") != token_uri:
        _write(path, json.dumps(account | {"token_uri": token_uri}, indent=2))
    return Credentials(key.read_text(encoding="utf-8").strip(), path, _webhook_key(folder))


def kept(folder: Path) -> Credentials:
    """The credentials that a sandbox made in `folder`; BadSettings where none did."""
    key = folder / "sendgrid.key"
    if not key.is_file():
        raise BadSettings(
            f"{folder} holds no credentials of a sandbox.", "Run `controltower sandbox` on this home first."
        )
    path = folder / "service-account.json"
    return Credentials(key.read_text(encoding="utf-8").strip(), path, _webhook_key(folder))


def _webhook_key(folder: Path) -> Path:
    """The file of the key that signs webhooks, made where absent."""
    path = folder / "webhook-key.pem"
    if not path.exists():
        private = ec.generate_private_key(ec.SECP256R1())
        _write(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), new=True)
    return path


def _account() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    email = f"firebase-adminsdk@{PROJECT}.iam.gserviceaccount.com"
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": secrets.token_hex(20),
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": email,
        "client_id": str(secrets.randbelow(10**21)),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        account = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        account = None
    if not isinstance(account, dict) or not {"project_id", "private_key", "client_email"} <= account.keys():
        raise BadSettings(f"{path} is not a service account.", "Delete it: the sandbox makes another.")
    return account


def _write(path: Path, text: str, *, new: bool = False) -> None:
    """All at once, readable to the owner only; a `new` file gives way to the one of a process that was first."""
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
    if not new:
        fresh.replace(path)
        return
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
