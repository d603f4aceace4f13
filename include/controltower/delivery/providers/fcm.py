"""Firebase Cloud Messaging, HTTP v1. https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages

firebase-admin builds and checks the message; we post it ourselves, because its client retries without telling.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import google.auth.transport.requests
from firebase_admin import messaging
from firebase_admin._messaging_encoder import MessageEncoder
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account

from controltower.content.message import Push
from controltower.content.push import fit
from controltower.delivery.providers.base import (
    Answer,
    Client,
    Envelope,
    Outgoing,
    Parcel,
    Result,
    encoded,
    retry_after,
)
from controltower.errors import BadSettings
from controltower.settings import Settings, airflow_connection

# Answers that the token itself is at fault. Not `sender_id_mismatch`: then our project may be the wrong one.
DEAD_TOKEN = frozenset({"unregistered", "invalid_token"})
_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


class Fcm:
    """One shared client and one OAuth token, refreshed when it runs out."""

    name = "fcm"
    at_once = 16

    def __init__(self, settings: Settings) -> None:
        account = _service_account(settings)
        try:
            self._credentials = service_account.Credentials.from_service_account_info(account, scopes=[_SCOPE])
            project = account["project_id"]
        except (ValueError, KeyError, TypeError):
            raise BadSettings("FCM's service account file is not valid.", "Download it again from Firebase.") from None
        self._url = f"{settings.fcm_url.rstrip('/')}/v1/projects/{project}/messages:send"
        self._client = Client()
        self._request = functools.partial(google.auth.transport.requests.Request(), timeout=10)

    def trouble(self) -> str | None:
        if not self._credentials.valid:
            try:
                self._credentials.refresh(self._request)
            except GoogleAuthError as e:
                return f"FCM's access token can't be had ({type(e).__name__}). Check CONTROLTOWER_FCM_CREDENTIALS."
        return None

    def pack(self, outgoing: Sequence[Outgoing], envelope: Envelope, most: int) -> Iterator[Parcel]:  # noqa: ARG002
        for one in outgoing:
            yield Parcel((one,), encoded(payload(one, envelope)))

    def post(self, parcel: Parcel) -> Result:
        headers = {"Authorization": f"Bearer {self._credentials.token}"}
        answer = self._client.post(self._url, parcel.body, headers)
        return answer if isinstance(answer, Result) else read_answer(answer)

    def close(self) -> None:
        self._client.close()


def _service_account(settings: Settings) -> dict[str, Any]:
    if settings.fcm_credentials is None:
        connection = airflow_connection("fcm_default") or {}
        account: dict[str, Any] | None = connection.get("extra")
        if not account:
            raise BadSettings(
                "There are no FCM credentials.",
                "Set CONTROLTOWER_FCM_CREDENTIALS to a service account's JSON file, or fill the extra of Airflow's"
                " connection fcm_default with it.",
            )
        return account
    try:
        account = json.loads(settings.fcm_credentials.read_text())
    except (OSError, ValueError):
        account = None
    if not isinstance(account, dict):
        raise BadSettings(
            f"CONTROLTOWER_FCM_CREDENTIALS can't be read: {settings.fcm_credentials}.",
            "It must be a service account's JSON file.",
        )
    return account


def payload(one: Outgoing, envelope: Envelope) -> dict[str, Any]:
    """The request for one device, within FCM's 4096 bytes. The collapse key keeps a repeat from showing twice."""
    push = one.content
    assert isinstance(push, Push)
    message = messaging.Message(
        token=one.to,
        notification=messaging.Notification(title=push.title, body=push.body, image=push.image_url),
        data=push.data | {"url": push.url},
        android=messaging.AndroidConfig(collapse_key=one.message_id, ttl=envelope.expires_in),
        apns=messaging.APNSConfig(headers={"apns-collapse-id": one.message_id}),
        fcm_options=messaging.FCMOptions(analytics_label=envelope.campaign[:50]),
    )
    encoded: dict[str, Any] = json.loads(json.dumps(message, cls=MessageEncoder))
    return fit({"message": encoded})


def read_answer(answer: Answer) -> Result:
    """What FCM's answer means. https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode"""
    status = answer.status
    if status == 200 and (name := _name(answer)):
        return Result("sent", None, status, name)
    code = _error_code(answer)
    if code == "INVALID_ARGUMENT" and _blames_the_token(answer):
        return Result("rejected", "invalid_token", status)
    if code in ("UNREGISTERED", "SENDER_ID_MISMATCH", "INVALID_ARGUMENT"):
        return Result("rejected", code.lower(), status)
    if status in (401, 403):
        stop = f"FCM refuses our credentials ({code}). Check CONTROLTOWER_FCM_CREDENTIALS and the project's id."
        return Result("retry", "unauthorized", status, stop=stop)
    if status in (429, 503):
        return Result("retry", code.lower(), status, retry_in=retry_after(answer))
    if status < 500:
        stop = f"It answered {status}, as FCM's messages:send does not. Check CONTROLTOWER_FCM_URL."
        return Result("retry", f"http_{status}", status, stop=stop)
    return Result("unknown", f"http_{status}", status)


def _name(answer: Answer) -> str | None:
    try:
        return str(answer.json()["name"])
    except (ValueError, KeyError, TypeError):
        return None


def _error_code(answer: Answer) -> str:
    try:
        error = answer.json()["error"]
        details = [d["errorCode"] for d in error.get("details", []) if "errorCode" in d]
        return str(details[0] if details else error["status"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"HTTP_{answer.status}"


def _blames_the_token(answer: Answer) -> bool:
    """Whether an invalid argument is the token; FCM names the field, or says so in its message only."""
    try:
        error = answer.json()["error"]
        fields = [v["field"] for d in error.get("details", []) for v in d.get("fieldViolations", [])]
        return "message.token" in fields or "not a valid FCM registration token" in error["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
