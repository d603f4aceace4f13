"""Firebase Cloud Messaging, HTTP v1. https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages

firebase-admin builds and checks the message, once for each shape that a batch's pushes have; we fill it in and post it
ourselves, because its client retries without telling.
"""

from __future__ import annotations

import functools
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import google.auth.transport.requests
import orjson
from firebase_admin import messaging
from firebase_admin._messaging_encoder import MessageEncoder
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account

from controltower import clock
from controltower.content.message import Push
from controltower.content.push import LIMIT, fit
from controltower.delivery.policy import is_local
from controltower.delivery.providers.base import (
    UNAUTHORIZED,
    Answer,
    Envelope,
    Outgoing,
    Parcel,
    Result,
    Unfit,
    encoded,
    one_each,
    retry_after,
)
from controltower.delivery.providers.client import Client
from controltower.errors import BadSettings
from controltower.settings import Settings, airflow_connection

_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_DEAD = "dead_token"  # why a token that is at fault itself is suppressed
_WAIT = 60.0  # seconds: what FCM asks for where a quota is used up and it gives no time of its own
_TOKEN = re.compile(r"[!-~]{1,4096}")
_FID = re.compile(r"[cdef][\w-]{21}", re.ASCII)  # an installation's id, which is to follow the registration token
_HOLE = "\0hole:"  # no value that firebase-admin puts in holds it
_HOLES = re.compile(rb'"(?:https://)?\\u0000hole:(\w+)"')  # it wants a link to begin so


class Fcm:
    """One shared client and one OAuth token, refreshed when it runs out."""

    name = "fcm"
    channel = "push"
    calls_at_once = 64
    splits = False
    checks = True

    def __init__(self, settings: Settings) -> None:
        account = _service_account(settings)
        try:
            self._credentials = service_account.Credentials.from_service_account_info(account, scopes=[_SCOPE])
            project = account["project_id"]
            self.secret = str(account["private_key"])
        except (ValueError, KeyError, TypeError):
            raise BadSettings("FCM's service account file is not valid.", "Download it again from Firebase.") from None
        self.local = is_local(settings.fcm_url)
        self._settings = settings
        self._client = Client(f"{settings.fcm_url.rstrip('/')}/v1/projects/{project}/messages:send")
        self._request = functools.partial(google.auth.transport.requests.Request(), timeout=10)

    def trouble(self) -> str | None:
        if not self._credentials.valid:
            try:
                self._credentials.refresh(self._request)
            except GoogleAuthError as e:
                return f"FCM's access token can't be had ({type(e).__name__}). Check CONTROLTOWER_FCM_CREDENTIALS."
        return None

    def pack(self, outgoing: Sequence[Outgoing], envelope: Envelope, most: int) -> Iterator[Parcel]:  # noqa: ARG002
        return one_each(outgoing, Encoder(envelope, clock.now(self._settings)))

    def post(self, parcel: Parcel) -> Result:
        headers = {"Authorization": f"Bearer {self._credentials.token}"}
        answer = self._client.post(parcel.body, headers)
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


class _Shape(NamedTuple):
    """What requests of the same form have in common."""

    by_fid: bool
    image: bool
    link: bool
    data: tuple[str, ...]


