from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from controltower.errors import BadSettings
from controltower.sandbox import credentials, serve
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from support.patience import PATIENCE

SERVE = """
import sys
from controltower import settings
from controltower.sandbox.serve import serve
def announce(url, made):
    print(url, flush=True)
serve(settings.load(), port=int(sys.argv[1]), announce=announce)
"""


def test_credentials_are_made_once_and_kept(tmp_path: Path) -> None:
    first = credentials.make(tmp_path, "http://127.0.0.1:8025")
    second = credentials.make(tmp_path, "http://127.0.0.1:9000/")
    assert first.api_key == second.api_key
    assert first.api_key.startswith("SG.sandbox-")
    account = second.service_account()
    assert account["token_uri"] == "http://127.0.0.1:9000/token"
    assert account["project_id"] == "control-tower-sandbox"
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == 3
    assert first.webhook_public_key == second.webhook_public_key == credentials.kept(tmp_path).webhook_public_key
    public = load_der_public_key(base64.b64decode(first.webhook_public_key))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"


def test_credentials_that_nobody_made_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"no credentials of a sandbox.*controltower sandbox"):
        credentials.kept(tmp_path)
    made = credentials.make(tmp_path, "http://127.0.0.1:8025")
    made.webhook_key_path.write_text("nothing", encoding="utf-8")
    with pytest.raises(BadSettings, match=r"webhook-key\.pem is not a private key"):
        made.webhook_key()


def test_a_broken_service_account_is_named(tmp_path: Path) -> None:
    (tmp_path / "service-account.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadSettings, match=r"service-account\.json is not a service account"):
        credentials.make(tmp_path, "http://127.0.0.1:8025")


def test_a_busy_port_is_named() -> None:
    listener = serve.bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with pytest.raises(BadSettings, match=f"Port {port} is in use"):
        serve.bind("127.0.0.1", port)
    listener.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_runs_on_a_home_and_stops_cleanly(home: Path, stop: signal.Signals) -> None:
    environment = os.environ | {"CONTROLTOWER_NOW": "2026-06-15T07:00:00+09:00"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        url = process.stdout.readline().strip()
        key = (home / "sandbox" / "sendgrid.key").read_text(encoding="utf-8")
        mail = {
            "personalizations": [{"to": [{"email": "secret-person@example.com"}]}],
            "from": {"email": "shop@example.com"},
            "subject": "Hello",
            "content": [{"type": "text/plain", "value": "Hi"}],
        }
        with httpx.Client(base_url=url, timeout=PATIENCE) as http:
            assert http.post("/v3/mail/send", json=mail, headers={"Authorization": f"Bearer {key}"}).status_code == 202
            assert http.get("/", params={"q": "secret-person@example.com"}).status_code == 200
            received = http.get("/api/messages").json()["messages"][0]["received_at"]
        assert received.startswith("2026-06-14T22:0")  # the home's clock, not the wall's
        account = json.loads((home / "sandbox" / "service-account.json").read_text(encoding="utf-8"))
        assert account["token_uri"] == url + "/token"
    finally:
        process.send_signal(stop)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, -stop)
    assert "secret-person" not in out + err
    assert "Traceback" not in err
