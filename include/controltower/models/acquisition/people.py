"""People who never bought, as of a date, a row each: what is known of them, and who of them bought later.

They are prospects, customers without a purchase, and visitors, who aren't known to be customers and were here in the
last VISITOR_DAYS. What is known is what they did in the last DAYS.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from controltower.models.recommend.history import MOST_VISITORS, VISITOR_DAYS
from controltower.profiles.facts import Facts, gather
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY, div, one_if, seconds, whole
from controltower.shop import Shop

DAYS = 90
LATELY = 7
BEST = 0.2  # the share of buyers who are the best customers, by what they spent
SMOOTHING = 20.0  # lines of everybody's taste beside the best customers'
Read = Callable[[ir.Table], pd.DataFrame]
COUNTS = {
    "views": "view_item", "carts": "add_to_cart", "checkouts": "begin_checkout", "searches": "search",
}  # fmt: skip


def read_people(tables: Tables, read: Read, as_of: datetime, shop: Shop) -> pd.DataFrame:
    """person (customer_id or visitor_id), visitor (flag), days since the first and the last event and since sign-up
    (NaN where there is none), counts of the last DAYS days, shares of events in the app and with a referrer, and
    `likeness` to the best customers (see `taste`); index 0..n, ordered by person."""
    facts = gather(tables, as_of, shop)
    did = _did(tables, as_of)
    counted = read(_counted(did))
    buyers = read(facts.orders.select("customer_id").distinct())["customer_id"]
    known = read(facts.customers.select("customer_id", signed_up=facts.customers.age))
    known = known[~known["customer_id"].isin(buyers)]
    theirs = counted[~counted["visitor"].astype(bool)].drop(columns="visitor")
    prospects = known.rename(columns={"customer_id": "person"}).merge(theirs, on="person", how="left")
    visitors = counted[counted["visitor"].astype(bool) & (counted["last"] < VISITOR_DAYS * DAY)]
    visitors = visitors.sort_values(["last", "person"]).head(MOST_VISITORS)
    people = pd.concat([prospects.assign(visitor=False), visitors.assign(visitor=True)], ignore_index=True)
    # who is in the customers' table without any date may not have been known then
    people = people[people["signed_up"].notna() | people["last"].notna()]
    people = people.sort_values(["visitor", "person"], ignore_index=True)
    for age in ("signed_up", "first", "last"):
        people[f"days_since_{age}"] = people.pop(age).astype(float) / DAY
    counts = people.columns.difference(["person", "visitor", "days_since_signed_up", "days_since_first",
                                        "days_since_last", "app", "referred"])  # fmt: skip
    people[counts] = people[counts].astype(float).fillna(0.0)
    looked = interests(read, did, facts)
    liked = looked["category"].map(taste(read, facts)).astype(float).fillna(0.0) * looked["share"]
    likeness = liked.groupby([looked["person"], looked["visitor"].astype(bool)]).sum()
    at = pd.MultiIndex.from_frame(people[["person", "visitor"]])
    people["likeness"] = likeness.reindex(at).fillna(0.0).to_numpy(float) if len(likeness) else 0.0
    return people


def read_interests(tables: Tables, read: Read, as_of: datetime, shop: Shop) -> pd.DataFrame:
    """person, visitor, category, share: of everybody's views and carts of the last DAYS days, by category."""
    return interests(read, _did(tables, as_of), gather(tables, as_of, shop))


def interests(read: Read, did: ir.Table, facts: Facts) -> pd.DataFrame:
    looked = did.filter(did.product_id.notnull(), did.event_name.isin(["view_item", "add_to_cart"]))
    named = looked.inner_join(facts.products.select("product_id", "category"), "product_id")
    named = named.filter(named.category.notnull())
    rows = read(named.group_by("person", "visitor", "category").aggregate(number=named.count()))
    rows["share"] = rows["number"] / rows.groupby(["person", "visitor"])["number"].transform("sum")
    return rows.sort_values(["visitor", "person", "category"], ignore_index=True)


def taste(read: Read, facts: Facts) -> dict[str, float]:
    """By category, the logarithm of how much more often the best customers buy of it than everybody does: above 0 is
    theirs. The best are the fifth of the buyers who spent most; SMOOTHING lines are added to theirs, as everybody's."""
    lines = facts.lines.filter(facts.lines.bought, ~facts.lines.returned)
    spent = read(lines.group_by("customer_id").aggregate(amount=lines.amount.sum().cast("float64")))
    spent = spent.sort_values(["amount", "customer_id"], ascending=[False, True])
    best = spent["customer_id"].head(int(np.ceil(BEST * len(spent))))
    known = lines.filter(lines.category.notnull())
    by = read(known.group_by("customer_id", "category").aggregate(number=known.count()))
    everybody = by.groupby("category")["number"].sum().sort_index()
    if not len(everybody):
        return {}
    usual = everybody / everybody.sum()
    theirs = by[by["customer_id"].isin(best)].groupby("category")["number"].sum().reindex(usual.index).fillna(0.0)
    liked = (theirs + SMOOTHING * usual) / (theirs.sum() + SMOOTHING)
    return dict(zip(usual.index.tolist(), np.log((liked / usual).to_numpy(float)).tolist(), strict=True))


def read_became(tables: Tables, read: Read, as_of: datetime, since: datetime) -> pd.DataFrame:
    """customer_id, visitor_id: who the visitors since a date turned out to be by as_of."""
    events = tables("events")
    both = events.filter(
        events.visitor_id.notnull(), events.customer_id.notnull(),
        events.occurred_at <= as_of, events.occurred_at > since - timedelta(days=DAYS),
    )  # fmt: skip
    return read(both.select("customer_id", "visitor_id").distinct())


def bought(
    people: pd.DataFrame, time: datetime, days: int, purchases: pd.DataFrame, became: pd.DataFrame
) -> np.ndarray:
    """0 or 1 by person: an order within the days after `time`. purchases: customer_id, second (epoch)."""
    start = int(time.timestamp())
    inside = (purchases["second"] > start) & (purchases["second"] <= start + days * DAY)
    buyers = purchases.loc[inside, "customer_id"].unique()
    visitors = became.loc[became["customer_id"].isin(buyers), "visitor_id"]
    person, visitor = people["person"], people["visitor"].to_numpy(bool)
    return np.where(visitor, person.isin(visitors), person.isin(buyers)).astype(int)


def _did(tables: Tables, as_of: datetime) -> ir.Table:
    """person, visitor (0 or 1), age and what stands in the events of the last DAYS days."""
    events = tables("events")
    recent = events.filter(
        events.occurred_at <= as_of, events.occurred_at > as_of - timedelta(days=DAYS),
        events.customer_id.notnull() | events.visitor_id.notnull(),
    )  # fmt: skip
    return recent.select(
        "event_name", "product_id", "session_id", "channel", "referrer",
        person=recent.customer_id.coalesce(recent.visitor_id), visitor=one_if(recent.customer_id.isnull()),
        age=ibis.literal(int(as_of.timestamp()), "int64") - seconds(recent.occurred_at),
    )  # fmt: skip


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
