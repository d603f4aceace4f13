"""The names that templates may use (values.py), with slots for what differs among customers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Final

from controltower.content.links import Destinations
from controltower.content.locales import Translate
from controltower.content.message import Context
from controltower.content.slots import Expression, Slot, Trace
from controltower.content.values import (
    COLUMNS,
    ShownProduct,
    catalogue_values,
    customer_value,
    customer_values,
    product_query,
    shop_query,
)
from controltower.settings import Shop

_OF_THE_CATALOGUE = frozenset(f.name for f in fields(ShownProduct)) - {"url", "reason"}
PRODUCT: Final = "product"  # begins the key of what depends on a product's catalogue entry; the position follows
_QUERIES = 32_768  # kept of each group: a product's link in each place
_ADDRESSES = ("message_id", "unsubscribe_url", "preferences_url", "view_url")


@dataclass(frozen=True, slots=True)
class Shared:
    """What differs among groups of customers only; `products` is their number."""

    shop: Shop
    language: str
    t: Translate
    advertisement: bool
    products: int
    destinations: Destinations | None
    queries: dict[tuple[int, ShownProduct], str] = field(default_factory=dict, repr=False)


class Seen:
    """One customer, as expressions look at them."""

    __slots__ = ("_shared", "context", "lines", "locale", "products")

    def __init__(self, shared: Shared, context: Context) -> None:
        self.context = context
        self.locale = locale = context.locale or context.shop.locale
        self.products = [catalogue_values(p, locale) for p in context.products]
        self.lines: dict[str, str] = {}  # the subject and the preheader, once they are made
        self._shared = shared

    def query(self, n: int) -> str:
        shared, key = self._shared, (n, self.products[n])
        query = shared.queries.get(key)
        if query is None:
            if len(shared.queries) >= _QUERIES:
                shared.queries.clear()
            query = product_query(self.context.products[n], n + 1, shared.shop, shared.destinations)
            shared.queries[key] = query
        return query

    def reason(self, n: int) -> str:
        return self.context.products[n].reason or ""

    def whole_product(self, n: int) -> ShownProduct:
        query = self.query(n)
        url = self.context.click_url + query if self._shared.destinations else query
        return replace(self.products[n], url=url, reason=self.reason(n))


def slotted_values(trace: Trace, shared: Shared) -> dict[str, Any]:
    """The values of every name but subject and preheader."""

    def own(key: Hashable, of: Callable[[Seen], Any], safe: bool = False) -> Expression:
        return Expression(key, of, personal=True, safe=safe)

    def link(query: Expression) -> Slot:
        click = own("click_url", attrgetter("context.click_url"), safe=True)
        parts = [trace.slot(part) for part in ((click, query) if shared.destinations else (query,))]
        return trace.later("link", lambda *texts: "".join(texts), parts, parts=True)

    def column(name: str) -> Expression | None:
        if name not in COLUMNS or hasattr(dict, name):
            return None
        return own(("customer", name), lambda seen: customer_value(seen.context.customer, name))

    def product(n: int) -> Slot:
        def attribute(name: str) -> Expression | None:
            if name == "url":
                return link(own(("query", n), lambda seen: seen.query(n), safe=True)).expression
            if name == "reason":
                return own(("reason", n), lambda seen: seen.reason(n))
            if name not in _OF_THE_CATALOGUE:
                return None
            return Expression((PRODUCT, n, name), lambda seen: getattr(seen.products[n], name), frozenset({n}))

        return trace.slot(replace(own((PRODUCT, n), lambda seen: seen.whole_product(n)), attribute=attribute))

    customer = replace(own("customer", lambda seen: customer_values(seen.context.customer)), attribute=column)
    shop_page = shop_query(shared.shop, shared.destinations)
    return {
        "shop": shared.shop,
        "customer": trace.slot(customer),
        "products": [product(n) for n in range(shared.products)],
        "locale": trace.slot(own("locale", attrgetter("locale"))),
        "language": shared.language,
        "t": trace.words(shared.t),
        **{name: trace.slot(own(name, attrgetter(f"context.{name}"), safe=True)) for name in _ADDRESSES},
        "shop_url": link(Expression(("shop_query", shop_page), lambda _: shop_page, constant=True)),
        "advertisement": shared.advertisement,
    }
