"""What programs post of behaviour, in the forms they speak: ours, GA4's Measurement Protocol, Segment's tracking API.

Each becomes rows of the contract's `events`, a product each. What a row has beyond the contract goes into `attributes`;
what is wrong with it (no time, no name, ...) is for the gate to find: nothing is dropped here.
https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference
https://segment.com/docs/connections/spec/ecommerce/v2/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from controltower.data.contract import CONTRACT

Row = dict[str, Any]

_COLUMNS: Final = frozenset(c.name for c in CONTRACT["events"].columns)

# Segment's names of what happens in a shop -> GA4's
_NAMES: Final = {
    "products searched": "search",
    "product list viewed": "view_item_list",
    "product list filtered": "view_item_list",
    "promotion viewed": "view_promotion",
    "promotion clicked": "select_promotion",
    "product clicked": "select_item",
    "product viewed": "view_item",
    "product added": "add_to_cart",
    "product removed": "remove_from_cart",
    "cart viewed": "view_cart",
    "checkout started": "begin_checkout",
    "checkout step completed": "checkout_progress",
    "payment info entered": "add_payment_info",
    "order completed": "purchase",
    "order refunded": "refund",
    "product added to wishlist": "add_to_wishlist",
    "product shared": "share",
    "coupon denied": "coupon_failed",
    "signed up": "sign_up",
    "signed in": "login",
}
# what others call our columns: of an event, then of a product in it
_OF_EVENT: Final = {
    "search_term": "query", "transaction_id": "order_id", "ga_session_id": "session_id", "item_list_id": "list_id",
    "page_location": "page_url", "page_referrer": "referrer", "url": "page_url", "revenue": "value", "total": "value",
}  # fmt: skip
_OF_PRODUCT: Final = {
    "item_id": "product_id", "id": "product_id", "index": "position", "item_list_id": "list_id", "price": "value",
}  # fmt: skip


def rows(body: bytes, received_at: datetime) -> Iterator[Row]:
    """The events of a body that was posted then. Raises ValueError where it holds none of the forms."""
    for row in _events(orjson.loads(body), received_at):
        row["received_at"] = received_at.isoformat()
        yield {name: value for name, value in row.items() if value is not None and value != ""}


def _events(told: Any, received_at: datetime) -> Iterator[Row]:
    match told:
        case {"batch": list(calls)}:
            for call in calls:
                yield from _segment({**_kept(told, "sentAt", "context"), **_mapping(call)}, received_at)
        case {"type": str()} if "event_name" not in told:
            yield from _segment(told, received_at)
        case {"events": list(events)} if "client_id" in told or "app_instance_id" in told:
            for place, event in enumerate(events):
                yield from _ga4(told, _mapping(event), place, received_at)
        case {"events": list(events)} | list(events):
            yield from (_ours(_mapping(event)) for event in events)
        case {"event_name": _}:
            yield _ours(told)
        case _:
            raise ValueError("neither our form, nor GA4's, nor Segment's")


def _ours(event: Mapping[str, Any]) -> Row:
    attributes = event.get("attributes")
    row = {name: event[name] for name in event.keys() & _COLUMNS - {"attributes"}}
    more = {name: event[name] for name in event.keys() - _COLUMNS}
    return row | _attributes({**_mapping(attributes), **more})


def _ga4(body: Mapping[str, Any], event: Mapping[str, Any], place: int, received_at: datetime) -> Iterator[Row]:
    params = _mapping(event.get("params"))
    micros = event.get("timestamp_micros", body.get("timestamp_micros"))
    visitor = body.get("client_id") or body.get("app_instance_id")
    occurred = _of_micros(micros) if micros is not None else received_at.isoformat()
    # a body that is posted again has the same ids; GA4 has none of its own
    about = [visitor, body.get("user_id"), micros, place, event]
    head = {
        "event_id": hashlib.sha256(orjson.dumps(about, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32],
        "occurred_at": occurred,
        "event_name": event.get("name"),
        "visitor_id": visitor,
        "customer_id": body.get("user_id"),
        "channel": "app" if "app_instance_id" in body else "web",
    }
    yield from _by_product(head, params, params.get("items"))


def _segment(call: Mapping[str, Any], received_at: datetime) -> Iterator[Row]:
    properties, context = _mapping(call.get("properties")), _mapping(call.get("context"))
    page, kind = _mapping(context.get("page")), call.get("type")
    name = {"page": "page_view", "screen": "screen_view", "identify": "login", "alias": "login"}.get(str(kind))
    if name is None and isinstance(called := call.get("event"), str):
        name = _NAMES.get(called.strip().lower()) or _snake(called)
    head = {
        "event_id": call.get("messageId"),
        "occurred_at": _occurred(call, received_at),
        "event_name": name,
        "visitor_id": call.get("anonymousId") or (call.get("previousId") if kind == "alias" else None),
        "customer_id": call.get("userId"),
        "channel": "app" if kind == "screen" or context.get("device") else "web" if page or kind == "page" else None,
        "page_url": page.get("url"),
        "referrer": page.get("referrer"),
    }
    yield from _by_product(head, properties, properties.get("products"))


def _occurred(call: Mapping[str, Any], received_at: datetime) -> Any:
    """When it happened. A device whose clock is ahead tells by `sentAt` how long ago it was."""
    told = call.get("timestamp") or call.get("originalTimestamp")
    happened, sent = _time(told), _time(call.get("sentAt"))
    if told is None:
        return received_at.isoformat()
    if happened and sent and happened > received_at:
        return min(received_at - (sent - happened), received_at).isoformat()
    return told


def _by_product(head: Row, told: Mapping[str, Any], products: Any) -> Iterator[Row]:
    """A row for each product of an event, or one for an event without any."""
    rest = {name: value for name, value in told.items() if name not in ("items", "products")}
    found = [p for p in products if isinstance(p, Mapping)] if isinstance(products, list) else []
    whole = _named(rest, _OF_EVENT if found or "product_id" not in rest else _OF_EVENT | {"price": "value"})
    for number, product in enumerate(found):
        event_id = head["event_id"]
        its_id = f"{event_id}:{number}" if number and event_id else event_id
        yield _merged(head | {"event_id": its_id}, whole, _named(product, _OF_PRODUCT))
    if not found:
        yield _merged(head, whole)


def _merged(head: Row, *parts: Row) -> Row:
    """The last one that tells a column holds; of the head only what nobody tells otherwise, but for its ids."""
    row: Row = {name: value for name, value in head.items() if value is not None}
    more: Row = {}
    for part in parts:
        for name, value in part.items():
            if name not in _COLUMNS or name == "attributes":
                more[name] = value
            elif name not in ("event_id", "occurred_at", "event_name", "received_at"):
                row[name] = value
    return row | _attributes(more)


def _named(told: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """With our names; where both are there, ours holds."""
    theirs = {names[name]: value for name, value in told.items() if name in names}
    return theirs | {name: value for name, value in told.items() if name not in names}


def _attributes(more: Mapping[str, Any]) -> Row:
    return {"attributes": orjson.dumps(dict(more), option=orjson.OPT_NON_STR_KEYS).decode()} if more else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _kept(told: Mapping[str, Any], *names: str) -> Row:
    return {name: told[name] for name in names if name in told}


def _snake(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _of_micros(value: Any) -> Any:
    """As ISO 8601; what is no such number stays as it is, for the gate."""
    try:
        return datetime.fromtimestamp(int(value) / 1e6, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return value
