"""Pausing, resuming and cancelling a run from its page, and who can't."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from controltower import clock
from controltower.jobs.campaigns import plan_campaign
from controltower.jobs.control import cancel_campaign
from controltower.ledger import reports, runs
from controltower.ledger.database import begin, reading
from controltower.ledger.tables import campaign_runs
from controltower.settings import Settings
from controltower.web.auth import User
from controltower.web.tower import seals
from controltower.web.tower.standing import MOST, count
from starlette.testclient import TestClient
from support import scored_shop
from support.visitors import Door

from web.tower.conftest import OURS


def standing(conf: Settings, run_id: int = 1) -> str:
    with reading(conf) as ledger:
        run = runs.find(ledger, run_id)
        assert run
        return count(ledger, [run])[0].standing


def told(page: str) -> str:
    found = re.search(r'<p class="told" role="status">(.*?)</p>', page)
    return html.unescape(found[1]) if found else ""


@pytest.fixture
def planned(shop: Settings) -> Settings:
    plan_campaign("spring")
    return shop


def test_pause_and_resume_tell_what_they_did(tower: TestClient, planned: Settings, press: Callable[..., str]) -> None:
    said = told(press("pause"))
    assert said == (
        "spring 2026-06-15: Paused: 8 messages wait and nothing leaves until it is resumed. 0 had left before, 0 are"
        " under way and can't be recalled."
    )
    assert standing(planned) == "paused"
    said = told(press("resume", "/"))
    assert said == (
        "spring 2026-06-15: Resumed: 8 messages wait, and the next dispatch sends what is due. 0 had left before."
    )
    assert standing(planned) == "scheduled"


def test_resuming_a_run_that_waits_for_approval_says_that_it_waits(
    tower: TestClient, shop: Settings, press: Callable[..., str]
) -> None:
    """Paused by a page that was opened before the plan was held back."""
    plan_campaign("spring")
    press("pause")
    page = tower.get("/runs/1").text
    with begin(shop) as ledger:
        ledger.execute(sa.update(campaign_runs).values(hold="approval"))
    form = re.search(r'action="(/runs/1/resume)">.*?name="token" value="([^"]*)"', page, re.S)
    assert form
    answer = tower.post(form[1], data={"token": form[2]}, headers=OURS)
    said = told(tower.get(answer.headers["location"]).text)
    assert said == (
        "spring 2026-06-15: No longer paused, but it waits for approval: nothing of the 8 messages leaves until then."
    )
    assert standing(shop) == "waits_for_approval"


def test_the_page_shows_who_did_what(tower: TestClient, planned: Settings, press: Callable[..., str]) -> None:
    for action in ("pause", "resume", "cancel"):
        page = press(action)
    rows = re.findall(r"<tr><td>(paused|resumed|cancelled)</td><td>(.*?)</td>", page)
    assert rows == [("paused", "mia"), ("resumed", "mia"), ("cancelled", "mia")]


def test_cancel_is_for_good(tower: TestClient, planned: Settings, press: Callable[..., str]) -> None:
    assert "Yes, cancel 8 messages" in tower.get("/runs/1").text
    page = press("cancel")
    assert told(page) == (
        "spring 2026-06-15: Cancelled: 8 messages of this run will never leave. 0 had left before, 0 are under way and"
        " can't be recalled."
    )
    assert standing(planned) == "cancelled"
    assert "<form" not in page
    with reading(planned) as ledger:
        assert reports.totals(ledger, [1])[0].cancelled == 8


def test_a_page_opened_before_the_run_was_cancelled_or_replaced(
    tower: TestClient, planned: Settings, press: Callable[..., str]
) -> None:
    stale = fields(tower)
    scored_shop.write_spec(planned, title="Edited")
    assert plan_campaign("spring")["version"] == 2
    answer = tower.post("/runs/1/cancel", data=stale, headers=OURS)
    assert told(tower.get(answer.headers["location"]).text).endswith("A newer version took its place; nothing changed.")
    assert standing(planned, 2) == "scheduled"
    stale = fields(tower, 2)
    cancel_campaign("spring")
    answer = tower.post("/runs/2/pause", data=stale, headers=OURS)
    assert told(tower.get(answer.headers["location"]).text).endswith("It was cancelled before; nothing changed.")


def fields(tower: TestClient, run_id: int = 1) -> dict[str, str]:
    """What the form of a run's page sends."""
    found = re.search(r'name="token" value="([^"]+)"', tower.get(f"/runs/{run_id}").text)
    assert found
    return {"token": found[1]}


