"""A run's messages for one customer: links that lead where they say, split e-mails as good as whole ones."""

from __future__ import annotations

import html
import re
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from controltower.campaigns import specs
from controltower.campaigns.composing import CatalogueItem, Composer
from controltower.content.links import verify_click
from controltower.content.message import SplitEmail
from controltower.profiles.contacts import Contact
from controltower.settings import INCLUDE, Settings, parse_shop
from controltower.shop import Shop
from pydantic import SecretStr

MESSAGE = "0123456789abcdef" * 2
ITEMS = {
    "p1": CatalogueItem("p1", "First & best", Decimal("1.5"), "GBP", "https://shop.example/p1?a=1#top", None),
    "p2": CatalogueItem("p2", "No page", Decimal("2"), "GBP", None, "https://shop.example/p2.jpg"),
    "p3": CatalogueItem("p3", "상품", Decimal("3"), "GBP", "https://shop.example/상품?utm_source=own", None),
}
PICKS = [{"product_id": p, "reason": "popular", "value": None} for p in ("p1", "gone", "p2", "p3")]


@pytest.fixture
def shop() -> Shop:
    return parse_shop(INCLUDE / "shops" / "online-retail.yaml").model_copy(update={"url": "https://shop.example"})


@pytest.fixture
def composer(tmp_path: Path, shop: Shop) -> Composer:
    settings = Settings(home=tmp_path, public_url="https://m.example/", secret_key=SecretStr("k" * 32))
    spec = specs.read_spec(INCLUDE / "campaigns" / "picked_for_you.yaml")
    return Composer.of(settings, shop, spec)


def contact(name: str = "Emma", locale: str = "en-GB", country: str = "GB") -> Contact:
    return Contact("c1", "a@b.example", locale, country, ZoneInfo("Europe/London"), {"first_name": name})


def test_each_link_leads_where_it_says_and_tells_of_the_campaign(composer: Composer, shop: Shop) -> None:
    context = composer.context(contact(), PICKS, ITEMS, MESSAGE)
    email = composer.email(context, "personal")
    push = composer.push(context, "product_first")
    went = {}
    for medium, variant, text in (
        ("email", "personal", html.unescape(email.html)),
        ("email", "personal", email.text),
        ("push", "product_first", push.url),
    ):
        links = set(re.findall(r"https://m\.example/c([\w-]{35})\?(\S+?)(?=[\"\s]|$)", text))
        clicks = {verify_click(composer.key, token, query) for token, query in links}
        assert {click.message_id for click in clicks} == {MESSAGE}
        utm = f"utm_medium={medium}&utm_campaign=picked_for_you&utm_content={variant}"
        went[medium] = {(click.product_id, click.position, click.url) for click in clicks}
        page = f"https://shop.example/p1?a=1&utm_source=controltower&{utm}#top"
        if medium == "push":
            assert went[medium] == {("p1", 1, page)}
            continue
        assert went[medium] == {
            ("p1", 1, page),
            ("p2", 2, f"https://shop.example?utm_source=controltower&{utm}"),
            ("p3", 3, f"https://shop.example/상품?utm_source=own&{utm}"),
            (None, None, f"https://shop.example?utm_source=controltower&{utm}"),
        }
    for own in (context.unsubscribe_url, context.preferences_url, context.view_url):
        assert own in email.html and "utm" not in own


def test_a_shop_may_do_without(composer: Composer, shop: Shop) -> None:
    bare = Composer.of(composer.settings, shop.model_copy(update={"utm": False}), composer.spec)
    email = bare.email(bare.context(contact(), PICKS, ITEMS, MESSAGE), "personal")
    assert "utm_source=own" in email.text and "utm_source=controltower" not in email.text + email.html


def test_split_and_whole_are_the_same(composer: Composer) -> None:
    layouts = []
    for number, (name, locale, country) in enumerate(
        [("Emma", "en-GB", "GB"), ("Olga", "en-US", "GB"), ("", "en-GB", "GB"), ("지우", "ko-KR", "KR")]
    ):
        context = composer.context(contact(name, locale, country), PICKS, ITEMS, f"{number:032x}")
        for variant in ("personal", "product_first"):
            (split,) = composer.split([context], variant)
            assert isinstance(split, SplitEmail)
            assert split.whole() == composer.email(context, variant)
            layouts.append(split.layout)
    assert layouts[0] is layouts[2]
    assert len(set(layouts)) == 6


def test_a_product_that_looks_the_same_is_the_same(composer: Composer) -> None:
    first, again = (composer.context(contact(name), PICKS, ITEMS, MESSAGE).products for name in ("Emma", "Olga"))
    assert all(a is b for a, b in zip(first, again, strict=True))
    changed = ITEMS | {"p1": CatalogueItem("p1", "New name", Decimal("1.5"), "GBP", None, None)}
    assert composer.context(contact(), PICKS, changed, MESSAGE).products[0].title == "New name"
