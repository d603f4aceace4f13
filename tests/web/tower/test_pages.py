"""What the pages show, and that nothing a customer, a template or an address says gets out of its place."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
import yaml
from controltower import clock
from controltower.campaigns.planning import REASONS
from controltower.errors import Anomaly, ControlTowerError
from controltower.jobs import campaigns
from controltower.jobs.campaigns import plan_campaign
from controltower.ledger import plans, providers
from controltower.ledger.database import begin
from controltower.ledger.providers import FOREVER
from controltower.settings import INCLUDE, Settings, load_shop
from controltower.web.tower import desk
from controltower.web.tower.page import locales
from controltower.web.tower.words import schedule
from starlette.testclient import TestClient
from support import scored_shop
from support.visitors import Door

PAGES = ("/", "/campaigns/spring", "/campaigns/spring/preview", "/runs/1", "/runs/1/samples")


def text(page: str) -> str:
    """The words of a page, without its markup."""
    body = re.sub(r"<(script|style|svg).*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_today_shows_runs_campaigns_and_what_is_simulated(tower: TestClient, shop: Settings) -> None:
    assert "Nothing is planned for today yet" in tower.get("/").text
    plan_campaign("spring")
    (shop.campaigns / "torn.yaml").write_text("name: [")
    page = text(tower.get("/").text)
    assert "Spring spring 2026-06-15 scheduled waiting 8 not sent 1 2026-06-15 10:00 KST (Asia/Seoul) Pause" in page
    assert "torn.yaml is not valid YAML" in page
    assert "Starts after the daily scores Last run 2026-06-15" in page
    assert "Made up here: the whole shop" in page


def test_a_run_that_waits_for_approval_leads_to_airflow(tower: TestClient, shop: Settings) -> None:
    scored_shop.write_shop(shop, approve_above=5)
    plan_campaign("spring", trigger_id="manual__2026-06-15T00:00:00+00:00")
    page = tower.get("/").text
    assert "waits for approval" in page
    assert (
        'target="_top" href="/dags/campaign_spring/runs/manual__2026-06-15T00%3A00%3A00%2B00%3A00/required_actions"'
        in page
    )


def test_a_plan_that_failed_is_shown_until_it_is_planned(tower: TestClient, shop: Settings) -> None:
    write_spec_of(shop, "nobody", audience={"rules": [{"column": "orders_total", "at_least": 99}]})
    for _ in range(2):
        with pytest.raises(Anomaly):
            plan_campaign("nobody")
    page = tower.get("/").text
    assert page.count("not planned") == 1
    told = "Spring, 2026-06-15: not planned. 2026-06-15 09:00 KST (Asia/Seoul) Its counts are unusual. nobody isn't"
    assert told in text(page)
    assert "the audience is empty" in text(page) and 'target="_top" href="/dags/campaign_nobody"' in page
    korean = text(tower.get("/", headers={"Accept-Language": "ko"}).text)
    assert "2026-06-15: 계획하지 못했습니다." in korean and "숫자가 평소와 다릅니다. nobody isn't planned" in korean
    write_spec_of(shop, "nobody")
    clock.set_clock(shop, scored_shop.NOW + timedelta(minutes=1), speed=0)
    plan_campaign("nobody")
    assert "not planned" not in tower.get("/").text


def test_what_fails_while_a_plan_stands_is_no_missing_plan(tower: TestClient, shop: Settings) -> None:
    plan_campaign("spring")
    with pytest.raises(ControlTowerError):
        plan_campaign("spring", form={"holdout": 7})
    assert "not planned" not in tower.get("/").text


def test_a_failure_is_shown_to_whoever_may_read_the_campaign(tower: TestClient, shop: Settings, door: Door) -> None:
    write_spec_of(shop, "nobody", audience={"rules": [{"column": "orders_total", "at_least": 99}]})
    with pytest.raises(Anomaly):
        plan_campaign("nobody")
    door.reads = {"spring"}
    assert "not planned" not in tower.get("/").text


def test_a_wrong_name_or_a_rehearsal_is_no_failed_plan(tower: TestClient, shop: Settings) -> None:
    for campaign, occasion in (("autumn", None), ("spring", "someday"), ("spring", "1999-01-01")):
        with pytest.raises(ControlTowerError):
            plan_campaign(campaign, occasion)
    assert "not planned" not in tower.get("/").text


class TimedOut(BaseException):
    """As Airflow's AirflowTaskTimeout."""


