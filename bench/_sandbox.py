"""A sandbox behind TLS, in a process of its own: providers are reached over TLS, and its work must not be counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from controltower.sandbox import credentials
from controltower.sandbox.app import create_app
from controltower.sandbox.serve import bind
from controltower.settings import Settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@contextmanager
def tls_sandbox(home: Path) -> Iterator[Settings]:
    """The settings of a home that sends to it. While it runs, this process trusts its certificate and no other."""
    certificate = make_certificate(home)
    command = [sys.executable, "-m", "bench._sandbox", str(home), str(certificate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        made = credentials.kept(home / "sandbox")
        with trusted(certificate):
            yield Settings(
                home=home, sendgrid_url=url, sendgrid_api_key=made.api_key, fcm_url=url,  # type: ignore[arg-type]
                fcm_credentials=made.service_account_path,
            )  # fmt: skip
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def trusted(certificate: Path) -> Iterator[None]:
    """This process and those it starts trust this certificate and no other."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(certificate)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def make_certificate(home: Path) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = home / "sandbox.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return path


def main(home: Path, certificate: str) -> None:
    listener = bind("127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    made = credentials.make(home / "sandbox", url)
    app = create_app(home / "sandbox" / "inbox.db", made.api_key, made.service_account(), now=lambda: datetime.now(UTC))
    print(url, flush=True)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ssl_certfile=certificate, timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
