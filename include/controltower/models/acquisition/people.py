"""People who never bought, as of a date, a row each: what is known of them, and who of them bought later.

They are prospects, customers without a purchase, and visitors, who aren't known to be customers and were here in the
last VISITOR_DAYS: the MOST_VISITORS who were here last, without those on whose device a buyer was logged in. What is
known is what they did in the last DAYS.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa

from controltower.models.recommend.history import MOST_VISITORS, VISITOR_DAYS
from controltower.profiles.facts import Facts, Keep, gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import epoch
from controltower.profiles.portable import DAY, div, one_if, seconds, whole
from controltower.shop import Shop

DAYS = 90
LATELY = 7
BEST = 0.2  # the share of buyers who are the best customers, by what they spent
SMOOTHING = 20.0  # lines of everybody's taste beside the best customers'
FINE = 10**6  # tastes are summed as whole numbers of this part, so that the order of rows doesn't matter
Read = Callable[[ir.Table], pd.DataFrame]
COUNTS = {
    "views": "view_item", "carts": "add_to_cart", "checkouts": "begin_checkout", "searches": "search",
}  # fmt: skip


def read_people(
    tables: Tables, read: Read, as_of: datetime, shop: Shop, keep: Keep = lambda _, rows: rows
) -> pd.DataFrame:
    """person (customer_id or visitor_id), visitor (flag), days since the first and the last event and since sign-up
    (NaN where there is none), counts of the last DAYS days, shares of events in the app and with a referrer, and
    `likeness` to the best customers (see `taste`); index 0..n, ordered by person. keep: as `Facts.keep`."""
    facts = gather(tables, as_of, shop)
    events = _recent(tables, as_of)
    who = keep("_acquirable", _never_bought(facts, events))
    did = keep("_they_did", _did(events, as_of).semi_join(who, ["person", "visitor"]))
    rows = who.left_join(_counted(did), ["person", "visitor"]).drop("person_right", "visitor_right")
    liked = _liked(_looked_at(did, facts), taste(read, facts))
    rows = rows.left_join(liked, ["person", "visitor"]).drop("person_right", "visitor_right")
    # who is in the customers' table without any date may not have been known then
    rows = rows.filter(rows.signed_up.notnull() | rows["last"].notnull())
    people = read(rows).sort_values(["visitor", "person"], ignore_index=True)
    people["visitor"] = people["visitor"].astype(bool)
    for age in ("signed_up", "first", "last"):
        people[f"days_since_{age}"] = people.pop(age).astype(float) / DAY
    counts = people.columns.difference(["person", "visitor", "days_since_signed_up", "days_since_first",
                                        "days_since_last", "app", "referred"])  # fmt: skip
    people[counts] = people[counts].astype(float).fillna(0.0)
    return people


def read_interests(tables: Tables, read: Read, as_of: datetime, shop: Shop, who: pa.Table) -> pd.DataFrame:
    """place, category, share: of views and carts of the last DAYS days, by category, the most first; of these alone:
    person, visitor (0 or 1), place (which row of the answer is whose)."""
    did = _did(_recent(tables, as_of), as_of).inner_join(ibis.memtable(who), ["person", "visitor"])
    looked = _looked_at(did, gather(tables, as_of, shop), "place")
    rows = read(looked)
    rows["share"] = rows["number"] / rows.groupby("place")["number"].transform("sum")
    return rows.drop(columns="number").sort_values(
        ["place", "share", "category"], ascending=[True, False, True], ignore_index=True
    )


def taste(read: Read, facts: Facts) -> dict[str, float]:
    """By category, the logarithm of how much more often the best customers buy of it than everybody does: above 0 is
    theirs. The best are the fifth of the buyers who spent most; SMOOTHING lines are added to theirs, as everybody's."""
    lines = facts.lines.filter(facts.lines.bought, ~facts.lines.returned)
    spent = lines.group_by("customer_id").aggregate(amount=lines.amount.sum().cast("float64").fill_null(0.0))
    best = spent.order_by(ibis.desc("amount"), "customer_id")
    best = best.limit(int(np.ceil(BEST * int(read(spent.aggregate(n=spent.count()))["n"].iloc[0]))))
    known = lines.filter(lines.category.notnull())

    def by_category(some: ir.Table) -> pd.Series:
        return read(some.group_by("category").aggregate(n=some.count())).set_index("category")["n"].sort_index()

    everybody = by_category(known)
    if not len(everybody):
        return {}
    usual = everybody / everybody.sum()
    theirs = by_category(known.semi_join(best, "customer_id")).reindex(usual.index).fillna(0.0)
    liked = (theirs + SMOOTHING * usual) / (theirs.sum() + SMOOTHING)
    return dict(zip(usual.index.tolist(), np.log((liked / usual).to_numpy(float)).tolist(), strict=True))


