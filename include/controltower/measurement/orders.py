"""Orders as measurement counts them: one row an order, with what it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

_WIDE = "decimal(28,4)"  # DuckDB multiplies two decimal(18) into one
MONEY = "decimal(18,4)"


def counted(orders: ir.Table, lines: ir.Table) -> ir.Table:
    """customer_id, order_id, ordered_at, currency, bought, revenue of known customers' orders that were not cancelled.

    `orders` and `lines` are the contract's tables as of a moment; `revenue` is decimal, in the order's currency:
    quantity * unit_price - discount, and the reverse for a returned line. An order returned as a whole comes to nothing
    at most. `bought`: something was paid for; a return booked as a document of its own is no order, only a subtraction.
    """
    kept = orders.filter(orders.customer_id.notnull(), orders.status.fill_null("placed") != "cancelled")
    kept = kept.select("customer_id", "order_id", "ordered_at", "currency", "status")
    sold = lines.select("order_id", "quantity", "unit_price", "discount").inner_join(kept, "order_id")
    gross = (sold.quantity.cast(_WIDE) * sold.unit_price).cast(MONEY)
    discount = sold.discount.fill_null(0).cast(MONEY)
    net = gross - ibis.ifelse(sold.quantity < 0, -discount, discount)
    sold = sold.mutate(net=net, paid=(sold.quantity > 0) & (sold.unit_price > 0))
    by_order = sold.group_by(["customer_id", "order_id", "ordered_at", "currency", "status"]).aggregate(
        net=sold.net.sum().cast(MONEY), bought=sold.paid.any()
    )
    nothing = ibis.literal(0).cast(MONEY)
    returned = by_order.status.fill_null("placed") == "returned"
    return by_order.select(
        "customer_id", "order_id", "ordered_at", "currency", "bought",
        revenue=ibis.ifelse(returned, ibis.least(by_order.net, nothing), by_order.net),
    )  # fmt: skip
