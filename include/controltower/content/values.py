"""What a template may use: the names below, and products as a customer reads them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from controltower.content.links import web_address
from controltower.content.locales import Translate
from controltower.content.message import Context, Product
from controltower.content.money import format_money
from controltower.content.text import one_line, shorten
from controltower.data.contract import CONTRACT

NAMES = frozenset(
    "shop customer products locale language t subject preheader message_id unsubscribe_url preferences_url"
    " view_url shop_url advertisement".split()
)
_PRIVATE = {"email", "phone", "attributes"}  # a message has no use for them, and a template could leak them
_NO_CUSTOMER = {c.name: "" for c in CONTRACT["customers"].columns if c.name not in _PRIVATE}
# Pastel and its dark ink, for a product without a picture; readable on white and in dark mode alike.
_TINTS = (
    ("#fbe4d8", "#a8461a"), ("#e3ecdf", "#41663a"), ("#dfe8f3", "#34577f"), ("#f3e2ea", "#8c3a60"),
    ("#efe8d6", "#75602a"), ("#e6e2f3", "#574796"), ("#d9eeec", "#22686a"), ("#f6e0df", "#993b39"),
)  # fmt: skip


@dataclass(frozen=True)
class ShownProduct:
    """A product as templates see it: `p.title`, `p.price` (text with currency), `p.url`, `p.image_url`, ..."""

    product_id: str
    title: str
    price: str
    url: str
    image_url: str
    reason: str
    initial: str
    tint: str
    tint_ink: str


def template_values(context: Context, language: str, t: Translate) -> dict[str, Any]:
    """The values of every name but subject and preheader, which come last."""
    shop = context.shop
    locale = context.locale or shop.locale
    return {
        "shop": shop,
        "customer": _NO_CUSTOMER | {k: _plain(v) for k, v in context.customer.items() if k not in _PRIVATE},
        "products": [
            replace(_shown(replace(p, url=None), locale), url=web_address(p.url) or context.shop_url)
            for p in context.products
        ],
        "locale": locale,
        "language": language,
        "t": t,
        "message_id": context.message_id,
        "unsubscribe_url": context.unsubscribe_url,
        "preferences_url": context.preferences_url,
        "view_url": context.view_url,
        "shop_url": context.shop_url,
        "advertisement": context.advertisement,
    }


@lru_cache(maxsize=65_536)  # a catalogue's products return in every mail; their links are each mail's own
def _shown(product: Product, locale: str) -> ShownProduct:
    title = one_line(product.title) or product.product_id
    tint, ink = _TINTS[zlib.crc32(product.product_id.encode()) % len(_TINTS)]
    return ShownProduct(
        product_id=product.product_id,
        title=shorten(title, 120),
        price=format_money(product.price, product.currency, locale),
        url="",
        image_url=web_address(product.image_url) or "",
        reason=product.reason or "",
        initial=next((c.upper() for c in title if c.isalnum()), "·"),
        tint=tint,
        tint_ink=ink,
    )


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return one_line(value) if isinstance(value, str) else value
