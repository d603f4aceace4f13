"""What broken sources hold, through the whole dispatcher: the right message, or one refused with its reason.

Beside it: names that are right to left, of 300 characters or like tags, and malformed addresses in tests/delivery/
test_batches.py; each provider by itself in tests/contracts/test_providers.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from controltower import settings
from controltower.content.push import LIMIT
from controltower.data.lake import Lake
from controltower.ledger.database import reading
from controltower.settings import Settings
from support.counterparts import MailServer
from support.lakes import publish_rows
from support.small_shop import rows

from .conftest import CUSTOMERS, NOW, Desk, write_shop

N = len(CUSTOMERS)
KNOWN = NOW - timedelta(days=1)
INJECTED = "c1@customers.example\r\nBcc: evil@elsewhere.example"


def newer(conf: Settings, table: str, *given: dict[str, Any]) -> None:
    publish_rows(Lake(conf), table, "later", rows(table, *({"updated_at": KNOWN} | row for row in given)))


def person(customer: str, **about: str) -> dict[str, Any]:
    return {"customer_id": customer, "email": f"{customer}@customers.example", "country": "KR", "locale": "ko-KR",
            "timezone": "Asia/Seoul", "first_name": "민지"} | about  # fmt: skip


def products(**about: str) -> list[dict[str, Any]]:
    return [
        {"product_id": f"p{n}", "title": f"상품 {n}", "price": Decimal(12300), "currency": "KRW",
         "url": f"https://haru.example/p{n}", "in_stock": True} | about
        for n in range(4)
    ]  # fmt: skip


def ends(desk: Desk) -> dict[str, tuple[str, str | None]]:
    """Where each customer's message ended, and why, of those that weren't accepted."""
    states = sa.text("select customer_id, state, reason from message_states where state <> 'accepted'")
    with reading(desk.settings) as ledger:
        return {c: (state, reason) for c, state, reason in ledger.execute(states)}


def test_a_block_too_large_for_substitutions_goes_out_whole(batching_desk: Desk) -> None:
    """Four links of 3 KB: more than SendGrid takes for one recipient."""
    desk = batching_desk
    page = "https://haru.example/" + "p" * 3000
    newer(desk.settings, "products", *products(title="<b>{{ customer.email }}</b> -x1-", url=page))
    desk.plan()
    report = desk.dispatch()
    assert (report.requests, report.refused, report.trouble) == ({"sent": N}, {}, {})
    assert desk.totals().accepted == {"sendgrid": N}
    for mail in desk.sandbox.http.get("/api/messages").json()["messages"]:
        shown = desk.sandbox.http.get(f"/mail/{mail['id']}/html").text
        assert "&lt;b&gt;{{ customer.email }}&lt;/b&gt; -x1-" in shown and page in shown


def test_a_push_of_five_kilobytes_is_cut_to_what_fcm_takes(desk: Desk) -> None:
    newer(desk.settings, "products", *products(url="https://haru.example/" + "p" * 5000))
    desk.plan("push")
    report = desk.dispatch()
    assert (report.requests, report.trouble) == ({"sent": N}, {})
    assert desk.totals().accepted == {"fcm": N}
    for push in desk.sandbox.http.get("/api/messages").json()["messages"]:
        body = desk.sandbox.http.get(f"/api/requests/{push['request_id']}").content
        assert len(body) <= LIMIT and push["message_id"]


@pytest.mark.parametrize("token", [None, "", "   "])
def test_a_null_token_is_no_device_and_keeps_nobody_from_their_push(desk: Desk, token: str | None) -> None:
    newer(
        desk.settings, "devices",
        {"device_id": "d-c0", "customer_id": "c0", "push_token": token, "platform": "ios", "last_seen_at": KNOWN},
        {"device_id": "another", "customer_id": "c1", "push_token": token, "platform": "ios", "last_seen_at": KNOWN},
    )  # fmt: skip
    desk.plan("push")
    desk.dispatch()
    assert desk.totals().accepted == {"fcm": N - 1}
    assert ends(desk) == {"c0": ("not_sent", "no_device")}


def test_a_token_that_no_header_takes_is_refused_alone(desk: Desk) -> None:
    bad = {"c0": "two words", "c1": "line\r\nbreak", "c2": "é", "c3": "t" * 5000}
    newer(
        desk.settings, "devices",
        *({"device_id": f"d-{c}", "customer_id": c, "push_token": token, "platform": "ios", "last_seen_at": KNOWN}
          for c, token in bad.items()),
    )  # fmt: skip
    desk.plan("push")
    report = desk.dispatch()
    assert report.trouble == {}
    assert desk.totals().accepted == {"fcm": N - len(bad)}
    assert ends(desk) == dict.fromkeys(bad, ("rejected", "invalid_token"))


ADDRESSES = {"c1": INJECTED, "c2": "c2@customers.example, evil@elsewhere.example", "c3": "nobody", "c4": "ö@x.example"}


def test_an_address_cannot_add_a_header_or_a_recipient(batching_desk: Desk) -> None:
    desk = batching_desk
    newer(desk.settings, "customers", *(person(c, email=to) for c, to in ADDRESSES.items()))
    desk.plan()
    report = desk.dispatch()
    assert report.trouble == {}
    assert desk.totals().accepted == {"sendgrid": N - len(ADDRESSES)}
    assert ends(desk) == dict.fromkeys(ADDRESSES, ("rejected", "invalid:to"))
    shown = desk.sandbox.http.get("/api/messages").json()["messages"]
    assert not [m for m in shown if "elsewhere" in m["recipient"]]


@pytest.fixture
def mail_server(tmp_path: Path) -> Iterator[MailServer]:
    with MailServer(tmp_path, tmp_path) as server:
        assert isinstance(server, MailServer)
        yield server


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # on loopback
def test_by_a_mail_server_each_gets_the_right_mail_or_a_reason(
    ledger_settings: Settings, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in mail_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CONTROLTOWER_EMAIL_PROVIDER", "smtp")
    monkeypatch.setenv("CONTROLTOWER_PUBLIC_URL", "https://news.haru-shop.test")
    conf = settings.load()
    write_shop(conf)
    shop = yaml.safe_load(conf.shop_file.read_text(encoding="utf-8"))
    shop["sender"] |= {"email": "hello@haru-shop.test", "name": "하루\r\nBcc: evil@elsewhere.example"}
    conf.shop_file.write_text(yaml.safe_dump(shop))
    names = {
        "c5": "민지\r\nBcc: evil@elsewhere.example",
        "c6": "\u202eمحمد 👩‍👩‍👧",
        "c7": "가" * 300,
        "c8": "{{ customer.email }} %name%",
    }
    newer(
        conf, "customers",
        *(person(c, email=to) for c, to in ADDRESSES.items()), *(person(c, first_name=n) for c, n in names.items()),
    )  # fmt: skip
    desk = Desk(conf, None)  # type: ignore[arg-type]
    desk.plan(campaign="win_back")
    report = desk.dispatch()
    assert report.trouble == {}
    assert desk.totals().accepted == {"smtp": N - len(ADDRESSES)}
    assert ends(desk) == dict.fromkeys(ADDRESSES, ("rejected", "invalid:to"))
    taken = {t.to: t for t in mail_server.taken()}
    assert set(taken) == {(f"{c}@customers.example",) for c in CUSTOMERS if c not in ADDRESSES}
    heads = [t.whole.partition("\n\n")[0].lower() for t in taken.values()]
    assert not [head for head in heads if "\nbcc:" in head or head.count("from:") != 1]
    titles = {c: taken[f"{c}@customers.example",].title for c in names}
    assert titles["c5"].startswith("(광고) 민지 Bcc: evil@elsewhere.example님")
    assert "محمد 👩‍👩‍👧" in titles["c6"] and "\u202e" not in titles["c6"]
    assert titles["c7"].startswith("(광고) 가가가") and len(titles["c7"]) <= 150
    assert titles["c8"].startswith("(광고) {{ customer.email }} %name%님")
