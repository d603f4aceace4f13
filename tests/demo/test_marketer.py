"""A campaign in a browser, from its preview to its report: what marketer, approver and customer see and press.

The tests tell one story on one day, in this order; each leaves the ledger as the next one needs it.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from controltower.ledger import runs
from controltower.ledger.database import reading
from controltower.ledger.tables import approvals, batches, consents, delivery_events, messages
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect
from support.browser import Desk, chromium
from support.patience import PATIENCE
from support.running_demo import Demo

pytestmark = [pytest.mark.airflow, pytest.mark.slow]
CAMPAIGN, DAY = "win_back", "2026-07-01"
DAG = f"campaign_{CAMPAIGN}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def keep(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Page, str], None]:
    """Keep a picture of a page, in the folder that SCREENSHOTS names."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def kept(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return kept


@pytest.fixture(scope="module")
def marketer(demo: Demo, browser: Browser) -> Desk:
    demo.set_clock(f"{DAY}T07:00", speed=0)
    return Desk(browser, demo.api.url, "marketer", demo.password("marketer"))


@pytest.fixture(scope="module")
def approver(demo: Demo, browser: Browser) -> Desk:
    return Desk(browser, demo.api.url, "approver", demo.password("approver"))


def the_run(demo: Demo) -> Any:
    """The day's run of the campaign, as the ledger has it; None before it is planned."""
    with reading(demo.settings) as ledger:
        return runs.current(ledger, CAMPAIGN, DAY)


def dispatch(demo: Demo, moment: str) -> None:
    """Let it be `moment`, and send what is due by then."""
    demo.set_clock(moment, speed=0)
    assert demo.wait("dispatch_messages", demo.api.trigger("dispatch_messages")) == "success"


def test_the_preview_shows_mails_and_writes_nothing(
    demo: Demo, marketer: Desk, keep: Callable[[Page, str], None]
) -> None:
    before = demo.ledger(), demo.caught()
    marketer.page.get_by_role("link", name="Tower", exact=True).click()
    tower = marketer.frame()
    expect(tower.get_by_text("Nothing is planned for today yet.")).to_be_visible()
    tower.locator("li", has_text="Win back").get_by_role("link", name="Preview").click()
    expect(tower.get_by_role("heading", name="Preview: Win back")).to_be_visible()
    mails = tower.locator("article.sample iframe")
    expect(mails).to_have_count(3)
    expect(tower.frame_locator("article.sample iframe >> nth=0").locator("a").first).to_be_visible()
    keep(marketer.page, "preview")
    assert (demo.ledger(), demo.caught()) == before
    assert the_run(demo) is None
    assert all(url.startswith("https://haru.example/") for url in marketer.outside)  # the shop's pictures


def test_a_lowered_threshold_makes_the_run_wait(demo: Demo, marketer: Desk, keep: Callable[[Page, str], None]) -> None:
    page = marketer.page
    marketer.open_tower().locator("li", has_text="Win back").get_by_role("link", name="DAG in Airflow").click()
    page.get_by_role("button", name="Trigger").click()
    form = page.get_by_role("dialog")
    form.get_by_text("승인", exact=True).click()
    field = form.locator("input[name=element_approve_above]")
    field.fill("10")
    field.press("Tab")
    keep(page, "form")
    form.get_by_role("button", name="Trigger").click()
    expect(form).to_be_hidden()
    airflow_run = demo.api.runs(DAG)[0]
    assert airflow_run["triggering_user_name"] == "marketer"
    demo.wait_for_task(DAG, airflow_run["dag_run_id"], "approve", "awaiting_input")
    assert (the_run(demo).hold, the_run(demo).asked_by) == ("approval", "marketer")
    tower = marketer.open_tower()
    expect(tower.get_by_text("waits for approval")).to_be_visible()
    caught = demo.caught()["message_ids"]
    dispatch(demo, f"{DAY}T08:30")
    assert demo.caught()["message_ids"] == caught


def test_who_asked_for_it_cannot_approve(demo: Demo, marketer: Desk) -> None:
    marketer.open_tower().get_by_role("link", name="Approve in Airflow").click()
    with marketer.page.expect_response("**/hitlDetails") as answer:
        marketer.page.get_by_role("button", name="Approve").click()
    assert answer.value.status == 403
    expect(marketer.page.get_by_text("Access Denied").first).to_be_visible()
    run_id = demo.api.runs(DAG)[0]["dag_run_id"]
    path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    for name in ("marketer", "admin"):  # the one is left out, the other isn't among those who may
        user = demo.user(name).client
        assert user.patch(path, json={"chosen_options": ["Approve"], "params_input": {}}).status_code == 403
    assert the_run(demo).hold == "approval"


