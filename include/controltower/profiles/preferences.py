"""What a customer prefers: categories, brands, words and prices, by what they looked at, bought and searched for.

Everything counts points: what was done (DONE) times how lately (LATELY). Whole numbers, so that the same facts give the
same preferences in whatever order they come; of equal ones the first by name.
"""

from __future__ import annotations

from datetime import datetime

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from controltower.profiles.facts import Facts, gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY, whole
from controltower.profiles.words import title_words, words_of
from controltower.shop import Shop

DONE = {"view_item": 1, "add_to_cart": 3, "search": 4, "bought": 6}
LATELY = ((7, 8), (30, 4), (90, 2), (365, 1))  # days, factor; what is older counts nothing
KEPT = {"category": 3, "brand": 3, "keyword": 5}
PRICE_BANDS = ("low", "mid", "high")  # thirds of a category's products by price
FEWEST_PRICES = 3  # products, of a category as of a customer, for a price band

PRICE = "price_band"

_NAMES = {(what, n): f"preferred_{what}{f'_{n + 1}' if n else ''}" for what, most in KEPT.items() for n in range(most)}
COLUMNS = (*_NAMES.values(), "preferred_price_band")


def preferences(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id and COLUMNS, as of a moment, of who did something; null where too little is known.

    A category is its whole path.
    """
    facts = gather(tables, as_of, shop)
    every = ibis.union(_of_products(facts, tables("products")), _of_searches(facts))
    summed = every.group_by("customer_id", "what", "value").aggregate(points=every.points.sum(), number=every.count())
    place = ibis.row_number().over(group_by=["customer_id", "what"], order_by=[summed.points.desc(), summed["value"]])
    ranked = summed.mutate(place=place)

    def kept(what: str, n: int) -> ir.StringValue:
        return ranked["value"].max(where=(ranked.what == what) & (ranked.place == n))

    def priced(column: ir.IntegerValue, *bands: str) -> ir.IntegerValue:
        return column.sum(where=(ranked.what == PRICE) & ranked["value"].isin(bands)).fill_null(0)

    found = ranked.group_by("customer_id").aggregate(
        **{name: kept(what, n) for (what, n), name in _NAMES.items()},
        products=priced(ranked.number, *PRICE_BANDS),
        points=priced(ranked.points, *PRICE_BANDS),
        weighed=priced(ranked.points, "mid") + priced(ranked.points, "high") * 2,
    )
    low, mid, high = PRICE_BANDS
    band = ibis.cases(
        (found.products < FEWEST_PRICES, ibis.null("string")),
        (found.weighed * 3 < found.points * 2, low),
        (found.weighed * 3 > found.points * 4, high),
        else_=mid,
    )
    return found.mutate(preferred_price_band=band).select("customer_id", *COLUMNS)


def _lately(age: ir.IntegerValue) -> ir.IntegerValue:
    return ibis.cases(*((age < days * DAY, ibis.literal(factor, "int64")) for days, factor in LATELY), else_=0)


def _of_products(facts: Facts, products: ir.Table) -> ir.Table:
    """customer_id, what, value, points: one row a product that somebody had to do with, and what is told of it."""
    looked = facts.events.filter(
        facts.events.event_name.isin(["view_item", "add_to_cart"]), facts.events.product_id.notnull()
    )
    done = ibis.ifelse(looked.event_name == "view_item", DONE["view_item"], DONE["add_to_cart"])
    bought = facts.lines.filter(facts.lines.bought)
    every = ibis.union(
        looked.select("customer_id", "product_id", points=done * _lately(looked.age)),
        bought.select("customer_id", "product_id", points=_lately(bought.age) * DONE["bought"]),
    )
    every = every.filter(every.points > 0)
    points = every.group_by("customer_id", "product_id").aggregate(points=every.points.sum())
    rows = products.select("product_id", "title", "brand").to_pyarrow().to_pylist()
    words = _words([(row["product_id"], title_words(row["title"], row["brand"])) for row in rows], "product_id")
    told = [
        products.select("product_id", what=ibis.literal(what), value=products[what]) for what in ("category", "brand")
    ]
    named = ibis.union(*told, _priced(products), words)
    return points.inner_join(named.filter(named["value"].notnull()), "product_id").select(
        "customer_id", "what", "value", "points"
    )


def _of_searches(facts: Facts) -> ir.Table:
    """The same of searches that found something."""
    events = facts.events.filter(facts.events.event_name == "search", facts.events["query"].notnull())
    events = events.filter(events.results_count.fill_null(1) > 0, events.age < LATELY[-1][0] * DAY)
    searched = events.select("customer_id", text=events["query"], points=_lately(events.age) * DONE["search"])
    texts = sorted(searched.select("text").distinct().to_pyarrow()["text"].to_pylist())
    words = _words([(text, sorted(set(words_of(text)))) for text in texts], "text")
    return searched.inner_join(words, "text").select("customer_id", "what", "value", "points")


def _priced(products: ir.Table) -> ir.Table:
    """product_id, what, value: one of PRICE_BANDS, null where the category has too few prices."""
    known = products.filter(products.category.notnull(), products.price.notnull())
    kin = ["category", "currency"]
    below, number = ibis.rank().over(group_by=kin, order_by=known.price), known.count().over(group_by=kin)
    third = whole(below * len(PRICE_BANDS), number)
    band = ibis.cases(*((third == n, name) for n, name in enumerate(PRICE_BANDS)))
    value = ibis.ifelse(number >= FEWEST_PRICES, band, ibis.null("string"))
    return known.select("product_id", what=ibis.literal(PRICE), value=value)


def _words(told: list[tuple[str, list[str]]], name: str) -> ir.Table:
    """Words by a key of that name: name, what, value."""
    rows = [(key, "keyword", word) for key, words in told for word in words]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return ibis.memtable(pa.table([pa.array(c, pa.string()) for c in columns], names=[name, "what", "value"]))
