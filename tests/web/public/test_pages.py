"""What all pages share: headers, language, errors that say what to do."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from controltower.content.customer_tokens import sign_customer
from controltower.content.links import LETTERS
from controltower.ledger.database import opened
from controltower.ledger.tables import metadata
from controltower.settings import Settings
from controltower.web.public import app as public_app
from controltower.web.public.page import PAGES
from starlette.testclient import TestClient

from web.public.conftest import NOW, Public

LOCALES = Path(public_app.__file__).parent / "locales"
ENGLISH = {"Accept-Language": "fr;q=0.9, en-GB;q=0.8, ko;q=0.1"}


@pytest.fixture
def ledger_url(home: Path) -> str:
    """SQLite alone: what these pages ask the ledger is asked on both databases by other tests."""
    return f"sqlite:///{home / 'ledger.db'}"


def test_every_page_is_closed_to_the_outside(public: Public) -> None:
    message_id = public.message()
    pages = [
        public.get("unsubscribe", message_id), public.unsubscribe(message_id), public.get("preferences", message_id),
        public.stop(message_id), public.http.get("/nothing"), public.http.put("/health"),
    ]  # fmt: skip
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "script" not in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-robots-tag"] == "noindex, nofollow"
        assert page.headers["cache-control"] == "no-store"
        assert "<script" not in page.text and " style=" not in page.text
        assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", page.text)


def test_pages_speak_the_customers_language(public: Public) -> None:
    korean, english = (
        public.get("preferences", public.message()).text,
        public.get("preferences", public.message("c1")).text,
    )
    assert '<html lang="ko">' in korean and "수신 설정" in korean
    assert '<html lang="en">' in english and "What you want to get" in english


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [("GET", "/nothing/here", 404, "There is no such page"), ("GET", "/u" + "A" * 35, 404, "This link is not valid"),
     ("DELETE", "/style.css", 405, "be done here"), ("GET", "/v%00", 404, "This link is not valid")],
)  # fmt: skip
def test_errors_are_pages_in_the_browsers_language(
    public: Public, method: str, path: str, status: int, words: str
) -> None:
    answer = public.http.request(method, path, headers=ENGLISH)
    assert answer.status_code == status and words in answer.text and "하루상점 Haru" in answer.text
    assert '<html lang="ko">' in public.http.request(method, path, headers={"Accept-Language": "ko-KR,en"}).text
    style = re.search(r'rel="stylesheet" href="([^"]+)"', answer.text)
    assert style and style[1] == "../" * (path.count("/") - 1) + "style.css"


def test_a_broken_ledger_is_told_and_asked_again(public: Public, caplog: pytest.LogCaptureFixture) -> None:
    metadata.drop_all(opened(public.settings))
    for answer in (public.unsubscribe(public.message()), public.get("preferences", public.message(), headers=ENGLISH)):
        assert answer.status_code == 503 and answer.headers["retry-after"] == "60"
    assert "We can&#39;t do this just now" in answer.text
    assert public.message() not in caplog.text and "select" not in caplog.text.lower()


def test_a_ledger_that_is_away(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = Settings(home=home, database_url="postgresql+psycopg://nobody@127.0.0.1:9/none")  # type: ignore[arg-type]
    with TestClient(public_app.create_app(away)) as http:
        assert http.get("/style.css").status_code == 200
        answer = http.get("/health")
    assert answer.status_code == 503 and answer.json() == {"error": "unavailable"}


def test_a_file_that_cannot_be_read_is_told(public: Public) -> None:
    path = public.path("unsubscribe", public.message())
    key = public.settings.home / "secret.key"
    key.unlink()
    key.mkdir()
    answer = public.http.post(path, headers=ENGLISH)
    assert answer.status_code == 503 and "Nothing was changed" in answer.text
    key.rmdir()
    assert public.consents() == []


def test_without_its_key_it_is_unwell(public: Public) -> None:
    (public.settings.home / "secret.key").unlink()
    assert public.http.get("/health").status_code == 503


def test_with_another_homes_key_no_link_is_called_wrong(public: Public) -> None:
    """A mailbox program that hears of an outage tries again; after "not found" the customer stays subscribed."""
    message_id, token = public.message(), sign_customer(public.settings.signing_key(), "c0", NOW + timedelta(hours=1))
    paths = [public.path(purpose, message_id) for purpose in LETTERS]

    def answers() -> set[int]:
        asked = [public.http.get(path) for path in paths] + [public.http.post(path) for path in paths[:2]]
        return {a.status_code for a in (*asked, public.http.get("/v1/in-app", headers=bearer))}

    bearer = {"Authorization": f"Bearer {token}"}
    key = public.settings.home / "secret.key"
    kept = key.read_text()
    key.write_text("another home's secret key")
    assert answers() == {503} and public.http.get("/health").status_code == 503
    key.write_text(kept)
    assert 503 not in answers()


@pytest.mark.parametrize("damage", ["broken", "gone"])
def test_without_the_shops_file_one_can_leave_but_not_agree(public: Public, damage: str) -> None:
    """What was written down is answered as done; a consent isn't taken that names nobody."""
    file = public.settings.shop_file
    file.write_text("name: [") if damage == "broken" else file.unlink()
    message_id = public.message()
    asked = public.get("unsubscribe", message_id, headers=ENGLISH)
    assert asked.status_code == 200 and "Do you want to unsubscribe?" in asked.text and public.consents() == []
    done = public.unsubscribe(message_id)
    assert done.status_code == 200 and "You are unsubscribed" in done.text and "June 15, 2026, 03:00 (UTC)" in done.text
    assert {r.customer_id for r in public.consents()} == {"c0", "c0-old"}

    theirs = public.message("c2")
    page = public.get("preferences", theirs, headers={"Accept-Language": "ko"})
    assert page.status_code == 200 and "수신 설정" in page.text
    refused = public.choose(theirs, ("email.marketing", "push.night_marketing"), ("email.marketing",))
    assert refused.status_code == 503 and "Nothing was changed" in refused.text and refused.headers["retry-after"]
    assert not {r.customer_id for r in public.consents()} & {"c2"}
    assert public.choose(theirs, (), ("email.marketing",)).status_code == 200 and "c2" not in public.granted("email")
    assert public.stop(theirs).status_code == 200 and "c2" not in public.granted("push")


def test_health_and_a_home_without_a_shop(home: Path) -> None:
    with TestClient(public_app.create_app(Settings(home=home))) as http:
        assert http.get("/health").json() == {"ledger": "ok"}
        assert "There is no such page" in http.get("/x").text


def test_making_the_app_does_nothing(home: Path) -> None:
    shutil.rmtree(home)
    public_app.create_app(Settings(home=home))
    assert not home.exists()


def test_both_languages_have_every_text() -> None:
    def keys(node: object, prefix: str = "") -> set[str]:
        if isinstance(node, dict):
            return {key for name, inner in node.items() for key in keys(inner, f"{prefix}{name}.")}
        return {prefix}

    korean, english = (keys(yaml.safe_load((LOCALES / f"{name}.yaml").read_text())) for name in ("ko", "en"))
    assert korean == english
    assert not re.search(r"url\(|@import", (PAGES / "style.css").read_text())