def test_the_second_person_approves(demo: Demo, approver: Desk, keep: Callable[[Page, str], None]) -> None:
    page = approver.page
    approver.open_tower().get_by_role("link", name="Approve in Airflow").click()
    button = page.get_by_role("button", name="Approve")
    expect(page.get_by_text(re.compile(r"Win back, 2026-07-01: 메시지 [\d,]+건을 보낼까요\?"))).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 1180})
    keep(page, "approval")
    samples = page.get_by_role("link", name="메시지 보기").get_attribute("href") or ""
    assert samples == f"{approver.url}/plugin/tower/tower/runs/{the_run(demo).run_id}/samples"
    with page.expect_response("**/hitlDetails") as answer:
        button.click()
    assert answer.value.ok
    run_id = demo.api.runs(DAG)[0]["dag_run_id"]
    assert demo.wait(DAG, run_id) == "success"
    run = the_run(demo)
    assert (run.state, run.hold) == ("planned", None)
    with reading(demo.settings) as ledger:
        rows = ledger.execute(sa.select(approvals).where(approvals.c.run_id == run.run_id)).all()
    assert [(row.decision, row.decided_by, row.plan_hash) for row in rows] == [("approved", "approver", run.plan_hash)]
    page.goto(samples)
    shown = page.frame_locator("iframe")
    expect(shown.locator("article.sample iframe")).to_have_count(3)


def test_nothing_leaves_while_it_is_paused(demo: Demo, marketer: Desk, keep: Callable[[Page, str], None]) -> None:
    tower = marketer.open_tower()
    caught = demo.caught()["message_ids"]
    tower.get_by_role("button", name="Pause").click()
    expect(tower.get_by_role("status")).to_contain_text("messages wait and nothing leaves until it is resumed")
    assert the_run(demo).hold == "pause"
    dispatch(demo, f"{DAY}T09:30")
    assert demo.caught()["message_ids"] == caught
    marketer.open_tower().get_by_role("button", name="Resume").click()
    expect(tower.get_by_role("status")).to_contain_text("the next dispatch sends what is due")
    dispatch(demo, f"{DAY}T10:30")
    assert demo.caught()["message_ids"] > caught
    expect(marketer.open_tower().locator("tr", has_text=CAMPAIGN)).to_contain_text("accepted")
    keep(marketer.page, "today")


@pytest.fixture(scope="module")
def mail(demo: Demo) -> tuple[str, str]:
    """(message_id, customer_id) of a mail of the day's run whose customer did nothing with it; who reads Korean."""
    m, e = messages.c, delivery_events.c
    with reading(demo.settings) as ledger:
        answered = sa.select(e.message_id).where(e.message_id.is_not(None))
        query = (
            sa.select(m.message_id, m.customer_id)
            .join(batches, batches.c.batch_id == m.batch_id)
            .where(batches.c.run_id == the_run(demo).run_id)
        )
        rows = ledger.execute(query.where(m.message_id.not_in(answered)).order_by(m.seq)).all()
    for message_id, customer_id in rows:
        inbox = httpx.Client(base_url=demo.inbox, timeout=PATIENCE, trust_env=False)
        found = inbox.get("/api/messages", params={"message_id": message_id}).json()
        if found["total"] and '<html lang="ko' in found["messages"][0]["content"]["html"]:
            return message_id, customer_id
    raise AssertionError("no such mail has left")


def noted(demo: Demo, message_id: str) -> list[Any]:
    """What our own pages noted of a message."""
    e = delivery_events.c
    with reading(demo.settings) as ledger:
        query = sa.select(delivery_events).where(e.message_id == message_id, e.provider == "controltower")
        return list(ledger.execute(query.order_by(e.received_at)))


def consents_of(demo: Demo, customer_id: str) -> list[Any]:
    c = consents.c
    with reading(demo.settings) as ledger:
        query = sa.select(consents).where(c.customer_id == customer_id, c.channel == "email", c.purpose == "marketing")
        return list(ledger.execute(query.order_by(c.recorded_at)))


def open_mail(demo: Demo, desk: Desk, message_id: str) -> FrameLocator:
    """Look for the message in the sandbox's inbox, and open it."""
    page = desk.page
    page.goto(demo.inbox)
    page.get_by_role("searchbox").fill(message_id)
    page.get_by_role("button", name="Search").click()
    page.locator(".list a").click()
    return page.frame_locator('iframe[title="The mail"]')


def follow(desk: Desk, link: Locator) -> Page:
    """Click a link of a mail, which opens a tab of its own."""
    with desk.page.expect_popup() as opened:
        link.click()
    return opened.value


