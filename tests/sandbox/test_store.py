from __future__ import annotations

import stat
import threading
from pathlib import Path

from controltower.sandbox.credentials import Credentials
from controltower.sandbox.store import Entry, Store
from support.sandbox import Running, open_sandbox

EMPTY = {"mails": 0, "pushes": 0, "requests": 0, "message_ids": 0, "duplicates": 0}


def test_summary_counts_mails_pushes_and_what_came_twice(sandbox: Running) -> None:
    two = [{"to": [{"email": f"c{i}@example.com"}], "custom_args": {"message_id": f"m-{i}"}} for i in (1, 2)]
    assert sandbox.send(sandbox.mail(personalizations=two)).status_code == 202
    assert sandbox.push({"token": "tok", "data": {"message_id": "m-3"}}).status_code == 200
    assert sandbox.http.get("/api/summary").json() == {
        "mails": 2, "pushes": 1, "requests": 2, "message_ids": 3, "duplicates": 0
    }  # fmt: skip
    sandbox.send(sandbox.mail(personalizations=two[:1]))
    sandbox.push({"token": "another", "data": {"message_id": "m-3"}})  # the same message to a second device
    assert sandbox.http.get("/api/summary").json() == {
        "mails": 3, "pushes": 2, "requests": 4, "message_ids": 3, "duplicates": 1
    }  # fmt: skip


def test_refused_requests_leave_nothing(sandbox: Running) -> None:
    good = sandbox.mail()
    assert sandbox.send(good | {"subject": ""}).status_code == 400
    assert sandbox.http.get("/api/summary").json() == EMPTY


def test_clear(sandbox: Running) -> None:
    sandbox.send(sandbox.mail())
    assert sandbox.http.delete("/api/messages").status_code == 204
    assert sandbox.http.get("/api/summary").json() == EMPTY


def test_a_restart_keeps_messages_batches_and_tokens(made: Credentials, tmp_path: Path) -> None:
    store = tmp_path / "inbox.db"
    with open_sandbox(made, store) as first:
        first.send(first.mail())
        key = {"Authorization": f"Bearer {first.api_key}"}
        batch = first.http.post("/v3/mail/batch", headers=key).json()["batch_id"]
        token = first.access_token()
    with open_sandbox(made, store) as second:
        assert second.http.get("/api/summary").json()["mails"] == 1
        assert second.http.get(f"/v3/mail/batch/{batch}", headers=key).json() == {"batch_id": batch}
        assert second.send(second.mail(batch_id=batch)).status_code == 202
        assert second.push({"token": "tok"}, token).status_code == 200
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


def test_many_threads_write_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "inbox.db")

    def write(n: int) -> None:
        for i in range(50):
            store.add("email", f"p-{n}-{i}", "2026-06-15T07:00:00+00:00", b"{}", [Entry(0, f"m-{n}-{i}", "a", "b")])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.summary() == {"mails": 200, "pushes": 0, "requests": 200, "message_ids": 200, "duplicates": 0}
    store.close()


def test_search_takes_text_literally(tmp_path: Path) -> None:
    store = Store(tmp_path / "inbox.db")
    entries = [Entry(0, "m-1", "a@example.com", "50% off"), Entry(1, "m-2", "b@example.com", "500 off")]
    store.add("email", "p", "2026-06-15T07:00:00+00:00", b"{}", entries)
    assert [m["message_id"] for m in store.find(text="50%")[0]] == ["m-1"]
    assert store.find(text="example.com", limit=1)[1] == 2
    assert store.find(channel="push")[1] == 0
    store.close()
