"""A scored shop, and its Tower app as one visitor sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from controltower.settings import Settings
from controltower.web.tower.app import create_app
from starlette.testclient import TestClient
from support import scored_shop
from support.visitors import Door

OURS = {"Origin": "http://testserver"}  # what a browser sends with a form of our own page


@pytest.fixture
def shop(ledger_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """One campaign, `spring`, of 8 messages, its ledger on each kind of database; nothing waits for approval."""
    conf = scored_shop.make(ledger_settings.home, monkeypatch)
    scored_shop.write_shop(conf, approve_above=None)
    return conf


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def tower(shop: Settings, door: Door) -> Iterator[TestClient]:
    with TestClient(create_app(shop, door), follow_redirects=False, raise_server_exceptions=False) as http:
        yield http


@pytest.fixture
def press(tower: TestClient) -> Callable[..., str]:
    """press(action, page): the button of a page, as a browser would; gives the page that is shown next."""
    import re

    def pressed(action: str, page: str = "/runs/1") -> str:
        shown = tower.get(page).text
        form = re.search(rf'<form method="post" action="(/runs/\d+/{action})">(.*?)</form>', shown, re.S)
        assert form, f"{page} has no button to {action}"
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[2]))
        answer = tower.post(form[1], data=fields, headers=OURS)
        assert answer.status_code == 303, answer.text
        return tower.get(answer.headers["location"]).text

    return pressed