def test_a_click_in_the_inbox_leads_to_the_shop(
    demo: Demo, marketer: Desk, mail: tuple[str, str], keep: Callable[[Page, str], None]
) -> None:
    message_id, _ = mail
    shown = open_mail(demo, marketer, message_id)
    product = shown.locator('a[href*=";p="]').first
    address = html.unescape(product.get_attribute("href") or "")
    assert address.startswith(f"{demo.public}/c")
    keep(marketer.page, "mail")
    marketer.outside.clear()
    with marketer.page.context.expect_event("request", lambda asked: asked.url.startswith("https://")) as gone:
        tab = follow(marketer, product)
    landed = gone.value.url
    assert gone.value.redirected_from.url == address
    assert marketer.outside == [landed]
    assert landed.startswith("https://haru.example/")
    assert landed.endswith(f"click_id={message_id}")
    tab.close()
    (event,) = noted(demo, message_id)
    assert (event.event, event.machine) == ("clicked", False)
    assert event.detail["product_id"] == parse_qs(urlsplit(address).query, separator=";")["p"][0]


def test_a_customer_unsubscribes_in_their_language(
    demo: Demo, marketer: Desk, mail: tuple[str, str], keep: Callable[[Page, str], None]
) -> None:
    message_id, customer_id = mail
    before = consents_of(demo, customer_id)
    page = follow(marketer, open_mail(demo, marketer, message_id).get_by_role("link", name="수신거부"))
    assert page.locator("html").get_attribute("lang") == "ko"
    expect(page.get_by_role("heading", name="수신을 거부하시겠어요?")).to_be_visible()
    assert consents_of(demo, customer_id) == before  # looking changes nothing
    address = page.url
    page.get_by_role("button", name="수신거부").click()
    expect(page.get_by_role("heading", name="수신거부가 처리되었습니다")).to_be_visible()
    after = consents_of(demo, customer_id)
    assert [(row.granted, row.source, row.proof) for row in after[len(before) :]] == [
        (False, "unsubscribe", message_id)
    ]
    assert [event.event for event in noted(demo, message_id)] == ["clicked", "unsubscribed"]
    page.goto(address)
    expect(page.get_by_role("button", name="수신거부")).to_have_count(0)
    again = httpx.post(address, data={"List-Unsubscribe": "One-Click"}, timeout=PATIENCE, trust_env=False)
    assert again.status_code == 200
    assert consents_of(demo, customer_id) == after
    assert len(noted(demo, message_id)) == 2
    page.get_by_role("link", name="수신 설정 보기").click()
    expect(page.get_by_role("heading", name="수신 설정", exact=True)).to_be_visible()
    expect(page.locator('input[value="email.marketing"]')).not_to_be_checked()
    page.set_viewport_size({"width": 760, "height": 900})
    keep(page, "preferences")
    page.close()
    preview = marketer.open_tower(f"campaigns/{CAMPAIGN}/preview?customer={customer_id}")
    expect(preview.get_by_text("no consent for any of its channels").first).to_be_visible()


def test_the_report_tells_it(demo: Demo, marketer: Desk, keep: Callable[[Page, str], None]) -> None:
    dispatch(demo, f"{DAY}T11:55")  # of the shop's zone all is sent by now
    demo.set_clock("2026-07-02T12:00", speed=0)
    demo.shell("controltower simulate-answers")
    assert demo.wait("ingest_feedback", demo.api.trigger("ingest_feedback")) == "success"
    run = the_run(demo)
    m, e = messages.c, delivery_events.c
    with reading(demo.settings) as ledger:
        query = sa.select(sa.func.count(sa.distinct(m.message_id))).join(messages, m.message_id == e.message_id)
        query = query.join(batches, batches.c.batch_id == m.batch_id).where(
            batches.c.run_id == run.run_id, e.machine.is_(False)
        )
        counts = {name: ledger.scalar(query.where(e.event == name)) for name in ("opened", "clicked", "unsubscribed")}
    assert counts["clicked"] and counts["unsubscribed"]
    tower = marketer.open_tower(f"runs/{run.run_id}")
    words = " ".join(tower.locator("main").inner_text().split())
    for name, count in counts.items():
        assert f"{name.capitalize()} {count} {count}" in words  # the run's, then its one channel's
    assert "Difference to the holdout" in words
    assert "approved approver" in words
    first = marketer.open_tower("runs/1")
    expect(first.get_by_text("From the audience to the order")).to_be_visible()
    marketer.page.set_viewport_size({"width": 1280, "height": 1500})
    keep(marketer.page, "report")
    assert not [url for url in marketer.outside if not url.startswith("https://haru.example/")]
