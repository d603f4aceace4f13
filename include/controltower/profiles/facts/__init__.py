"""The facts that features count, each one row with its age, from the contract's tables as of a date.

Everything is in whole seconds, whole numbers and decimals here. Sums over those don't depend on the order of rows, so
the same facts give the same features byte for byte; floats appear only in a feature's last division.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import ibis.expr.types as ir

from controltower.profiles.facts import browsing, calendar, customers, messages, purchases
from controltower.profiles.facts.tables import Tables
from controltower.profiles.local_time import Zones, customer_zones
from controltower.shop import Shop

Keep = Callable[[str, ir.Table], ir.Table]  # a name, and the rows


@dataclass(frozen=True)
class Facts:
    """One row a fact, of known customers only; `age` is in seconds before as_of and never negative.

    `tables` gives a contract table as of the date, on any engine. What isn't asked for isn't read. `keep` may compute
    rows once, of which several others are made. `known_holidays`: where they were looked up before. `whole`: the
    customers' table has everybody, also who is known by orders or events alone.
    """

    tables: Tables
    as_of: datetime
    shop: Shop
    keep: Keep = lambda _, rows: rows
    known_holidays: calendar.Calendar | None = None
    whole: bool = False

    @cached_property
    def customers(self) -> ir.Table:
        """customer_id, points, age (since sign-up), null where unknown: all customers known."""
        signed_up = customers.signed_up_of(self.tables("customers"), self.as_of)
        return signed_up if self.whole else customers.with_seen(signed_up, self._headers, self.events)

    @cached_property
    def lines(self) -> ir.Table:
        """customer_id, order_id, product_id, category, channel, coupon (0 or 1), second, age, bought, returned (flags),
        quantity, amount, gross, discount (decimal, shop currency, null where there is no rate), price, usual_price (see
        browsing.priced_products)."""
        return self.keep("lines", purchases.lines_of(self.tables, self._headers, self.products, self.shop))

    @cached_property
    def orders(self) -> ir.Table:
        """customer_id, order_id, second, age, amount, quantity, channel; coupon, discounted (0 or 1)."""
        return self.keep("orders", purchases.orders_of(self.lines))

    @cached_property
    def visits(self) -> ir.Table:
        """customer_id, day_age, gap: one row a day with a purchase; gap in days to the purchase day before."""
        return purchases.visits_of(self.orders)

    @cached_property
    def local_orders(self) -> ir.Table:
        """customer_id, weekend, holiday, gift_time (0 or 1): one row a purchase of the last year, local time."""
        holidays = calendar.holiday_days(self.holidays)
        return purchases.local_orders_of(
            self.orders, self.tables("customers"), holidays, self.zones, self.as_of, self.shop
        )

    @cached_property
    def bought_categories(self) -> ir.Table:
        """customer_id, category, lines: one row a category bought."""
        return purchases.bought_categories_of(self.lines)

    @cached_property
    def events(self) -> ir.Table:
        """customer_id, event_name, session_id, product_id, query, results_count, channel, second, age."""
        return browsing.events_of(self.tables("events"), self.as_of)

    @cached_property
    def sessions(self) -> ir.Table:
        """customer_id, session_id, age (of the last event), length (seconds), events, and 0 or 1 for viewed, searched,
        carted, checked_out, purchased: one row a session of the last 90 days."""
        return browsing.sessions_of(self.events)

    @cached_property
    def interests(self) -> ir.Table:
        """customer_id, category, views, products, price, usual_price (sums over views): one row a category viewed."""
        return browsing.interests_of(self.events, self.products)

    @cached_property
    def habits(self) -> ir.Table:
        """customer_id, clock (seconds since local midnight), weekend (0 or 1): one row an event of the last 90 days."""
        return browsing.habits_of(self.events, self.zones, self.as_of, self.shop)

    @cached_property
    def messages(self) -> ir.Table:
        """customer_id, message_id, channel, age, and flags: clicked, after_click, after_answer (sent after the last
        click, after the newest message that was opened or clicked; true where there is none)."""
        return messages.messages_of(self._sent, self.reactions, self.as_of)

    @cached_property
    def reactions(self) -> ir.Table:
        """customer_id, message_id, event, second, age: what people did with messages (opened, clicked, ...)."""
        return messages.reactions_of(self._sent, self.tables("message_events"), self.as_of)

    @cached_property
    def devices(self) -> ir.Table:
        """customer_id, platform, push (flag)."""
        return customers.devices_of(self.tables("devices"))

    @cached_property
    def coupons(self) -> ir.Table:
        """customer_id, used, open (0 or 1): one row a coupon issued to the customer."""
        return customers.coupons_of(self.tables("coupons"), self.as_of)

    @cached_property
    def surroundings(self) -> ir.Table:
        """customer_id, days_to_holiday, days_to_festival, weather, temperature, precipitation: one row a customer."""
        ahead = calendar.days_ahead(self.holidays, self.as_of, self.shop)
        weather = calendar.weather_of(self.tables("external"), self.as_of, self.shop)
        return customers.surroundings_of(self.customers, self.tables("customers"), ahead, weather, self.shop.country)

    @cached_property
    def zones(self) -> Zones:
        return customer_zones(self.tables("customers"), self.shop)

    @cached_property
    def _headers(self) -> ir.Table:
        return purchases.headers_of(self.tables("orders"), self.as_of)

    @cached_property
    def products(self) -> ir.Table:
        """product_id, category, price, usual_price (see browsing.priced_products)."""
        return browsing.priced_products(self.tables("products"))

    @cached_property
    def _sent(self) -> ir.Table:
        return messages.sent_by(self.tables("messages_history"), self.as_of)

    @cached_property
    def holidays(self) -> calendar.Calendar:
        """The holidays around as_of of the countries that customers live in."""
        if self.known_holidays is not None:
            return self.known_holidays
        theirs = self.tables("customers")
        named = theirs.filter(theirs.country.notnull()).select("country").distinct().to_pyarrow()
        countries = {*named["country"].to_pylist(), self.shop.country}
        return calendar.holidays_of(self.tables("external"), countries, self.as_of, self.shop)


def gather(tables: Tables, as_of: datetime, shop: Shop) -> Facts:
    """Facts as of a date from the contract's tables."""
    return Facts(tables, as_of, shop)


def uncounted_orders(facts: Facts) -> ir.IntegerScalar:
    """How many purchases lack a rate into the shop's currency; their money is in no feature."""
    return facts.orders.filter(facts.orders.amount.isnull()).count()