@pytest.mark.parametrize("error", [RuntimeError, TimedOut])
def test_what_breaks_unexpectedly_is_kept_without_its_text(
    tower: TestClient, shop: Settings, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error("c1@customers.example")

    monkeypatch.setattr(plans, "freeze", broken)
    with pytest.raises(error):
        plan_campaign("spring")
    page = text(tower.get("/").text)
    assert f"{error.__name__}: the log has more." in page and "customers.example" not in page


@pytest.mark.parametrize(
    ("waits", "why", "clock_is_set", "told"),
    [
        (90.0, "rate_limited", True, {
            "en": r"fcm is paused: nothing leaves through it\. For another (90|89) s\. It asked us to wait, too much",
            "ko": r"발송사 fcm 일시 정지: 이 발송사로는 아무것도 나가지 않습니다\. 앞으로 (90|89)초 동안\."}),
        (7200.0, "no_answer:EOFError", False, {
            "en": r"it\. Until 20\d\d-\d\d-\d\d \d\d:\d\d KST \(Asia/Seoul\)\. Its answer was lost",
            "ko": r"20\d\d-\d\d-\d\d \d\d:\d\d KST \(Asia/Seoul\)까지\. 발송사의 답을 받지 못했습니다"}),
        (FOREVER, "SendGrid refuses our API key or sender (401).", True, {
            "en": r"Until somebody resumes it\. SendGrid refuses our API key or sender \(401\)\.",
            "ko": r"누군가 다시 시작할 때까지\. SendGrid refuses"}),
    ],
)  # fmt: skip
def test_a_paused_provider_is_named_with_the_way_out(
    tower: TestClient, shop: Settings, waits: float, why: str, clock_is_set: bool, told: dict[str, str]
) -> None:
    if not clock_is_set:
        clock.reset(shop)
    with begin(shop) as ledger:
        providers.write(ledger, providers.lock(ledger, "fcm")._replace(waits=waits, why=why))
        providers.write(ledger, providers.lock(ledger, "sendgrid"))
        providers.write(ledger, providers.lock(ledger, "smtp")._replace(waits=waits, why=why))  # which nothing uses
    for language, says in told.items():
        page = text(tower.get("/", headers={"Accept-Language": language}).text)
        assert re.search(says, page), page
        assert "controltower provider resume fcm" in page and "resume sendgrid" not in page and "smtp" not in page
    with begin(shop) as ledger:
        providers.resume(ledger, "fcm", "ann", scored_shop.NOW)
    assert "provider resume" not in tower.get("/").text


def write_spec_of(shop: Settings, name: str, **changes: Any) -> None:
    """A second campaign."""
    spec = scored_shop.SPEC | {"name": name} | changes
    (shop.campaigns / f"{name}.yaml").write_text(yaml.safe_dump(spec))


def test_lists_hold_only_what_the_visitor_may_read(tower: TestClient, shop: Settings, door: Door) -> None:
    plan_campaign("spring")
    door.reads = set()
    page = text(tower.get("/").text)
    assert "Spring" not in page and "There is no campaign that you may see" in page
    assert [tower.get(p).status_code for p in PAGES] == [200, 403, 403, 404, 404]


def test_who_may_only_read_gets_no_buttons(tower: TestClient, shop: Settings, door: Door) -> None:
    plan_campaign("spring")
    assert '<form method="post"' in tower.get("/runs/1").text
    door.triggers = set()
    assert [p for p in PAGES if '<form method="post"' in tower.get(p).text] == []


def test_a_campaign_in_plain_words(tower: TestClient, shop: Settings) -> None:
    shown = tower.get("/campaigns/spring").text
    assert 'href="/dags/test_campaign">Send a test in Airflow<' in shown
    page = text(shown)
    assert "Who orders so far at least 1 the highest probability of an order within 28 days first" in page
    assert "10:00 to 21:00 in the customer's own time" in page
    assert "a 50% A {{ products[0].title }}" in page
    assert "It never ran" in page


def test_a_preview_before_it_runs(tower: TestClient, shop: Settings) -> None:
    page = tower.get("/campaigns/spring/preview").text
    assert page.count('<iframe sandbox="" srcdoc="') == 3
    assert "Audience 9 Messages 8 Held out 0 Gets no message 1" in text(page)
    assert "no consent for any of its channels no_consent 1" in text(page)


@pytest.mark.parametrize(
    ("customer", "outcome"),
    [
        ("c1", '<iframe sandbox=""'),
        ("silent", "gets no message</b>: no consent for any of its channels"),
        ("asleep", "not in the audience"),
        ("fresh", "known, but without features as of now"),
        ("nobody", "there is no such customer"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ],
)
def test_a_preview_for_one_customer(tower: TestClient, shop: Settings, customer: str, outcome: str) -> None:
    page = tower.get("/campaigns/spring/preview", params={"customer": customer}).text
    assert outcome in page
    assert "<script>alert" not in page


def test_a_message_cannot_leave_its_frame(tower: TestClient, shop: Settings) -> None:
    mail = shop.templates / "email" / "win_back.mjml"
    mail.write_text(
        mail.read_text().replace("</mj-body>", '<mj-raw><p title="\'&quot;>">&lt;/iframe></p></mj-raw></mj-body>')
    )
    answer = tower.get("/campaigns/spring/preview")
    frames = re.findall(r'<iframe sandbox="" srcdoc="([^"]*)" title="[^"]*"></iframe>', answer.text)
    assert len(frames) == 3
    assert all('<base target="_blank">' in html.unescape(f) for f in frames)
    assert "allow-same-origin" not in answer.text
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules and "'unsafe-inline'" in rules.split("style-src")[1].split(";")[0]
    assert "unsafe" not in rules.split("script-src")[1].split(";")[0]


def test_a_run_and_its_samples(tower: TestClient, shop: Settings) -> None:
    plan_campaign("spring", asked_by="mia")
    page = text(tower.get("/runs/1").text)
    assert "Planned 2026-06-15 09:00 KST (Asia/Seoul), asked by mia" in page
    assert "From the audience to the order" in page and "Difference to the holdout" in page
    assert "no consent for any of its channels no_consent when planned 1" in page
    assert tower.get("/runs/1/samples").text.count("<iframe") == 3


def test_a_run_can_be_paused_while_its_report_has_to_wait(
    tower: TestClient, shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_campaign("spring")
    monkeypatch.setattr(desk, "PATIENCE", 0.01)
    with tower.app.state.desk.one_at_a_time():  # type: ignore[attr-defined]
        page = text(tower.get("/runs/1").text)
        assert "The report can't be shown now: Other previews and reports are being made." in page
        assert " Pause " in page
        assert tower.get("/campaigns/spring/preview").status_code == 409


@pytest.mark.parametrize(
    ("accepts", "language", "word"),
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko", "오늘의 실행"),
        ("de", "en", "Runs of today"),
        ("en;q=0.5, ko;q=0.7", "ko", "오늘의 실행"),
        ("ko;q=0", "en", "Runs of today"),
        (";;q=x,\u00e9" * 50, "en", "Runs of today"),
    ],
)
def test_the_browsers_language(tower: TestClient, shop: Settings, accepts: str, language: str, word: str) -> None:
    page = tower.get("/", headers={"Accept-Language": accepts.encode("utf-8")}).text
    assert f'<html lang="{language}">' in page and word in page


@pytest.mark.parametrize(
    "path",
    [
        "/runs/99", "/runs/0", "/runs/-1", "/runs/1.5", "/runs/abc", "/runs/99999999999999999999", "/runs/1/nothing",
        "/campaigns/nowhere", "/campaigns/..%2f..%2fetc", "/campaigns/Spring", "/campaigns/a%00b", "/nothing",
        "/campaigns/nowhere/preview", "/runs/7/samples", "/openapi.json", "/docs",
    ],
)  # fmt: skip
def test_a_bad_address_is_a_page_that_says_so(tower: TestClient, shop: Settings, path: str) -> None:
    answer = tower.get(path)
    assert answer.status_code in (404, 405)
    assert "There is nothing here" in answer.text
    assert "Traceback" not in answer.text


def test_bad_parameters(tower: TestClient, shop: Settings) -> None:
    assert tower.get("/campaigns/spring/preview", params={"customer": "x" * 201}).status_code == 400
    assert tower.get("/campaigns/spring/preview", params={"customer": "a\0b"}).status_code == 400
    assert tower.get("/", params={"told": "x.y"}).status_code == 200


def test_what_can_be_mended_is_told_with_its_remedy(tower: TestClient, shop: Settings) -> None:
    (shop.home / "shop.yaml").unlink()
    answer = tower.get("/")
    assert answer.status_code == 409
    assert "There is no shop file at" in answer.text and "controltower ingest" in answer.text
    assert "설정에 잘못이 있습니다. There is no" in tower.get("/", headers={"Accept-Language": "ko"}).text


def test_a_key_that_got_lost_is_told(tower: TestClient, shop: Settings) -> None:
    plan_campaign("spring")
    assert "key is missing" not in tower.get("/").text
    (shop.home / "secret.key").unlink()
    page = tower.get("/")
    assert page.status_code == 200 and "key is missing: nothing is planned or sent" in page.text
    assert "<form" not in page.text and "비밀 키가 없습니다" in tower.get("/", headers={"Accept-Language": "ko"}).text


def test_what_broke_is_told_by_an_id_only(
    tower: TestClient, shop: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = "@".join(("minji", "customers.example"))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(address)

    monkeypatch.setattr(campaigns, "preview_campaign", broken)
    answer = tower.get("/campaigns/spring/preview")
    assert answer.status_code == 500
    found = re.search(r"under ([0-9a-f]{8})\.", answer.text)
    assert found and found[1] in caplog.text
    assert "RuntimeError" in caplog.text and "RuntimeError" not in answer.text
    assert "minji" not in caplog.text + answer.text


def test_every_page_has_a_policy_and_one_script(tower: TestClient, shop: Settings) -> None:
    plan_campaign("spring")
    for path in (*PAGES, "/runs/99"):
        answer = tower.get(path)
        rules = answer.headers["content-security-policy"]
        assert "default-src 'none'" in rules and "frame-ancestors 'self'" in rules and "base-uri 'none'" in rules
        assert answer.text.count("<script") == 1
        assert not re.search(r'\son\w+="|javascript:|alert\(|target="_blank"', answer.text)
        assert answer.headers["cache-control"] == "no-store"


def test_pages_name_no_address_of_a_customer(tower: TestClient, shop: Settings) -> None:
    plan_campaign("spring")
    assert [p for p in PAGES if "@customers.example" in tower.get(p).text] == []


def test_a_korean_reader_gets_korean(tower: TestClient, shop: Settings) -> None:
    """Names, and what a campaign says, are the shop's own; whatever else is in Latin letters was left in English."""
    scored_shop.write_spec(shop, holdout=0, schedule="30 9 * * 1,4")
    plan_campaign("spring")
    tower.headers["accept-language"] = "ko"
    pages = {path: text(tower.get(path).text) for path in (*PAGES[:2], "/runs/1")}
    assert "지금까지의 주문 수 1 이상" in pages["/campaigns/spring"]
    assert "비교군 없음" in pages["/campaigns/spring"]
    assert "월요일, 목요일 09:30 (" in pages["/campaigns/spring"]
    assert "시연용 자료: 상점 전체" in pages["/"] and "상점 시계 기준" in pages["/"]
    for said in ("대상에서 주문까지", "비교군과의 차이", "비교군 없음.", "계획할 때", "지표의 뜻"):
        assert said in pages["/runs/1"]
    ours = {"Airflow", "Control", "Tower", "Spring", "spring", "Asia", "Seoul", "Haru", "marketing", "no_consent"}
    found = {path: set(re.findall(r"[A-Za-z_]{4,}", page)) - ours for path, page in pages.items()}
    assert found["/"] == found["/runs/1"] == set()


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("after_scores", "after the daily scores"),
        ("5 9 * * *", "every day at 09:05 (Asia/Seoul)"),
        ("0 18 * * 0,7", "Sunday, Sunday at 18:00 (Asia/Seoul)"),
        ("0 9 1 * *", "on cron `0 9 1 * *` (Asia/Seoul)"),
        ("0 9 * * MON", "on cron `0 9 * * MON` (Asia/Seoul)"),
    ],
)
def test_a_schedule_in_words(cron: str, words: str, shop: Settings) -> None:
    t = locales().translator(locales().chain("en"))
    assert schedule(cron, load_shop(shop), t) == words


def test_both_languages_have_every_word() -> None:
    texts = locales().texts
    assert texts["en"].keys() == texts["ko"].keys()
    for key, words in texts["en"].items():
        assert sorted(re.findall(r"\{\w+\}", words)) == sorted(re.findall(r"\{\w+\}", texts["ko"][key])), key


def test_every_kind_of_error_has_words() -> None:
    kinds = {kind.__name__ for kind in ControlTowerError.__subclasses__() if kind.__module__ == "controltower.errors"}
    assert kinds == {key.removeprefix("trouble.") for key in locales().texts["ko"] if key.startswith("trouble.")}


def test_every_reason_that_is_written_down_has_words() -> None:
    policy = (INCLUDE / "controltower/delivery/policy.py").read_text()
    found = {*REASONS, *re.findall(r'(?:return|Refusal\()"?"(\w+)"', policy)}
    assert len(found) > len(REASONS) and {r for r in found if f"reason.{r}" not in locales().texts["en"]} <= {"not_now"}
