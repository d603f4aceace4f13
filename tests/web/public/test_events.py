"""What a shop's systems post of behaviour: stored before it is answered, in the lake once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.data.lake import Lake
from controltower.jobs import events as job
from controltower.jobs.retention import keep_to_retention
from controltower.ledger import event_bodies
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import event_bodies as table
from controltower.settings import Settings
from controltower.web.public import events
from controltower.web.public.app import create_app
from delivery.conftest import NOW, write_shop
from starlette.testclient import TestClient

PATH, KEY, OLD = "/v1/events", "a key of the shop's backend", "the key before that one"
EVENT = {"event_id": "e1", "occurred_at": "2026-06-15T00:00:00Z", "event_name": "view_item", "visitor_id": "v1"}

# What the lake and its rules decide, whatever the database of the ledger.
ON_ONE_DATABASE = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)


@pytest.fixture
def conf(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CONTROLTOWER_EVENTS_API_KEYS", f"{KEY},{OLD}")
    clock.set_clock(ledger_settings, NOW, speed=0)
    write_shop(ledger_settings)
    return Settings(home=ledger_settings.home, database_url=ledger_settings.database_url)


@pytest.fixture
def http(conf: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(conf)) as client:
        yield client


def post(http: TestClient, told: Any, key: str = KEY) -> httpx.Response:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return http.post(PATH, content=body, headers={"Authorization": f"Bearer {key}"})


def in_lake(conf: Settings) -> list[str]:
    with Lake(conf).read() as lake:
        return sorted(lake.arrow(lake.table("events"))["event_id"].to_pylist())


def stored(conf: Settings) -> int:
    with reading(conf) as ledger:
        return ledger.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_what_is_posted_is_stored_once_and_brought_into_the_lake_once(conf: Settings, http: TestClient) -> None:
    answers = [post(http, [EVENT]), post(http, [EVENT]), post(http, [EVENT, EVENT | {"event_id": "e2"}])]
    assert [(a.status_code, a.json()) for a in answers] == [
        (202, {"body": "stored", "events": 1}),
        (202, {"body": "seen before", "events": 1}),
        (202, {"body": "stored", "events": 2}),
    ]
    report = job.ingest_events()
    assert report == {"bodies": 2, "read": 3, "loaded": 2, "duplicates": 1, "quarantined": 0}
    assert in_lake(conf) == ["e1", "e2"]
    assert job.ingest_events()["read"] == 0
    post(http, [EVENT | {"value": 1}])  # another body, the same event
    assert job.ingest_events()["duplicates"] == 1
    assert in_lake(conf) == ["e1", "e2"]


def test_two_keys_hold_while_one_is_replaced_and_segment_writes_it_as_a_user_name(
    conf: Settings, http: TestClient
) -> None:
    basic = base64.b64encode(f"{OLD}:".encode()).decode()
    answer = http.post(PATH, content=json.dumps([EVENT]), headers={"Authorization": f"Basic {basic}"})
    assert (answer.status_code, post(http, [EVENT]).status_code) == (202, 202)


def test_strangers_and_bodies_of_no_use_are_refused(conf: Settings, http: TestClient) -> None:
    right = {"Authorization": f"Bearer {KEY}"}
    cases: list[tuple[dict[str, str], bytes, int, str]] = [
        ({}, b"[]", 401, "bad_key"),
        ({"Authorization": f"Bearer {KEY}x"}, b"[]", 401, "bad_key"),
        ({"Authorization": f"Token {KEY}"}, b"[]", 401, "bad_key"),
        ({"Authorization": "Basic !"}, b"[]", 401, "bad_key"),
        ({"Authorization": "Bearer"}, b"[]", 401, "bad_key"),
        (right, b"{", 400, "unknown_form"),
        (right, b"\xff", 400, "unknown_form"),
        (right, b'"text"', 400, "unknown_form"),
        (right, b"x" * (events.LARGEST_BODY + 1), 413, "too_large"),
        (right | {"Content-Encoding": "gzip"}, b"[]", 415, "compressed"),
    ]
    for headers, body, status, reason in cases:
        answer = http.post(PATH, content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (status, {"error": reason}), body[:10]
    assert stored(conf) == 0


def test_without_keys_nothing_is_taken(conf: Settings) -> None:
    with TestClient(create_app(conf.model_copy(update={"events_api_keys": None}))) as http:
        answer = post(http, [EVENT], key="")
    assert (answer.status_code, answer.json()) == (403, {"error": "no_keys"})


def test_a_key_that_could_be_guessed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_EVENTS_API_KEYS", f"{KEY},short")
    with pytest.raises(ValueError, match="16 characters or more"):
        Settings()


def test_a_bad_event_is_in_quarantine_and_keeps_no_other_waiting(conf: Settings, http: TestClient) -> None:
    late = {"event_id": "e3", "occurred_at": "2126-01-01T00:00:00Z", "event_name": "view_item"}
    none = late | {"event_id": "e4", "occurred_at": "0001-01-01T00:00:00+09:00"}
    post(http, [EVENT, {"event_id": "e2"}, late, none])
    report = job.ingest_events()
    assert (report["loaded"], report["quarantined"]) == (1, 3)
    assert in_lake(conf) == ["e1"]


def test_a_run_killed_between_lake_and_ledger_is_run_again(
    conf: Settings, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(http, [EVENT])
    with monkeypatch.context() as killed:
        killed.setattr(event_bodies, "close", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            job.ingest_events()
    assert in_lake(conf) == ["e1"]
    post(http, [EVENT | {"event_id": "e2"}])
    report = job.ingest_events()
    assert (report["loaded"], report["duplicates"]) == (1, 1)
    assert in_lake(conf) == ["e1", "e2"]


@ON_ONE_DATABASE
def test_many_small_loads_become_one_that_reads_the_same(
    conf: Settings, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_LOADS", 3)
    lake = Lake(conf)
    for number in range(5):
        day = f"2026-06-{10 + number % 2}T00:00:00Z"
        post(http, [EVENT | {"event_id": f"e{number}", "occurred_at": day}, {"event_id": f"bad{number}"}])
        job.ingest_events()
        assert in_lake(conf) == [f"e{n}" for n in range(number + 1)]
    assert len(lake.intervals("events")) == 2  # four in one, and the fifth
    assert sum(lake.sizes("quarantine").values()) == 5
    clock.set_clock(conf, NOW + timedelta(days=1), speed=0)
    job.ingest_events()
    (first,) = lake.manifest().loads("events").items()  # the day is over, and its files stay as they are
    clock.set_clock(conf, NOW + timedelta(days=91), speed=0)
    for number in range(5, 10):
        post(http, [EVENT | {"event_id": f"e{number}"}, {"event_id": f"bad{number}"}])
        job.ingest_events()
    keep_to_retention()
    assert first in lake.manifest().loads("events").items() and len(lake.intervals("events")) == 3
    assert sum(lake.sizes("quarantine").values()) == 5  # those of the first day are gone, though more came
    assert in_lake(conf) == [f"e{n}" for n in range(10)]
    post(http, [EVENT | {"event_id": "e0", "occurred_at": "2026-06-10T00:00:00Z", "value": 2}])
    assert job.ingest_events()["duplicates"] == 1


def test_what_is_in_the_lake_is_emptied_after_a_month(conf: Settings, http: TestClient) -> None:
    post(http, [EVENT])
    job.ingest_events()
    for days, emptied in ((30, 0), (31, 1)):
        clock.set_clock(conf, NOW + timedelta(days=days), speed=0)
        kept = {row["what"]: row["removed"] for row in keep_to_retention()["kept"]}
        assert kept["event_bodies"] == emptied
    with begin(conf) as ledger:
        assert ledger.execute(sa.select(table.c.body)).scalars().all() == [None]
    assert post(http, [EVENT]).json()["body"] == "seen before"
