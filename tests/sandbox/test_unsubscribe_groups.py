"""The sandbox's unsubscribe groups keep to SendGrid's documented rules."""

from __future__ import annotations

import pytest
from support.sandbox import NOW, Running

PATH = "/v3/asm/groups/7/suppressions"


def key(sandbox: Running) -> dict[str, str]:
    return {"Authorization": f"Bearer {sandbox.api_key}"}


def test_an_address_in_a_group(sandbox: Running) -> None:
    headers, given = key(sandbox), {"recipient_emails": ["Kim@example.com", "lee@example.com"]}
    answer = sandbox.http.post(PATH, json=given, headers=headers)
    assert (answer.status_code, answer.json()) == (201, given)
    assert sandbox.http.get(PATH, headers=headers).json() == ["kim@example.com", "lee@example.com"]
    assert sandbox.http.delete(f"{PATH}/kim@example.com", headers=headers).status_code == 204
    assert sandbox.http.get("/v3/asm/suppressions", headers=headers).json() == [
        {"email": "lee@example.com", "group_id": 7, "group_name": "Group 7", "created_at": int(NOW.timestamp())}
    ]
    assert sandbox.http.get("/v3/asm/groups/7", headers=headers).json()["unsubscribes"] == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/kim@example.com"), ("GET", "/v3/asm/suppressions"),
     ("GET", "/v3/asm/groups/7")],
)  # fmt: skip
def test_another_key_is_refused(sandbox: Running, method: str, path: str) -> None:
    assert sandbox.http.request(method, path, headers={"Authorization": "Bearer SG.other"}).status_code == 401


def test_a_group_that_is_not_there(sandbox: Running) -> None:
    """SendGrid puts what it is to add to one on the global list."""
    headers = key(sandbox)
    assert sandbox.http.get("/v3/asm/groups/1000000", headers=headers).status_code == 404
    path = PATH.replace("7", "1000000")
    added = sandbox.http.post(path, json={"recipient_emails": ["kim@example.com"]}, headers=headers)
    assert added.status_code == 201 and sandbox.http.get(path, headers=headers).json() == []
    assert sandbox.http.get(PATH.replace("7", "0"), headers=headers).json() == ["kim@example.com"]


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"recipient_emails": "a@b.c"}', '{"recipient_emails": [7]}'])
def test_a_body_that_is_no_list_of_addresses(sandbox: Running, body: str) -> None:
    answer = sandbox.http.post(PATH, content=body, headers=key(sandbox))
    assert answer.status_code == 400 and answer.json()["errors"][0]["field"] == "recipient_emails"
