"""The script on a shop's page, in a browser: the page's server relays to the public app and adds the key."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import uvicorn
from controltower.data.lake import Lake
from controltower.jobs import events as job
from controltower.models.recommend.published import publish
from controltower.settings import Settings
from controltower.web.public.app import create_app
from delivery.conftest import write_shop
from fastapi import FastAPI, Request, Response
from playwright.sync_api import Browser, Page, expect
from support.browser import chromium
from support.published_shop import IDS, artefacts

KEY = "a key of the shop's"
PARTS = ("image", "title", "price", "reason")
NASTY = '<img src=x onerror="window.hit=1">'
SHOP = """<!doctype html><html lang="en"><title>Shop</title>
<script src="/recommend.js" defer data-api="/recommend" data-product="mug"></script>
<div id="similar" data-recommend="similar" data-k="3"></div>
<div style="height: 3000px"></div>
<div id="cart" data-recommend="cart" data-cart="kettle,cup" data-k="1"></div>
</html>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))  # who calls before the server is up waits in its queue
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def shop(public: str) -> FastAPI:
    """The shop's own server: a page, and what docs/recommendations.md says that nginx does."""
    app = FastAPI()

    @app.get("/")
    def page() -> Response:
        return Response(SHOP, media_type="text/html")

    @app.api_route("/recommend.js")
    def script() -> Response:
        return Response(httpx.get(f"{public}/recommend.js").content, media_type="text/javascript")

    @app.api_route("/recommend/{path}", methods=["GET", "POST"])
    async def relay(path: str, request: Request) -> Response:
        body, headers = await request.body(), {"Authorization": f"Bearer {KEY}"}
        url = f"{public}/v1/page/{path}?{request.url.query}"
        async with httpx.AsyncClient() as http:
            answer = await http.request(request.method, url, content=body, headers=headers)
        return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])

    return app


@pytest.fixture
def page(home: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setenv("CONTROLTOWER_EVENTS_API_KEYS", KEY)
    conf = Settings(home=home)
    write_shop(conf)
    publish(home / "serving", artefacts(products=nasty(artefacts().products)))
    with served(create_app(conf)) as public, served(shop(public)) as url:
        window = browser.new_context()
        made = window.new_page()
        made.goto(url)
        yield made
        window.close()


def nasty(products: pa.Table) -> pa.Table:
    """The shop's products, the cup with a title that is HTML, and an address that is a script."""
    rows = products.to_pylist()
    rows[0] |= {"title": NASTY, "url": "javascript:window.hit=1"}
    rows[IDS.index("tea")]["image_url"] = "http://127.0.0.1:1/gone.jpg"
    return pa.Table.from_pylist(rows, products.schema.append(pa.field("image_url", pa.string())))


def test_a_list_is_shown_as_text_and_its_impression_and_click_are_reported(page: Page, home: Path) -> None:
    items = page.locator("#similar .ct-item")
    expect(items).to_have_count(3)
    expect(items.nth(0).locator(".ct-title")).to_have_text(NASTY)
    expect(items.nth(0).locator("a")).to_have_count(0)  # its address is no web address
    expect(items.nth(1).locator("a")).to_have_attribute("href", "https://shop.example/tea")
    expect(items.nth(1).locator(".ct-price")).to_have_text("€4.00")
    expect(items.nth(1).locator(".ct-reason")).to_have_text("Because you viewed “Mug <b>”")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("sessionStorage.getItem('controltower.recent')") == '["mug"]'
    page.evaluate("document.querySelectorAll('a').forEach(a => a.addEventListener('click', e => e.preventDefault()))")
    with page.expect_response("**/recommend/events") as told:
        items.nth(1).locator("a").click()
    assert told.value.status == 202
    with page.expect_response("**/recommend/events") as told:  # below the fold until now
        page.locator("#cart .ct-item").scroll_into_view_if_needed()
    assert told.value.status == 202
    assert job.ingest_events()["quarantined"] == 0
    with Lake(Settings(home=home)).read() as lake:
        rows = lake.arrow(lake.table("events")).to_pylist()
    found = sorted((r["event_name"], r["list_id"], r["position"], r["product_id"]) for r in rows)
    assert found == [
        ("select_item", "similar", 2, "tea"), ("view_item_list", "cart", 1, "tea"),
        ("view_item_list", "similar", 1, "cup"), ("view_item_list", "similar", 2, "tea"),
        ("view_item_list", "similar", 3, "kettle"),
    ]  # fmt: skip
    assert len({r["visitor_id"] for r in rows}) == 1 and len({r["recommendation_id"] for r in rows}) == 2


def test_without_a_style_of_the_shops_it_fits_a_phone(page: Page) -> None:
    items = page.locator("#similar .ct-item")
    expect(items).to_have_count(3)
    expect(page.locator("#similar span.ct-image")).to_have_count(3)  # none has an image, and one can't be loaded
    page.set_viewport_size({"width": 320, "height": 640})
    page.evaluate("document.querySelector('.ct-title').textContent = 'W'.repeat(99)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    tops = [items.nth(1).locator(f".ct-{name}").evaluate("e => e.getBoundingClientRect().top") for name in PARTS]
    assert tops == sorted(set(tops)), "one below the other"
    page.add_style_tag(content="* { padding: 7px }")
    assert page.locator("#similar ul").evaluate("e => getComputedStyle(e).padding") == "7px", "the shop's rule wins"


def test_the_sessions_clicks_go_with_the_next_request(page: Page) -> None:
    expect(page.locator("#similar .ct-item")).to_have_count(3)
    page.evaluate("ControlTower.viewed('lamp'); document.querySelector('#similar').dataset.recommend = 'for_you'")
    with page.expect_response(lambda r: "placement=for_you" in r.url) as told:  # not an earlier list's
        page.evaluate("ControlTower.show(document.querySelector('#similar'))")
    assert "recent=lamp" in told.value.url and "product=mug" in told.value.url
    expect(page.locator("#similar .ct-item").first.locator(".ct-reason")).not_to_be_empty()
