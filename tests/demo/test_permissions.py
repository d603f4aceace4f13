"""Who may do what on the Tower of a running Airflow: each route, for nobody, a viewer and a marketer; forged forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from controltower.web.guards import TOWER
from support.patience import PATIENCE
from support.running_demo import Demo

from demo.tower import Api

pytestmark = [pytest.mark.airflow, pytest.mark.slow]
CAMPAIGN, RUN = "picked_for_you", "1"
PATHS = {"name": CAMPAIGN, "model": "clv", "run_id": RUN, "action": "pause"}
GETS = sorted(path for method, path in TOWER if method == "GET")
# Airflow signs a user's name and role into the token, and asks nothing else of it.
VIEWER = """
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
print(SimpleAuthManager().generate_jwt(SimpleAuthManagerUser(username="viewer", role="viewer")))
"""


@pytest.fixture(scope="module")
def viewer(demo: Demo) -> Iterator[httpx.Client]:
    """Somebody who may look at everything and do nothing."""
    token = demo.shell(f"python -c '{VIEWER}'").splitlines()[-1]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=demo.api.url, headers=headers, timeout=PATIENCE, trust_env=False) as http:
        yield http


@pytest.fixture(scope="module")
def stranger(demo: Demo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.api.url, timeout=PATIENCE, trust_env=False) as http:
        yield http


@pytest.fixture(scope="module")
def waiting_run(demo: Demo) -> Iterator[str]:
    """A run with something left to send, so that its page has buttons."""
    demo.set_clock("2026-06-17T07:00", speed=0)
    demo.api.pause("dispatch_messages", True)
    run_id = demo.api.trigger(f"campaign_{CAMPAIGN}", {"window_start": "20:00", "window_end": "21:00"})
    assert demo.wait(f"campaign_{CAMPAIGN}", run_id) == "success"
    (report,) = demo.api.result(f"campaign_{CAMPAIGN}", run_id, "plan")
    assert report["pending"], report
    yield str(report["run_id"])
    cancel = demo.api.trigger("cancel_campaign", {"campaign": CAMPAIGN})
    assert demo.wait("cancel_campaign", cancel) == "success"
    demo.api.pause("dispatch_messages", False)


def address(path: str, run: str = RUN) -> str:
    return "/tower" + re.sub(r"\{(\w+)\}", lambda m: (PATHS | {"run_id": run})[m[1]], path)


def token_of(user: Api, run: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', user.client.get(f"/tower/runs/{run}").text)
    assert found, "the page has no form"
    return found[1]


@pytest.mark.parametrize("path", GETS)
def test_nobody_sees_anything_before_the_log_in(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(address(path))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/api/v2/auth/login?next=")


@pytest.mark.parametrize("path", GETS)
def test_a_viewer_and_a_marketer_see_it(demo: Demo, viewer: httpx.Client, path: str) -> None:
    for http in (viewer, demo.user("marketer").client):
        assert http.get(address(path)).status_code == 200


def test_a_forged_log_in_is_refused(stranger: httpx.Client, demo: Demo) -> None:
    head, body, _ = demo.api.client.headers["Authorization"].split(".")
    for token in (f"{head}.{body}.AAAA", "Bearer x", "Bearer a.b.c"):
        for path in GETS:
            assert stranger.get(address(path), headers={"Authorization": token}).status_code in (303, 401, 403)


def test_only_our_own_page_changes_a_run(
    demo: Demo, viewer: httpx.Client, stranger: httpx.Client, waiting_run: str
) -> None:
    """Refused: nobody, a viewer, no token, another's token, another run's, a page of elsewhere. Then it isn't."""
    marketer, approver = demo.user("marketer"), demo.user("approver")
    ours = {"Origin": demo.api.url}
    token, theirs = token_of(marketer, waiting_run), token_of(approver, waiting_run)
    before = demo.ledger()
    for action in ("pause", "resume", "cancel"):
        url = address("/runs/{run_id}/", waiting_run) + action
        good = {"token": token}
        refused = [
            (stranger, good, ours, 401),
            (viewer, good, ours, 403),
            (marketer.client, {}, ours, 403),
            (marketer.client, {"token": "x.y"}, ours, 403),
            (marketer.client, {"token": theirs}, ours, 403),
            (marketer.client, good, {}, 403),
            (marketer.client, good, {"Origin": "https://evil.example"}, 403),
            (marketer.client, good, ours | {"Sec-Fetch-Site": "cross-site"}, 403),
            (marketer.client, good, ours | {"Sec-Fetch-Site": "same-site"}, 403),
        ]
        for http, data, headers, status in refused:
            assert http.post(url, data=data, headers=headers).status_code == status, (action, data, headers)
            assert http.get(url).status_code in (303, 404, 405)  # a link or a picture changes nothing
        other = address("/runs/{run_id}/", RUN) + action
        assert marketer.client.post(other, data=good, headers=ours).status_code == 403
    assert demo.ledger() == before
    answer = marketer.client.post(address("/runs/{run_id}/pause", waiting_run), data={"token": token}, headers=ours)
    assert answer.status_code == 303
    assert "Paused" in marketer.client.get(answer.headers["location"]).text


def test_airflow_lets_nobody_and_a_viewer_trigger_nothing(viewer: httpx.Client, stranger: httpx.Client) -> None:
    body = json.dumps({"logical_date": None, "conf": {}})
    headers = {"Content-Type": "application/json"}
    for http, status in ((stranger, 401), (viewer, 403)):
        for dag in (f"campaign_{CAMPAIGN}", "cancel_campaign", "dispatch_messages"):
            assert http.post(f"/api/v2/dags/{dag}/dagRuns", content=body, headers=headers).status_code == status