def read_became(tables: Tables, read: Read, as_of: datetime, since: datetime, shop: Shop) -> pd.DataFrame:
    """customer_id, visitor_id: which of the customers whose first order came after `since` the visitors turned out to
    be by as_of."""
    events, orders = tables("events"), gather(tables, as_of, shop).orders
    first = orders.group_by("customer_id").aggregate(first=orders.second.min())
    both = events.filter(
        events.visitor_id.notnull(), events.customer_id.notnull(),
        events.occurred_at <= as_of, events.occurred_at > since - timedelta(days=DAYS),
    ).semi_join(first.filter(first["first"] > epoch(since)), "customer_id")  # fmt: skip
    return read(both.select("customer_id", "visitor_id").distinct())


def bought(
    people: pd.DataFrame, time: datetime, days: int, purchases: pd.DataFrame, became: pd.DataFrame
) -> np.ndarray:
    """0 or 1 by person: a first order within the days after `time`. Who turns out to have ordered before it is no new
    customer: 0. purchases: customer_id, second (epoch)."""
    start = epoch(time)
    first = purchases.groupby("customer_id")["second"].min()
    buyers = first.index[(first > start) & (first <= start + days * DAY)]
    visitors = became.loc[became["customer_id"].isin(buyers), "visitor_id"]
    person, visitor = people["person"], people["visitor"].to_numpy(bool)
    return np.where(visitor, person.isin(visitors), person.isin(buyers)).astype(int)


def _never_bought(facts: Facts, events: ir.Table) -> ir.Table:
    """person, visitor (0 or 1), signed_up (age, null of visitors)."""
    buyers = facts.orders.select("customer_id").distinct()
    prospects = facts.customers.anti_join(buyers, "customer_id")
    on_devices = events.filter(events.visitor_id.notnull()).semi_join(buyers, "customer_id")
    seen = events.filter(events.customer_id.isnull()).anti_join(on_devices, "visitor_id")
    last = seen.group_by("visitor_id").aggregate(last=seen.occurred_at.max())
    last = last.filter(last["last"] > facts.as_of - timedelta(days=VISITOR_DAYS))
    visitors = last.order_by(ibis.desc("last"), "visitor_id").limit(MOST_VISITORS)
    zero, one, nothing = (ibis.literal(value, "int64") for value in (0, 1, None))
    return ibis.union(
        prospects.select(person="customer_id", visitor=zero, signed_up=prospects.age),
        visitors.select(person="visitor_id", visitor=one, signed_up=nothing),
    )


def _recent(tables: Tables, as_of: datetime) -> ir.Table:
    """The events of the last DAYS days of anybody known by an id."""
    events = tables("events")
    return events.filter(
        events.occurred_at <= as_of, events.occurred_at > as_of - timedelta(days=DAYS),
        events.customer_id.notnull() | events.visitor_id.notnull(),
    )  # fmt: skip


def _did(recent: ir.Table, as_of: datetime) -> ir.Table:
    """person, visitor (0 or 1), age and what stands in the events."""
    return recent.select(
        "event_name", "product_id", "session_id", "channel", "referrer",
        person=recent.customer_id.coalesce(recent.visitor_id), visitor=one_if(recent.customer_id.isnull()),
        age=ibis.literal(epoch(as_of), "int64") - seconds(recent.occurred_at),
    )  # fmt: skip


def _looked_at(did: ir.Table, facts: Facts, *whose: str) -> ir.Table:
    """person and visitor, or `whose`, category, number: of views and carts, by category."""
    looked = did.filter(did.product_id.notnull(), did.event_name.isin(["view_item", "add_to_cart"]))
    named = looked.inner_join(facts.products.select("product_id", "category"), "product_id")
    named = named.filter(named.category.notnull())
    return named.group_by(*(whose or ("person", "visitor")), "category").aggregate(number=named.count())


def _liked(looked: ir.Table, tastes: dict[str, float]) -> ir.Table:
    """person, visitor, likeness: the mean taste of what they looked at, 0 of a category that nobody bought of."""
    fine = [round(value * FINE) for value in tastes.values()]
    rows = looked.left_join(
        ibis.memtable(pa.table({"category": pa.array(list(tastes), pa.string()), "fine": pa.array(fine, pa.int64())})),
        "category",
    )
    total = (rows.number * rows.fine.fill_null(0)).sum()
    return rows.group_by("person", "visitor").aggregate(likeness=div(total, rows.number.sum()) / FINE)


def _counted(did: ir.Table) -> ir.Table:
    lately = did.age < LATELY * DAY
    counts = {name: one_if(did.event_name == event).sum() for name, event in COUNTS.items()}
    counts |= {f"{name}_lately": one_if((did.event_name == COUNTS[name]) & lately).sum() for name in ("views", "carts")}
    return did.group_by("person", "visitor").aggregate(
        first=did.age.max(),
        last=did.age.min(),
        days=whole(did.age, ibis.literal(DAY)).nunique(),
        sessions=did.session_id.nunique(),
        products=did.product_id.nunique(),
        app=div(one_if(did.channel == "app").sum(), did.count()),
        referred=div(one_if(did.referrer.notnull()).sum(), did.count()),
        **counts,
    )
