from __future__ import annotations

from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from controltower import clock
from controltower.sandbox.credentials import Credentials
from support.patience import PATIENCE, wait_until
from support.sandbox import Running, open_sandbox


def _fault(sandbox: Running, **fault: object) -> None:
    assert sandbox.http.post("/api/faults", json=fault).status_code == 201


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_the_next_requests_fail_and_leave_nothing(sandbox: Running, status: int) -> None:
    _fault(sandbox, kind=str(status), count=2, seconds=3)
    assert [sandbox.send(sandbox.mail()).status_code for _ in range(3)] == [status, status, 202]
    assert sandbox.http.get("/api/summary").json()["mails"] == 1


def test_too_many_requests_tell_when_to_come_back(sandbox: Running) -> None:
    _fault(sandbox, kind="429", count=2, seconds=30)
    headers = sandbox.send(sandbox.mail()).headers
    assert headers["X-RateLimit-Remaining"] == "0"
    assert (
        30 <= int(headers["X-RateLimit-Reset"]) - parsedate_to_datetime(headers["Date"]).timestamp() <= 34
    )  # the Date lags
    answer = sandbox.push({"token": "tok"})
    assert answer.headers["Retry-After"] == "30"
    assert answer.json()["error"]["details"][0]["errorCode"] == "QUOTA_EXCEEDED"


def test_a_fault_can_be_for_one_provider(sandbox: Running) -> None:
    _fault(sandbox, kind="503", provider="fcm")
    assert sandbox.send(sandbox.mail()).status_code == 202
    assert sandbox.push({"token": "tok"}).json()["error"]["status"] == "UNAVAILABLE"
    _fault(sandbox, kind="500", provider="fcm")
    assert sandbox.http.delete("/api/faults").status_code == 204
    assert sandbox.push({"token": "tok"}).status_code == 200


@pytest.mark.parametrize("channel", ["mail", "push"])
def test_a_dropped_answer_was_accepted(sandbox: Running, channel: str) -> None:
    token = sandbox.access_token()
    _fault(sandbox, kind="drop")
    with pytest.raises(httpx.TransportError) as caught:
        sandbox.send(sandbox.mail()) if channel == "mail" else sandbox.push({"token": "tok"}, token)
    assert not isinstance(caught.value, httpx.TimeoutException)
    assert sandbox.http.get("/api/summary").json()["requests"] == 1
    assert sandbox.send(sandbox.mail()).status_code == 202


@pytest.mark.parametrize("channel", ["mail", "push"])
def test_a_server_that_failed_may_have_accepted(sandbox: Running, channel: str) -> None:
    _fault(sandbox, kind="late_500")
    answer = sandbox.send(sandbox.mail()) if channel == "mail" else sandbox.push({"token": "tok"})
    assert answer.status_code == 500
    assert sandbox.http.get("/api/summary").json()["requests"] == 1


def test_a_refused_push_names_no_token(sandbox: Running) -> None:
    _fault(sandbox, kind="400")
    assert sandbox.push({"token": "tok"}).json()["error"]["details"] == [
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"}
    ]


def test_a_silent_provider_accepted_too(sandbox: Running) -> None:
    _fault(sandbox, kind="hang", seconds=60)
    key = {"Authorization": f"Bearer {sandbox.api_key}"}
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.post("/v3/mail/send", json=sandbox.mail(), headers=key, timeout=httpx.Timeout(PATIENCE, read=0.3))
    wait_until(lambda: sandbox.http.get("/api/summary").json()["requests"] == 1, "the request in the inbox")


def test_slow(sandbox: Running) -> None:
    _fault(sandbox, kind="slow", seconds=0.2)
    assert sandbox.send(sandbox.mail()).elapsed.total_seconds() >= 0.2


def test_wrong_faults_are_refused(sandbox: Running) -> None:
    assert "not one of" in sandbox.http.post("/api/faults", json={"kind": "fire"}).json()["error"]
    assert sandbox.http.post("/api/faults", json={"kind": "500", "count": 0}).status_code == 400
    assert sandbox.http.post("/api/faults", content=b'{"kind": "500"}').status_code == 415


def test_a_rate_is_kept(made: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minute = clock.wall() // 60 * 60
    monkeypatch.setattr(clock, "wall", lambda: minute)
    with open_sandbox(made, tmp_path / "inbox.db", rate=2) as sandbox:
        answers = [sandbox.send(sandbox.mail()) for _ in range(3)]
    assert [a.status_code for a in answers] == [202, 202, 429]
    assert [a.headers["X-RateLimit-Remaining"] for a in answers] == ["1", "0", "0"]
    assert answers[2].json() == {"errors": [{"message": "too many requests", "field": None, "help": None}]}
    assert int(answers[2].headers["X-RateLimit-Reset"]) == minute + 60
