"""The official clients talk to the sandbox as they talk to the real services: only the URL differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import firebase_admin
import pytest
from controltower.sandbox.credentials import Credentials
from firebase_admin import messaging
from python_http_client.exceptions import BadRequestsError, UnauthorizedError
from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import CustomArg, Mail, Personalization, Substitution, To
from support.sandbox import Running, open_sandbox


def _mail(*customers: str) -> Mail:
    mail = Mail("shop@example.com", subject="For -name-", plain_text_content="Hi -name-", html_content="<p>-name-</p>")
    for i, name in enumerate(customers):
        one = Personalization()
        one.add_to(To(f"{name}@example.com", name))
        one.add_substitution(Substitution("-name-", name))
        one.add_custom_arg(CustomArg("message_id", f"m-{i}"))
        mail.add_personalization(one)
    return mail


def test_sendgrid_client_sends(sandbox: Running) -> None:
    client = SendGridAPIClient(sandbox.api_key, host=sandbox.url)
    answer = client.send(_mail("mina", "joon"))
    assert answer.status_code == 202
    assert answer.headers["X-Message-Id"]
    found = sandbox.http.get("/api/messages", params={"message_id": "m-1"}).json()["messages"]
    assert [m["recipient"] for m in found] == ["joon@example.com"]
    assert found[0]["content"]["subject"] == "For joon"
    assert found[0]["content"]["html"] == "<p>joon</p>"


def test_sendgrid_client_raises_its_own_errors(sandbox: Running) -> None:
    with pytest.raises(UnauthorizedError):
        SendGridAPIClient("SG.wrong", host=sandbox.url).send(_mail("mina"))
    with pytest.raises(BadRequestsError) as caught:
        SendGridAPIClient(sandbox.api_key, host=sandbox.url).send(_mail("not an address"))
    assert caught.value.to_dict["errors"][0]["field"] == "personalizations.0.to.0.email"


@pytest.fixture
def firebase(
    made: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Running, firebase_admin.App]]:
    from controltower.sandbox import credentials, serve

    # The account's token_uri must name the port, as it does when serve() makes it.
    listener = serve.bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    moved = credentials.make(made.service_account_path.parent, f"http://127.0.0.1:{port}")
    with open_sandbox(moved, tmp_path / "inbox.db", port=port) as sandbox:
        monkeypatch.setattr(messaging._MessagingService, "FCM_URL", sandbox.url + "/v1/projects/{0}/messages:send")
        app = firebase_admin.initialize_app(
            firebase_admin.credentials.Certificate(str(sandbox.account_path)), {"httpTimeout": 10}, name="sandbox"
        )
        yield sandbox, app
        firebase_admin.delete_app(app)


def test_firebase_admin_sends(firebase: tuple[Running, firebase_admin.App]) -> None:
    sandbox, app = firebase
    messages = [
        messaging.Message(
            data={"message_id": f"m-{i}", "url": "https://shop.example/p/1"},
            notification=messaging.Notification("Picked for you", "Three things you may like"),
            android=messaging.AndroidConfig(collapse_key="m", ttl=3600, priority="high"),
            token=token,
        )
        for i, token in enumerate(["tok-1", "unregistered-2"])
    ]
    batch = messaging.send_each(messages, app=app)
    assert [r.success for r in batch.responses] == [True, False]
    assert batch.responses[0].message_id.startswith("projects/control-tower-sandbox/messages/")
    assert isinstance(batch.responses[1].exception, messaging.UnregisteredError)
    assert sandbox.http.get("/api/summary").json()["pushes"] == 1
    found = sandbox.http.get("/api/messages", params={"message_id": "m-0"}).json()["messages"]
    assert found[0]["content"]["title"] == "Picked for you"


def test_firebase_admin_dry_run_leaves_nothing(firebase: tuple[Running, firebase_admin.App]) -> None:
    sandbox, app = firebase
    messaging.send(messaging.Message(notification=messaging.Notification("Hi"), token="tok-1"), dry_run=True, app=app)
    assert sandbox.http.get("/api/summary").json()["pushes"] == 0
