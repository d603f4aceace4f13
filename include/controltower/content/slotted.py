"""The names that templates may use (values.py), with slots for what differs among customers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

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
    in_a_message,
    product_query,
    shop_query,
)
from controltower.shop import Shop

_OF_THE_CATALOGUE = frozenset(f.name for f in fields(ShownProduct)) - {"url", "reason"}
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


class Seen:
    """One customer, as expressions look at them."""

    __slots__ = ("_shared", "context", "email", "known", "lines", "locale")
    known: Sequence[dict[Any, Any]]  # of each product, what functions gave for it

    def __init__(self, shared: Shared, context: Context) -> None:
        self.context = context
        self.locale = context.locale or context.shop.locale
        self.lines: dict[str, str] = {}  # the subject and the preheader, once they are made
        self.email: Any = None  # once it is split
        self._shared = shared

    def product(self, n: int) -> ShownProduct:
        """A product's side of the catalogue."""
        return catalogue_values(self.context.products[n], self.locale)

    def query(self, n: int) -> str:
        return product_query(self.context.products[n], n + 1, self._shared.shop, self._shared.destinations)

    def reason(self, n: int) -> str:
        return self.context.products[n].reason or ""

    def whole_product(self, n: int) -> ShownProduct:
        query = self.query(n)
        url = self.context.click_url + query if self._shared.destinations else query
        return in_a_message(self.product(n), url, self.reason(n))


def slotted_values(trace: Trace, shared: Shared) -> dict[str, Any]:
    """The values of every name but subject and preheader."""

    def own(key: Hashable, of: Callable[[Seen], Any], safe: bool = False) -> Expression:
        return Expression(key, of, personal=True, safe=safe)

    def of_product(name: str, n: int, of: Callable[[Seen], Any]) -> Expression:
        return Expression(("product", n, name), of, frozenset({n}))

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
                return link(replace(of_product("query", n, lambda seen: seen.query(n)), safe=True)).expression
            if name == "reason":
                return of_product(name, n, lambda seen: seen.reason(n))
            if name not in _OF_THE_CATALOGUE:
                return None
            return of_product(name, n, lambda seen: getattr(seen.product(n), name))

        return trace.slot(replace(own(("product", n), lambda seen: seen.whole_product(n)), attribute=attribute))

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
