"""The mail as a page: what was sent, made again; where that can't be, a page that says why."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest
from controltower.content import templates
from controltower.data.lake import Lake
from controltower.settings import Settings
from controltower.web.public.app import create_app
from delivery.conftest import NOW
from starlette.testclient import TestClient
from support.lakes import publish_rows
from support.small_shop import rows

from web.public.conftest import Public


@pytest.fixture
def ledger_url(home: Path) -> str:
    """SQLite alone: what these pages ask the ledger is asked on both databases by other tests."""
    return f"sqlite:///{home / 'ledger.db'}"


def test_it_shows_the_mail_in_a_sandbox(public: Public) -> None:
    page = public.get("view", public.message())
    assert page.status_code == 200
    assert "민지님" in page.text and "상품 3" in page.text and "12,300원" in page.text
    policy = page.headers["content-security-policy"]
    assert "sandbox" in policy and "allow-scripts" not in policy and "script-src" not in policy
    assert page.headers["x-robots-tag"] == "noindex, nofollow"


def test_its_links_work(public: Public) -> None:
    """Every one of them: products, the shop, unsubscribe, preferences, the page itself."""
    page = public.get("view", public.message()).text
    links = {html.unescape(url) for url in re.findall(r'href="([^"]+)"', page)}
    ours = {url.removeprefix(public.settings.public_url) for url in links if url.startswith(public.settings.public_url)}
    assert {path[1] for path in ours} == set("cupv") and links - {public.settings.public_url + p for p in ours} == set()
    went = {}
    for path in ours:
        answer = public.http.get(path)
        assert answer.status_code == (302 if path[1] == "c" else 200)
        if path[1] == "c":
            went[answer.headers["location"].partition("?")[0]] = None
    assert set(went) == {"https://haru.example", *(f"https://haru.example/p{n}" for n in range(4))}
    noted = {(e.detail["product_id"], e.detail["position"]) for e in public.events()}
    assert noted == {(None, None), *((f"p{n}", n + 1) for n in range(4))}


def test_a_product_without_a_page_leads_to_the_shop(public: Public) -> None:
    product = {"product_id": "p0", "updated_at": NOW, "title": "상품 0", "price": 1, "currency": "KRW",
               "url": "javascript:alert(1)"}  # fmt: skip
    publish_rows(Lake(public.settings), "products", "j", rows("products", product))
    page = html.unescape(public.get("view", public.message()).text)
    assert "javascript" not in page
    assert re.search(r"/c[\w-]{35}\?to=https://haru\.example\?utm_source=[\w%=-]+;p=p0;n=1;s=[\w-]{14}\"", page)


@pytest.mark.parametrize(
    ("channel", "message_id", "status", "words"),
    [("push", None, 404, "웹으로 볼 수 없는"), ("email", "0" * 32, 404, "확인할 수 없는")],
)
def test_what_has_no_page_is_named(
    public: Public, channel: str, message_id: str | None, status: int, words: str
) -> None:
    answer = public.get("view", message_id or public.message(channel=channel))
    assert answer.status_code == status and words in answer.text


def test_a_customer_who_is_gone(public: Public) -> None:
    shutil.rmtree(public.settings.home / "lake")
    answer = public.get("view", public.message())
    assert answer.status_code == 410 and "계정이 더 이상 없습니다" in answer.text
    assert public.unsubscribe(public.message()).status_code == 200  # they can refuse all the same


@pytest.mark.parametrize("damage", ["customers", "manifest"])
@pytest.mark.parametrize(
    ("language", "words"), [("ko", "지금은 메시지를 보여 드릴 수 없습니다"), ("en", "shown just now")]
)
def test_a_lake_that_cannot_be_read(
    public: Public, caplog: pytest.LogCaptureFixture, damage: str, language: str, words: str
) -> None:
    lake = public.settings.home / "lake"
    for file in [lake / "manifest.json"] if damage == "manifest" else (lake / "customers").glob("*.parquet"):
        file.write_bytes(b"broken")
    answer = public.get("view", public.message(), headers={"Accept-Language": language})
    assert answer.status_code == 503 and words in answer.text and answer.headers["retry-after"] == "60"
    assert "the lake can't be read" in caplog.text and "@" not in caplog.text


@pytest.mark.parametrize("damage", ["edited", "gone", "broken"])
def test_a_template_that_changed(public: Public, tmp_path: Path, damage: str) -> None:
    folder = Path(shutil.copytree(public.settings.templates, tmp_path / "templates"))
    design = folder / "email" / "picked_for_you.mjml"
    if damage == "gone":
        design.unlink()
        (folder / "push" / "picked_for_you.yaml").unlink()
    else:
        design.write_text(design.read_text().replace("</mj-body>", "</mj-body> " if damage == "edited" else "{{ x }}"))
    conf = public.settings.model_copy(update={"templates": folder})
    with TestClient(create_app(conf)) as http:
        answer = http.get(public.path("view", public.message()), headers={"Accept-Language": "en"})
    assert answer.status_code == 410 and "Its design has changed" in answer.text
    assert templates.load(Settings(home=tmp_path).templates, "picked_for_you")  # the house's own is whole
