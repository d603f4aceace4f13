"""A Korean and an English shop, six products, contexts, small template folders, golden files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from controltower.content import reasons
from controltower.content.message import Context, Product
from controltower.settings import INCLUDE, parse_shop
from controltower.shop import Shop

GOLDEN = Path(__file__).parents[1] / "golden" / "content"
TEMPLATES = INCLUDE / "templates"
MESSAGE_ID = "0123456789abcdef0123456789abcdef"

_KOREAN = [
    ("무선 가습기 미니 · 저소음 침실용", "32900", "popular", None),
    ("오가닉 코튼 수건 4장 세트", "24000", "viewed_together", "대나무 욕실 매트"),
    ("핸드드립 커피 원두 500g 과테말라 안티구아", "18500", "buy_again", None),
    ("린넨 앞치마", "39000", "because_you_bought", "무쇠 프라이팬 26cm"),
    ("천연 소이 캔들 라벤더", "15900", "similar_taste", None),
    ("접이식 우산", "12300", None, None),
]
_ENGLISH = [
    ("White hanging heart t-light holder", "2.55", "popular", None),
    ("Regency cakestand 3 tier", "12.75", "viewed_together", "Green Regency teacup & saucer"),
    ("Assorted colour bird ornament", "1.69", "buy_again", None),
    ("Party bunting", "4.95", "because_you_bought", "Set of 6 spice tins"),
    ("Lunch bag red retrospot", "1.65", "similar_taste", None),
    ("Paper chain kit 50's Christmas", "1202.95", None, None),
]


@pytest.fixture(scope="session")
def korean_shop() -> Shop:
    return parse_shop(INCLUDE / "shops" / "simulated.yaml")


@pytest.fixture(scope="session")
def english_shop() -> Shop:
    return parse_shop(INCLUDE / "shops" / "online-retail.yaml")


@pytest.fixture(scope="session")
def make_context(korean_shop: Shop, english_shop: Shop) -> Callable[..., Context]:
    """Contexts by language; keywords replace fields."""

    def make(language: str = "ko", count: int = 6, **fields: Any) -> Context:
        shop, rows, name, locale = (
            (korean_shop, _KOREAN, "지우", "ko-KR") if language == "ko" else (english_shop, _ENGLISH, "Emma", "en-GB")
        )
        products = tuple(
            Product(
                product_id=f"P{n}",
                title=title,
                price=Decimal(price),
                currency=shop.currency,
                url=f"{shop.url}/products/P{n}",
                image_url=f"{shop.url}/images/P{n}.jpg" if n == 1 else None,
                reason=reasons.word(code, value, locale) or None,
            )
            for n, (title, price, code, value) in enumerate(rows[:count])
        )
        return Context(
            **{
                "shop": shop,
                "customer": {"first_name": name, "locale": locale},
                "locale": locale,
                "products": products,
                "message_id": MESSAGE_ID,
                "unsubscribe_url": "https://m.example/u-token",
                "preferences_url": "https://m.example/p-token",
                "view_url": "https://m.example/v-token",
                "click_url": "https://m.example/c-token",
                "advertisement": language == "ko",
            }
            | fields
        )

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the templates, to change."""
    return Path(shutil.copytree(TEMPLATES, tmp_path / "templates"))


@pytest.fixture
def write_template(folder: Path) -> Callable[[str], Path]:
    """Make a template `x` of a body of MJML; returns the folder."""

    def write(body: str, text: str = "text") -> Path:
        (folder / "email/x.mjml").write_text(f"<mjml><mj-body>\n{body}\n</mj-body></mjml>", encoding="utf-8")
        (folder / "email/x.txt").write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def golden() -> Callable[[str, str], None]:
    """Compare with the kept file; `make golden` (GOLDEN=write) keeps what is given instead."""

    def compare(name: str, got: str) -> None:
        path = GOLDEN / name
        if os.environ.get("GOLDEN") == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(got, encoding="utf-8", newline="\n")
        assert path.is_file(), f"{path} is missing: run `make golden` and look at what it wrote"
        assert got == path.read_text(encoding="utf-8"), f"{name} differs: run `make golden` if the change is meant"

    return compare