def test_a_form_that_our_page_did_not_send_changes_nothing(
    tower: TestClient, planned: Settings, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = fields(tower)
    key = planned.signing_key()
    bad = {
        "none": ({}, OURS),
        "tampered": ({"token": good["token"][:-1] + ("0" if good["token"][-1] != "0" else "1")}, OURS),
        "not ours": ({"token": "W10.é"}, OURS),
        "another run's": ({"token": seals.seal(key, "7", "run:2")}, OURS),
        "another user's": ({"token": seals.seal(key, "8", "run:1")}, OURS),
        "a notice": ({"token": seals.seal(key, "7", "told")}, OURS),
        "foreign origin": (good, {"Origin": "https://evil.example"}),
        "opaque origin": (good, {"Origin": "null"}),
        "foreign site": (good, OURS | {"Sec-Fetch-Site": "cross-site"}),
        "a neighbour's": (good, OURS | {"Sec-Fetch-Site": "same-site"}),
        "no origin": (good, {}),
    }
    for name, (data, headers) in bad.items():
        answer = tower.post("/runs/1/pause", data=data, headers=headers)
        assert answer.status_code == 403, name
        assert "Nothing was changed" in answer.text, name
    old = clock.wall() + seals.FORM_AGE + 5
    with monkeypatch.context() as later:
        later.setattr(clock, "wall", lambda: old)
        assert tower.post("/runs/1/pause", data=good, headers=OURS).status_code == 403
    assert standing(planned) == "scheduled"
    assert tower.post("/runs/1/pause", data=good, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_who_may_not_trigger_it_may_not_change_it(tower: TestClient, planned: Settings, door: Door) -> None:
    good = fields(tower)
    door.triggers = set()
    for action in ("pause", "resume", "cancel"):
        answer = tower.post(f"/runs/1/{action}", data=good, headers=OURS)
        assert answer.status_code == 403
        assert "You may not do that" in answer.text
    door.reads = set()
    assert tower.post("/runs/1/pause", data=good, headers=OURS).status_code == 404
    door.user = None
    assert tower.post("/runs/1/pause", data=good, headers=OURS).status_code == 401
    assert standing(planned) == "scheduled"


def test_only_these_changes_and_only_by_post(tower: TestClient, planned: Settings) -> None:
    good = fields(tower)
    assert tower.post("/runs/1/delete", data=good, headers=OURS).status_code == 404
    assert tower.post("/runs/99/pause", data=good, headers=OURS).status_code == 404
    assert tower.get("/runs/1/pause").status_code == 405
    assert tower.post("/runs/1", data=good, headers=OURS).status_code == 405
    assert standing(planned) == "scheduled"


def test_a_notice_is_for_who_pressed_the_button(
    tower: TestClient, planned: Settings, door: Door, press: Callable[..., str]
) -> None:
    answer = tower.post("/runs/1/pause", data=fields(tower), headers=OURS)
    shown = answer.headers["location"]
    assert told(tower.get(shown).text)
    door.user = User("8", "ben", None)
    assert told(tower.get(shown).text) == ""


def test_nobody_who_is_not_logged_in_gets_anything(planned: Settings, tower: TestClient, door: Door) -> None:
    door.user = None
    for path in ("/", "/runs/1", "/runs/99", "/campaigns/nowhere", "/style.css", "/icon.svg"):
        answer = tower.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/api/v2/auth/login?next=%2F")


def test_where_a_run_stands(shop: Settings) -> None:
    scored_shop.write_shop(shop, approve_above=5)
    plan_campaign("spring")
    today = scored_shop.NOW.date()
    with reading(shop) as ledger:
        (run,) = runs.of_day(ledger, today, ["spring"], 50)
        assert runs.of_campaign(ledger, "spring", 50) == [run]
        assert runs.last_of_each(ledger) == {"spring": run}
        assert runs.of_day(ledger, today, [], 50) == runs.of_day(ledger, today, ["other"], 50) == []
        assert runs.of_day(ledger, today + timedelta(days=1), ["spring"], 50) == [run]  # it is still to be sent
        assert runs.of_day(ledger, today, ["spring"], 0) == []
        assert count(ledger, []) == []
        (counted,) = count(ledger, [run])
    assert (counted.standing, run.hold, counted.next_due) == ("waits_for_approval", "approval", None)
    assert sum(n for _, n in counted.shares) == counted.totals.audience == 9
    scored_shop.write_spec(shop, title="Edited")
    scored_shop.write_shop(shop, approve_above=None)
    plan_campaign("spring")
    with reading(shop) as ledger:
        both = count(ledger, runs.of_day(ledger, today, ["spring"], 50))
        assert [r.run_id for r in runs.of_day(ledger, today, ["spring"], 1)] == [2]
        assert [r.run_id for r in runs.of_day(ledger, today + timedelta(days=1), ["spring"], 50)] == [2]
    assert [(c.run.version, c.standing) for c in both] == [(2, "scheduled"), (1, "superseded")]
    assert [c.next_due.isoformat() if c.next_due else None for c in both] == ["2026-06-15T01:00:00+00:00", None]


def test_while_a_run_is_held_no_page_names_an_hour(
    tower: TestClient, planned: Settings, press: Callable[..., str]
) -> None:
    shown = "2026-06-15 10:00 KST"
    assert [page for page in ("/", "/campaigns/spring", "/runs/1") if shown not in tower.get(page).text] == []
    press("pause")
    assert [page for page in ("/", "/campaigns/spring", "/runs/1") if shown in tower.get(page).text] == []


def test_a_list_that_is_cut_says_so(tower: TestClient, planned: Settings) -> None:
    assert "newest" not in tower.get("/").text
    with begin(planned) as ledger:
        columns = [c for c in campaign_runs.c if c.name not in ("run_id", "version")]
        old = sa.select(*columns, campaign_runs.c.version).where(campaign_runs.c.run_id == 1)
        row = ledger.execute(old).mappings().one()
        ledger.execute(sa.insert(campaign_runs), [{**row, "version": n} for n in range(2, MOST + 2)])
    for page in ("/", "/campaigns/spring"):
        shown = tower.get(page).text
        assert f"The newest {MOST} are shown." in shown
        assert shown.count('<td class="day">') == MOST and '/runs/1"' not in shown
