"""Every route of an app is in its table, and lets nobody in without what the table says."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from controltower import clock
from controltower.content import customer_tokens, links
from controltower.settings import Settings
from controltower.web import guards
from controltower.web.public.app import create_app
from controltower.web.tower.app import create_app as create_tower
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

Table = Mapping[tuple[str, str], str]
APPS: dict[str, tuple[Callable[[Settings], FastAPI], Table]] = {
    "public": (create_app, guards.PUBLIC),
    "tower": (create_tower, guards.TOWER),  # who gets past its guards: tests/web/tower/test_login.py
}


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """(method, path) of every route that an app answers."""
    assert all(isinstance(route, APIRoute) for route in app.routes), "a mount or a plain route dodges the table"
    return {(method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods}


@pytest.mark.parametrize("name", APPS)
def test_the_table_is_the_apps_routes(name: str, home: Path) -> None:
    make, table = APPS[name]
    assert routes(make(Settings(home=home))) == set(table)


def strangers(settings: Settings, path: str) -> list[str]:
    """The path as one would call it who has no token, a made-up one, or one for something else."""
    if "{token}" not in path:
        return [path]
    key, message_id = settings.signing_key(), uuid.uuid4().hex
    purpose = next(p for p, letter in links.LETTERS.items() if path.startswith(f"/{letter}"))
    others = [links.sign(key, other, message_id) for other in links.LETTERS if other != purpose]
    forged = [links.sign(b"another key", purpose, message_id), "A" * 35, "x", "..%2f..%2fsecret.key"]
    short = [links.sign(key, purpose, message_id)[:-1]]
    return [path.replace("{token}", token) + "?to=https://evil.example" for token in ("", *others, *forged, *short)]


def bearers(settings: Settings) -> list[dict[str, str]]:
    """What one would send as a customer token who has none."""
    key, now = settings.signing_key(), clock.now(settings)
    late = customer_tokens.sign_customer(key, "c0", now - timedelta(seconds=1))
    forged = customer_tokens.sign_customer(b"another key", "c0", now + timedelta(hours=1))
    link = links.sign(key, "view", uuid.uuid4().hex)
    return [{}, *({"Authorization": f"Bearer {token}"} for token in ("", late, forged, link))]


def contents(ledger: Path) -> list[str]:
    with closing(sqlite3.connect(ledger)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize(("method", "path"), [key for key, guard in guards.PUBLIC.items() if guard != "open"])
def test_strangers_get_nothing(method: str, path: str, home: Path, sqlite_ledger: Path) -> None:
    settings = Settings(home=home)
    shutil.copy(sqlite_ledger, home / "ledger.db")
    held = contents(home / "ledger.db")
    with TestClient(create_app(settings), follow_redirects=False) as http:
        for called, headers in itertools.product(strangers(settings, path), bearers(settings)):
            answer = http.request(method, called, headers=headers)
            assert answer.status_code in (401, 403, 404), f"{method} {called}: {answer.status_code}"
            assert "location" not in answer.headers
    assert contents(home / "ledger.db") == held, "a stranger made us write"
