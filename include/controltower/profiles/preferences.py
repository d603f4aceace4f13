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

COLUMNS = (
    *(f"preferred_{what}{f'_{n}' if n > 1 else ''}" for what, most in KEPT.items() for n in range(1, most + 1)),
    "preferred_price_band",
)


def preferences(tables: Tables, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id and COLUMNS, as of a moment; null where too little is known. A category is its whole path."""
    facts = gather(tables, as_of, shop)
    products = tables("products")
    points = _points(facts)
    named = points.inner_join(_priced(products), "product_id")
    words = _words(facts, points, products)
    parts = [
        _first(named.select("customer_id", "points", value=named.category), "category"),
        _first(named.select("customer_id", "points", value=named.brand), "brand"),
        _first(words, "keyword"),
        _price_bands(named),
    ]
    found = facts.customers.select("customer_id")
    for part in parts:
        found = found.left_join(part, "customer_id").drop("customer_id_right")
    return found.select("customer_id", *COLUMNS)


def _lately(age: ir.IntegerValue) -> ir.IntegerValue:
    return ibis.cases(*((age < days * DAY, ibis.literal(factor, "int64")) for days, factor in LATELY), else_=0)


def _points(facts: Facts) -> ir.Table:
    """customer_id, product_id, points."""
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
    return every.group_by("customer_id", "product_id").aggregate(points=every.points.sum())


def _priced(products: ir.Table) -> ir.Table:
    """product_id, category, brand, price_band (0 to 2, null where the category has too few prices)."""
    known = products.select("product_id", "category", "brand", "currency", "price")
    kin = ["category", "currency"]
    below, number = ibis.rank().over(group_by=kin, order_by=known.price), known.price.count().over(group_by=kin)
    told = known.category.notnull() & known.price.notnull() & (number >= FEWEST_PRICES)
    band = ibis.ifelse(told, whole(below * len(PRICE_BANDS), number), ibis.null("int64"))
    return known.select("product_id", "category", "brand", price_band=band)


def _words(facts: Facts, points: ir.Table, products: ir.Table) -> ir.Table:
    """customer_id, points, value: the words of titles and of searches."""
    titles = products.select("product_id", "title", "brand").to_pyarrow().to_pylist()
    of_titles = [(row["product_id"], word) for row in titles for word in title_words(row["title"], row["brand"])]
    events = facts.events.filter(facts.events.event_name == "search", facts.events["query"].notnull())
    searched = events.filter(events.results_count.fill_null(1) > 0)
    searched = searched.select("customer_id", text=searched["query"], points=_lately(searched.age) * DONE["search"])
    searched = searched.filter(searched.points > 0)
    texts = searched.select("text").distinct().to_pyarrow()["text"].to_pylist()
    of_texts = [(text, word) for text in sorted(texts) for word in sorted(set(words_of(text)))]
    titled = points.inner_join(_pairs(of_titles, "product_id"), "product_id")
    asked = searched.inner_join(_pairs(of_texts, "text"), "text")
    return ibis.union(*(rows.select("customer_id", "points", value=rows.word) for rows in (titled, asked)))


def _pairs(rows: list[tuple[str, str]], name: str) -> ir.Table:
    columns = list(zip(*rows, strict=True)) or [(), ()]
    return ibis.memtable(pa.table([pa.array(c, pa.string()) for c in columns], names=[name, "word"]))


def _first(rows: ir.Table, what: str) -> ir.Table:
    """customer_id and the values with the most points, in columns."""
    told = rows.filter(rows.value.notnull())
    summed = told.group_by("customer_id", "value").aggregate(points=told.points.sum())
    order = [summed.points.desc(), summed.value]
    ranked = summed.mutate(place=ibis.row_number().over(group_by="customer_id", order_by=order))
    names = [c for c in COLUMNS if c.startswith(f"preferred_{what}")]
    return (
        ranked.filter(ranked.place < len(names))
        .group_by("customer_id")
        .aggregate(**{name: ranked.value.max(where=ranked.place == n) for n, name in enumerate(names)})
    )


def _price_bands(named: ir.Table) -> ir.Table:
    """customer_id, preferred_price_band: the mean third of the products, by points."""
    told = named.filter(named.price_band.notnull())
    summed = told.group_by("customer_id").aggregate(
        products=told.count(), points=told.points.sum(), weighed=(told.points * told.price_band).sum()
    )
    low, mid, high = PRICE_BANDS
    band = ibis.cases(
        (summed.weighed * 3 < summed.points * 2, low), (summed.weighed * 3 > summed.points * 4, high), else_=mid
    )
    return summed.filter(summed.products >= FEWEST_PRICES).select("customer_id", preferred_price_band=band)
