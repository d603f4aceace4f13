from __future__ import annotations

import re
from typing import Any

import pytest
from support.sandbox import Running

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
HTML = (
    "<html><body><h1>Hi -name-</h1><script>alert(3)</script>"
    '<img src="https://shop.example/a.jpg" alt="A"></body></html>'
)


def _evil_mail() -> dict[str, Any]:
    return {
        "personalizations": [
            {
                "to": [{"email": "mina@example.com", "name": EVIL.replace(",", "")}],
                "substitutions": {"-name-": "미나", "-longer-name-": "x"},
                "custom_args": {"message_id": "m-1", EVIL: EVIL},
                "headers": {"List-Unsubscribe": f"<https://shop.example/u/{EVIL}>"},
            }
        ],
        "from": {"email": "shop@example.com", "name": EVIL},
        "subject": f"-name- {EVIL}",
        "categories": [EVIL],
        "content": [{"type": "text/plain", "value": f"-name- {EVIL}"}, {"type": "text/html", "value": HTML}],
        "attachments": [{"content": "dGVzdA==", "filename": EVIL, "type": "text/plain"}],
    }


def _key(sandbox: Running) -> int:
    return sandbox.http.get("/api/messages").json()["messages"][0]["id"]


def test_nothing_of_a_mail_runs_in_the_pages(sandbox: Running) -> None:
    assert sandbox.send(_evil_mail()).status_code == 202
    for path in ("/", f"/mail/{_key(sandbox)}", "/?q=" + EVIL, "/?channel=" + EVIL):
        page = sandbox.http.get(path)
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "script-src" not in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"


def test_nothing_of_a_push_runs_in_the_pages(sandbox: Running) -> None:
    message = {
        "token": "tok<script>",
        "notification": {"title": EVIL, "body": EVIL, "image": EVIL},
        "data": {EVIL: EVIL, "url": "javascript:alert(1)"},
    }
    assert sandbox.push(message).status_code == 200
    for path in ("/", f"/push/{_key(sandbox)}"):
        page = sandbox.http.get(path).text
        assert "<script" not in page
        assert "<img" not in page
        assert 'href="javascript' not in page


def test_the_mail_itself_is_caged(sandbox: Running) -> None:
    sandbox.send(_evil_mail())
    page = sandbox.http.get(f"/mail/{_key(sandbox)}").text
    cage = "allow-popups allow-popups-to-escape-sandbox"  # for links; no scripts, no forms, no origin
    assert re.search(rf'<iframe src="/mail/\d+/html" sandbox="{cage}" title', page)
    mail = sandbox.http.get(f"/mail/{_key(sandbox)}/html")
    policy = mail.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.endswith(f"; form-action 'none'; frame-ancestors 'self'; sandbox {cage}")
    assert "<h1>Hi 미나</h1>" in mail.text
    assert "https://shop.example/a.jpg" not in mail.text  # drawn, not fetched
    assert 'src="data:image/svg+xml,' in mail.text


def test_a_mail_shows_what_the_customer_gets(sandbox: Running) -> None:
    body = _evil_mail() | {"subject": "Hi -name-", "send_at": 1781507400, "sections": {"-hello-": "Dear -name-"}}
    body["content"][0]["value"] = "-hello-, -longer-name- unchanged-"
    body["personalizations"].append({"to": [{"email": "joon@example.com"}], "substitutions": {"-name-": "준"}})
    assert sandbox.send(body).status_code == 202
    messages = sandbox.http.get("/api/messages").json()["messages"]
    assert {m["title"] for m in messages} == {"Hi 미나", "Hi 준"}
    first = next(m for m in messages if m["recipient"] == "mina@example.com")
    page = sandbox.http.get(f"/mail/{first['id']}").text
    assert "<h1>Hi 미나</h1>" in page
    assert "Dear 미나, x unchanged-" in page
    assert "2026-06-15 07:10:00 UTC" in page
    assert "List-Unsubscribe" in page
    assert "joon@example.com" not in page
    assert "1 other came in the same request" in page
    assert "joon@example.com" in sandbox.http.get(f"/api/requests/{first['request_id']}").text


def test_a_push_in_camel_case_is_shown_as_android_shows_it(sandbox: Running) -> None:
    message = {
        "token": "tok",
        "notification": {"title": "General", "body": "Words"},
        "android": {"collapseKey": "daily", "notification": {"title": "Special", "clickAction": "OPEN"}},
        "data": {"message_id": "m-1", "url": "https://shop.example/p/1"},
    }
    assert sandbox.push(message).status_code == 200
    page = sandbox.http.get(f"/push/{_key(sandbox)}").text
    assert "<h2>Special</h2><p>Words</p>" in page
    assert "General</h2>" not in page
    assert 'Opens <a href="https://shop.example/p/1" target="_blank"' in page
    assert "daily" in page


def test_search_filter_and_pages(sandbox: Running) -> None:
    people = [{"to": [{"email": f"c{i:03}@example.com"}]} for i in range(120)]
    sandbox.send(sandbox.mail(personalizations=people))
    sandbox.push({"token": "tok-1", "notification": {"title": "Push title"}})

    def recipients(**query: Any) -> list[str]:
        return re.findall(r'class="who">([^<]*)<', sandbox.http.get("/", params=query).text)

    assert len(recipients()) == 50
    assert recipients(page=3)[-1] == "c000@example.com"
    assert recipients(channel="push") == ["tok-1"]
    assert recipients(q="c007@") == ["c007@example.com"]
    assert recipients(q="Push title") == ["tok-1"]
    assert "Nothing matches" in sandbox.http.get("/", params={"q": "nobody"}).text
    for page in ("0", "-1", "x", "99999999999999999999", "²"):
        assert sandbox.http.get("/", params={"page": page}).status_code == 200


@pytest.mark.parametrize("path", ["/mail/1", "/push/1", "/mail/1/html", "/nowhere"])
def test_a_missing_page_says_so(sandbox: Running, path: str) -> None:
    page = sandbox.http.get(path)
    assert page.status_code == 404
    assert "There is nothing here" in page.text
