"""The sandbox answers as the providers' documentation says; the cases are in tests/contracts/sandbox_cases.yaml."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from controltower.sandbox import credentials
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.sandbox import NOW, SCOPE, Running, wall

CASES: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[1] / "contracts" / "sandbox_cases.yaml").read_text(encoding="utf-8")
)
PUSH = {"message": {"token": "tok-1", "notification": {"title": "Hi", "body": "There"}}}


def _cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in CASES[name]]


@pytest.mark.parametrize("case", _cases("sendgrid"))
def test_sendgrid(shared: Running, case: dict[str, Any]) -> None:
    before = shared.http.get("/api/summary").json()["requests"]
    headers = {"Authorization": f"Bearer {shared.api_key}", "Content-Type": "application/json"}
    answer = _send(shared, case, case.get("path", "/v3/mail/send"), shared.mail(), headers)
    assert answer.status_code == case["status"], answer.text
    stored = shared.http.get("/api/summary").json()["requests"] - before
    assert stored == (1 if case["status"] == 202 else 0)
    if case["status"] in (200, 202):
        assert answer.headers["X-Message-Id"] and answer.content == b""
    if case["status"] >= 400:
        errors = answer.json()["errors"]
        assert all(set(e) == {"message", "field", "help"} for e in errors)
        assert any(e["field"] == case.get("field") and case.get("message", "") in e["message"] for e in errors), errors


@pytest.mark.parametrize("case", _cases("fcm"))
def test_fcm(shared: Running, case: dict[str, Any]) -> None:
    token = shared.access_token(case.get("scope", SCOPE))
    path = case.get("path", f"/v1/projects/{credentials.PROJECT}/messages:send")
    before = shared.http.get("/api/summary").json()["pushes"]
    answer = _send(shared, case, path, PUSH, {"Authorization": f"Bearer {token}"})
    assert answer.status_code == case["status"], answer.text
    stored = shared.http.get("/api/summary").json()["pushes"] - before
    if case["status"] == 200:
        assert answer.json()["name"].startswith(f"projects/{credentials.PROJECT}/messages/")
        assert stored == (0 if "validate_only" in case.get("set", {}) else 1)
        return
    assert stored == 0
    error = answer.json()["error"]
    assert (error["code"], error["status"]) == (case["status"], case["code"])
    assert case.get("message", "") in error["message"]
    details = error.get("details", [])
    if "error" in case:
        assert case["error"] in [d.get("errorCode") for d in details]
    if "field" in case:
        assert case["field"] in [v["field"] for d in details for v in d.get("fieldViolations", [])]


@pytest.mark.parametrize("case", _cases("oauth"))
def test_oauth(shared: Running, case: dict[str, Any]) -> None:
    claims = dict(case.get("claims", {}))
    if claims.get("aud") == "$token_uri":
        claims["aud"] = shared.account["token_uri"]
    now = wall()
    claims = {k: now + v if isinstance(v, int) else v for k, v in claims.items()}
    answer = shared.token(key=_other_key() if "key" in case else None, grant=case.get("grant"), **claims)
    assert answer.status_code == case["status"], answer.text
    if case["status"] == 200:
        assert set(answer.json()) == {"access_token", "expires_in", "token_type"}
    else:
        assert answer.json()["error"] == case["error"]


def test_every_case_is_documented() -> None:
    assert len(CASES["sendgrid"]) >= 40
    assert len(CASES["fcm"]) >= 15
    for group in ("sendgrid", "fcm", "oauth"):
        names = [case["name"] for case in CASES[group]]
        assert len(names) == len(set(names))
        assert all(case["doc"].startswith("https://") for case in CASES[group])


def _send(shared: Running, case: dict[str, Any], path: str, good: dict[str, Any], headers: dict[str, str]) -> Any:
    headers = {k: v for k, v in (headers | case.get("headers", {})).items() if v is not None}
    body = _grown(case.get("raw")) or json.dumps(_changed(good, case), ensure_ascii=False)
    return shared.http.request(case.get("method", "POST"), path, content=body.encode(), headers=headers)


def _changed(good: dict[str, Any], case: dict[str, Any]) -> Any:
    body = copy.deepcopy(good)
    for path in case.get("drop", []):
        parent, last = _at(body, path)
        del parent[last]
    for path, value in case.get("set", {}).items():
        parent, last = _at(body, path)
        parent[last] = _grown(value)
    return body


def _at(body: Any, path: str) -> tuple[Any, Any]:
    *way, last = [int(p) if p.isdecimal() else p for p in path.split(".")]
    for step in way:
        body = body[step]
    return body, last


def _grown(value: Any, n: int = 0) -> Any:
    """A case's value with its $repeat, $list and $after carried out."""
    if isinstance(value, dict):
        if "$repeat" in value:
            return value["$repeat"] * value["times"]
        if "$list" in value:
            return [_grown(value["$list"], i) for i in range(value["times"])]
        if "$after" in value:
            return int(NOW.timestamp()) + value["$after"]
        return {k: _grown(v, n) for k, v in value.items()}
    if isinstance(value, list):
        return [_grown(v, n) for v in value]
    return value.replace("{n}", str(n)) if isinstance(value, str) else value


def _other_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
