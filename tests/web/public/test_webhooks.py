"""What a provider posts is stored only if it is the provider's, of now, and not too large."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.feedback import intake
from controltower.ledger.database import reading
from controltower.ledger.tables import webhook_bodies
from controltower.settings import Settings
from controltower.web.public.app import create_app
from starlette.testclient import TestClient
from support.webhooks import keypair, sign

PATH = "/webhooks/sendgrid"
BODY = json.dumps([{"email": "secret@customers.example", "event": "delivered", "sg_event_id": "e1"}]).encode()
PRIVATE, KEY = keypair()


@pytest.fixture
def conf(ledger_settings: Settings) -> Settings:
    return ledger_settings.model_copy(update={"sendgrid_webhook_keys": KEY})


@pytest.fixture
def http(conf: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(conf)) as client:
        yield client


def now() -> int:
    return int(clock.wall())


def stored(conf: Settings) -> list[bytes]:
    with reading(conf) as ledger:
        return list(ledger.execute(sa.select(webhook_bodies.c.body)).scalars())


def test_a_signed_body_is_stored_once(conf: Settings, http: TestClient) -> None:
    headers = sign(PRIVATE, now(), BODY)
    first, again = (http.post(PATH, content=BODY, headers=headers) for _ in range(2))
    assert (first.status_code, first.json()) == (202, {"body": "stored"})
    assert (again.status_code, again.json()) == (202, {"body": "seen before"})
    assert stored(conf) == [BODY]


def test_what_is_not_the_providers_is_refused(
    conf: Settings, http: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    good, other = sign(PRIVATE, now(), BODY), sign(keypair()[0], now(), BODY)
    cases = [
        ({}, BODY, 401, "no_signature"),
        (other, BODY, 401, "bad_signature"),
        (good, BODY[:-1], 401, "bad_signature"),
        (sign(PRIVATE, now() - 10_000_000, BODY), BODY, 403, "stale"),
    ]
    for headers, body, status, reason in cases:
        answer = http.post(PATH, content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (status, {"error": reason})
        assert reason in caplog.text
    assert stored(conf) == []
    assert "secret@" not in caplog.text


def test_without_a_key_nothing_is_taken(conf: Settings) -> None:
    with TestClient(create_app(conf.model_copy(update={"sendgrid_webhook_keys": ""}))) as http:
        answer = http.post(PATH, content=BODY, headers=sign(PRIVATE, now(), BODY))
    assert (answer.status_code, answer.json()) == (403, {"error": "no_keys"})


def test_a_body_beyond_the_limit_is_not_read_to_its_end(
    conf: Settings, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LARGEST_BODY", 1000)
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 500

    told = http.post(PATH, content=b"x" * 1001)
    untold = http.post(PATH, content=endless())
    for answer in (told, untold):
        assert (answer.status_code, answer.json()) == (413, {"error": "too_large"})
    assert stored(conf) == []


def test_other_methods_are_refused(http: TestClient) -> None:
    answer = http.get(PATH)
    assert (answer.status_code, answer.json()) == (405, {"error": "wrong_method"})
