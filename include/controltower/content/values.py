"""What a template may use: the names below, and products as a customer reads them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from controltower.content.links import Destinations, web_address
from controltower.content.locales import Translate
from controltower.content.message import Context, Product
from controltower.content.money import format_money
from controltower.content.text import one_line, shorten
from controltower.data.contract import CONTRACT
from controltower.shop import Shop

NAMES = frozenset(
    "shop customer products locale language t subject preheader message_id unsubscribe_url preferences_url"
    " view_url shop_url advertisement".split()
)
_PRIVATE = {"email", "phone", "attributes"}  # a message has no use for them, and a template could leak them
_NO_CUSTOMER: dict[str, Any] = {c.name: "" for c in CONTRACT["customers"].columns if c.name not in _PRIVATE}
COLUMNS = frozenset(_NO_CUSTOMER)
# Pastel and its dark ink, for a product without a picture; readable on white and in dark mode alike.
_TINTS = (
    ("#fbe4d8", "#a8461a"), ("#e3ecdf", "#41663a"), ("#dfe8f3", "#34577f"), ("#f3e2ea", "#8c3a60"),
    ("#efe8d6", "#75602a"), ("#e6e2f3", "#574796"), ("#d9eeec", "#22686a"), ("#f6e0df", "#993b39"),
)  # fmt: skip


@dataclass(eq=False, slots=True)  # frozen, each would cost a mail some microseconds
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


def template_values(context: Context, language: str, t: Translate, destinations: Destinations | None) -> dict[str, Any]:
    """The values of every name but subject and preheader, which come last.

    Without `destinations` links lead straight to the shop: for samples.
    """
    shop = context.shop
    locale = context.locale or shop.locale

    def link(query: str) -> str:
        return context.click_url + query if destinations else query

    return {
        "shop": shop,
        "customer": customer_values(context.customer),
        "products": [
            in_a_message(catalogue_values(p, locale), link(product_query(p, number, shop, destinations)), p.reason)
            for number, p in enumerate(context.products, 1)
        ],
        "locale": locale,
        "language": language,
        "t": t,
        "message_id": context.message_id,
        "unsubscribe_url": context.unsubscribe_url,
        "preferences_url": context.preferences_url,
        "view_url": context.view_url,
        "shop_url": link(shop_query(shop, destinations)),
        "advertisement": context.advertisement,
    }


def customer_values(customer: Mapping[str, Any]) -> dict[str, Any]:
    """What templates know of a customer: every column but the private ones, the empty ones as empty text."""
    return _NO_CUSTOMER | {k: _plain(v) for k, v in customer.items() if k not in _PRIVATE}


def customer_value(customer: Mapping[str, Any], name: str) -> Any:
    """One of the COLUMNS of `customer_values`."""
    return _plain(customer.get(name))


def product_query(product: Product, position: int, shop: Shop, destinations: Destinations | None) -> str:
    """What follows the click address in a product's link; without a page of its own it leads to the shop's."""
    page = web_address(product.url) or shop.url
    return destinations.query(page, product.product_id, position) if destinations else page


def shop_query(shop: Shop, destinations: Destinations | None) -> str:
    return destinations.query(shop.url) if destinations else shop.url


@lru_cache(maxsize=65_536)  # a catalogue's products return in every mail; links and reasons are each mail's own
def catalogue_values(product: Product, locale: str) -> ShownProduct:
    """A product as templates see it, without its link and reason."""
    title = one_line(product.title) or product.product_id
    tint, ink = _TINTS[zlib.crc32(product.product_id.encode()) % len(_TINTS)]
    return ShownProduct(
        product_id=product.product_id,
        title=shorten(title, 120),
        price=format_money(product.price, product.currency, locale),
        url="",
        image_url=web_address(product.image_url) or "",
        reason="",
        initial=next((c.upper() for c in title if c.isalnum()), "·"),
        tint=tint,
        tint_ink=ink,
    )


def in_a_message(p: ShownProduct, url: str, reason: str | None) -> ShownProduct:
    """The product with what is one message's own."""
    return ShownProduct(
        p.product_id, p.title, p.price, url, p.image_url, reason or "", p.initial, p.tint, p.tint_ink
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return one_line(value) if isinstance(value, str) else value
