"""What each provider's answers mean for a request."""

from __future__ import annotations

import json

import pytest
from controltower.delivery.providers import fcm, sendgrid
from controltower.delivery.providers.base import Answer


def sendgrid_says(status: int, headers: dict[str, str] | None = None, **body: object) -> sendgrid.Result:
    return sendgrid.read_answer(
        Answer(status, {k.lower(): v for k, v in (headers or {}).items()}, json.dumps(body).encode())
    )


def fcm_says(status: int, code: str = "", error_code: str = "") -> fcm.Result:
    details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": error_code}]
    error = {"code": status, "status": code, "details": details if error_code else []}
    return fcm.read_answer(Answer(status, {}, json.dumps({"error": error}).encode()))


def test_sendgrid_accepts_with_its_message_id() -> None:
    result = sendgrid_says(202, {"X-Message-Id": "abc"})
    assert (result.state, result.provider_message_id) == ("sent", "abc")


@pytest.mark.parametrize(
    ("status", "state"),
    [(400, "rejected"), (413, "rejected"), (401, "retry"), (403, "retry"), (429, "retry"), (503, "retry"),
     (500, "unknown"), (502, "unknown"), (504, "unknown"), (200, "retry"), (302, "retry"), (404, "retry")],
)  # fmt: skip
def test_sendgrids_other_answers(status: int, state: str) -> None:
    result = sendgrid_says(status)
    assert result.state == state
    assert (result.stop is not None) == (status in (401, 403, 200, 302, 404))


def test_sendgrids_fault_is_named_by_field_never_by_its_message() -> None:
    errors = [{"field": "personalizations.0.to", "message": "ann@shop.example is not an address"}]
    assert sendgrid_says(400, errors=errors).reason == "invalid:personalizations.0.to"
    assert sendgrid_says(400).reason == "invalid"


def test_sendgrids_rate_limit_says_when_by_its_own_clock() -> None:
    date = {"Date": "Mon, 15 Jun 2026 00:00:00 GMT", "X-RateLimit-Reset": "1781481620"}
    assert sendgrid_says(429, date).retry_in == 20.0
    assert sendgrid_says(429, {"Retry-After": "7"}).retry_in == 7.0
    assert sendgrid_says(429).retry_in is None


@pytest.mark.parametrize(
    ("status", "code", "error_code", "state", "reason"),
    [
        (404, "NOT_FOUND", "UNREGISTERED", "rejected", "unregistered"),
        (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "rejected", "invalid_argument"),
        (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "rejected", "sender_id_mismatch"),
        (403, "PERMISSION_DENIED", "", "retry", "unauthorized"),
        (401, "UNAUTHENTICATED", "", "retry", "unauthorized"),
        (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "retry", "quota_exceeded"),
        (503, "UNAVAILABLE", "UNAVAILABLE", "retry", "unavailable"),
        (500, "INTERNAL", "INTERNAL", "unknown", "http_500"),
    ],
)
def test_fcms_answers(status: int, code: str, error_code: str, state: str, reason: str) -> None:
    result = fcm_says(status, code, error_code)
    assert (result.state, result.reason) == (state, reason)
    assert (result.stop is not None) == (reason == "unauthorized")


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>log in</html>"), (404, b"not found"), (200, b"{}")])
def test_what_is_not_fcm_is_told_and_nothing_is_lost(status: int, body: bytes) -> None:
    result = fcm.read_answer(Answer(status, {}, body))
    assert result.state == "retry"
    assert result.stop and "CONTROLTOWER_FCM_URL" in result.stop