class Encoder:
    """Makes the request for one device, within FCM's 4096 bytes, for the pushes of one batch."""

    def __init__(self, envelope: Envelope, now: datetime) -> None:
        self._envelope = envelope
        self._lasts = max(envelope.expires_in, timedelta(0))
        self._ends = int((now + self._lasts).timestamp())
        self._forms: dict[_Shape, list[bytes | str]] = {}

    def __call__(self, one: Outgoing) -> bytes:
        push = one.content
        assert isinstance(push, Push)
        if not _TOKEN.fullmatch(one.to):
            raise Unfit("invalid_token", _DEAD)
        # `url` notes the click and leads on; `click_id` is what the app's own events name, if it opens the page itself.
        # A test has none: what the app tells of it is to count for nobody.
        data = push.data | {"url": push.url} | ({} if self._envelope.test else {"click_id": one.message_id})
        values = {"to": one.to, "id": one.message_id, "title": push.title, "body": push.body, "url": push.url}
        values |= {f"data{n}": text for n, text in enumerate(data.values())}
        if push.image_url:
            values["image"] = push.image_url
        by_fid, link = _FID.fullmatch(one.to) is not None, push.url.startswith("https://")
        shape = _Shape(by_fid, "image" in values, link, tuple(data))
        form = self._forms.get(shape) or self._forms.setdefault(shape, self._form(shape))
        body = b"".join([part if isinstance(part, bytes) else encoded(values[part]) for part in form])
        return body if len(body) <= LIMIT else encoded(fit(orjson.loads(body)))

    def _form(self, shape: _Shape) -> list[bytes | str]:
        """The encoded request, cut where something of the push comes in: bytes, and names of values.

        The collapse keys keep a repeat from showing twice, on the way and on the device.
        """
        picture = _hole("image") if shape.image else None
        key, lasts = _hole("id"), str(int(self._lasts.total_seconds()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of `token`: apps are on their way to `fid`
            message = messaging.Message(
                **{"fid" if shape.by_fid else "token": _hole("to")},
                notification=messaging.Notification(_hole("title"), _hole("body"), picture),
                data={name: _hole(f"data{n}") for n, name in enumerate(shape.data)},
                android=messaging.AndroidConfig(
                    collapse_key=key, priority="high", ttl=int(lasts),
                    notification=messaging.AndroidNotification(tag=key),
                ),
                apns=messaging.APNSConfig(
                    headers={"apns-collapse-id": key, "apns-priority": "10", "apns-expiration": str(self._ends)},
                    payload=messaging.APNSPayload(messaging.Aps(mutable_content=shape.image, sound="default")),
                    fcm_options=messaging.APNSFCMOptions(image=picture),
                ),
                webpush=messaging.WebpushConfig(
                    headers={"TTL": lasts, "Urgency": "high", "Topic": key},
                    fcm_options=messaging.WebpushFCMOptions("https://" + _hole("url")) if shape.link else None,
                ),
                fcm_options=messaging.FCMOptions("test" if self._envelope.test else self._envelope.campaign[:50]),
            )  # fmt: skip
            request = {"message": MessageEncoder().default(message)}
        if self._envelope.check_only:
            request["validate_only"] = True
        parts = _HOLES.split(orjson.dumps(request))
        return [part if n % 2 == 0 else part.decode() for n, part in enumerate(parts)]


def _hole(name: str) -> str:
    return _HOLE + name


def read_answer(answer: Answer) -> Result:
    """What FCM's answer means. https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode"""
    status = answer.status
    if status == 200 and (name := _name(answer)):
        return Result("sent", None, status, name)
    code = _error_code(answer)
    if code == "INVALID_ARGUMENT" and _blames_the_token(answer):
        return Result("rejected", "invalid_token", status, of_address=True, suppress=_DEAD)
    if code == "UNREGISTERED":
        return Result("rejected", "unregistered", status, of_address=True, suppress=_DEAD)
    if code in ("SENDER_ID_MISMATCH", "INVALID_ARGUMENT"):  # the first: our project may be the wrong one
        return Result("rejected", code.lower(), status)
    if status in (401, 403):
        stop = f"FCM refuses our credentials ({code}). Check CONTROLTOWER_FCM_CREDENTIALS and the project's id."
        return Result("retry", UNAUTHORIZED, status, stop=stop)
    if status in (429, 503):
        wait = retry_after(answer) or (_WAIT if status == 429 else None)
        return Result("retry", code.lower(), status, retry_in=wait)
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
        return (
            bool({"message.token", "message.fid"} & {*fields})
            or "not a valid FCM registration token" in error["message"]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


PROVIDER = Fcm
