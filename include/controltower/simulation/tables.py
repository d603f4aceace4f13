"""Columns of numbers to the contract's tables, and those to files."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from controltower.data.contract import CONTRACT
from controltower.simulation import browsing
from controltower.simulation.catalogue import Catalogue, versions
from controltower.simulation.people import STORE
from controltower.simulation.registers import CHANNELS, DAY, STORES, customer_ids
from controltower.simulation.world import SECOND, Columns, World

SHOP_URL = "https://haru.example"
CURRENCY = "KRW"
STATUS = np.array(["placed", "cancelled", "returned"], dtype=object)
BROKEN_NAME, BROKEN_TIME, BROKEN_VALUE = 1, 2, 3  # how an event row is broken on purpose
FAR_FUTURE = 4_070_908_800 * SECOND  # 2099-01-01


def table(name: str, columns: dict[str, object]) -> pa.Table:
    """A contract table: the given columns in their types, the others empty. Required columns may hold nothing: the rows
    broken on purpose do."""
    fields, arrays = [], []
    for field in CONTRACT[name].schema:
        values = columns.get(field.name)
        fields.append(field.with_nullable(True))
        length = len(next(iter(columns.values())))  # type: ignore[arg-type]
        arrays.append(pa.nulls(length, field.type) if values is None else _typed(values, field.type))
    return pa.table(arrays, schema=pa.schema(fields, metadata=CONTRACT[name].schema.metadata))


def _typed(values: object, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
    if pa.types.is_decimal(kind):
        array = pc.cast(array, pa.int32())  # whole KRW; Arrow takes no int64 to 18 digits
    return pc.cast(array, kind)


def write(folder: Path, name: str, rows: pa.Table) -> int:
    """Write `folder/name.parquet`, replacing it whole. Returns the number of rows."""
    path = folder / f"{name}.parquet"
    fresh = path.with_name(f".{path.name}.new")
    pq.write_table(rows, fresh, compression="zstd")
    fresh.replace(path)
    return rows.num_rows


def _dated(world: World, letter: str, day: np.ndarray, number: np.ndarray, width: int) -> pa.Array:
    """Ids such as O260131-0007: a letter, the date, the number within it."""
    days = [f"{letter}{world.day(d):%y%m%d}-" for d in range(int(day.max()) + 1)] if len(day) else [""]
    return pc.binary_join_element_wise(
        pa.array(days).take(pa.array(day)), pc.utf8_lpad(pc.cast(pa.array(number), pa.string()), width, "0"), ""
    )


def order_ids(world: World, day: np.ndarray, number: np.ndarray) -> pa.Array:
    return _dated(world, "O", day, number + 1, 4)


def _words(texts: list[str] | np.ndarray, code: np.ndarray) -> pa.Array:
    """The text of each code; empty where the code is negative."""
    return pa.array(texts, pa.string()).take(pa.array(code, mask=code < 0))


def visitors(code: np.ndarray) -> np.ndarray:
    """Opaque visitor ids: the code, mixed (splitmix64)."""
    with np.errstate(over="ignore"):
        z = code.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.array([f"v-{x:016x}" for x in z.tolist()], dtype=object)


def events(world: World, e: Columns) -> pa.Table:
    """The events of all days; `day` and `number` (within the day) make the id, `broken` says what is wrong with it."""
    catalogue, p = world.catalogue, world.parameters
    queries = [q for c in p.categories.values() for q in c.queries]
    queries += [f"{q[:-1]}ㅇ" for q in queries]  # misspelt
    query = np.where(e["query"] <= -2, -2 - e["query"] + len(queries) // 2, e["query"])
    lists = [f"category-{k}" for k in p.keys] + [collection_id(world, w) for w in range(len(catalogue.collection))]
    urls = _urls(catalogue)
    in_store = e["channel"] == STORE
    code, back = np.unique(e["visitor"], return_inverse=True)
    people, known = np.unique(np.where(e["logged"] == 1, e["who"], 0), return_inverse=True)
    broken = e["broken"]
    name = np.where(broken == BROKEN_NAME, -1, e["name"])
    occurred = np.where(broken == BROKEN_TIME, FAR_FUTURE, e["time"])
    value = np.where(broken == BROKEN_VALUE, -np.maximum(e["value"], 1), e["value"])
    no_value = (e["value"] < 0) & (broken != BROKEN_VALUE)
    order = order_ids(world, e["day"], np.maximum(e["order"], 0))
    session = _dated(world, "S", e["day"], e["session"], 5)
    return table("events", {
        "event_id": _dated(world, "E", e["day"], e["number"], 6), "occurred_at": occurred, "received_at": e["received"],
        "event_name": _words(list(browsing.NAMES), name),
        "visitor_id": _words(visitors(code), np.where(in_store, -1, back)),
        "customer_id": pa.array(customer_ids(people)).take(pa.array(known)),
        "session_id": pc.if_else(pa.array(in_store), None, session),
        "product_id": _words(catalogue.ids, e["product"]),
        "order_id": pc.if_else(pa.array(e["order"] < 0), None, order),
        "query": _words(queries, query), "results_count": pa.array(e["results"], mask=e["results"] < 0),
        "list_id": _words(lists, e["list"]), "position": pa.array(e["position"], mask=e["position"] < 0),
        "value": pa.array(value, mask=no_value), "quantity": pa.array(e["quantity"], mask=e["quantity"] < 0),
        "channel": _words(CHANNELS, e["channel"]),
        "store_id": _words([f"S{s + 1:02d}" for s in range(STORES)], np.where(in_store, e["who"] % STORES, -1)),
        "page_url": _words(urls, np.where(e["name"] == browsing.VIEW, e["product"], -1)),
    })  # fmt: skip


def identities(e: Columns, until: int) -> pa.Table:
    """The first time each visitor was seen logged in: kind login, with both the customer and the visitor."""
    i = np.flatnonzero((e["logged"] == 1) & (e["channel"] != STORE) & (e["time"] <= until))
    found = pd.DataFrame({"visitor": e["visitor"][i], "who": e["who"][i], "time": e["time"][i]})
    found = found.sort_values(["time", "visitor"]).drop_duplicates(["visitor", "who"])
    who = found["who"].to_numpy()
    return table("identities", {
        "kind": np.full(len(who), "login", dtype=object), "value": [f"haru{i:06d}" for i in who.tolist()],
        "customer_id": customer_ids(who), "visitor_id": visitors(found["visitor"].to_numpy()), "seen_at": found["time"],
    })  # fmt: skip


def orders(world: World, o: Columns) -> pa.Table:
    code = [f"PAYDAY{world.day(d):%y%m}" for d in range(int(o["day"].max(initial=0)) + 1)]
    coupon = np.array([None, "WELCOME10", ""], dtype=object)[o["coupon"]]
    coupon = np.where(o["coupon"] == 2, np.array(code, dtype=object)[o["day"]], coupon)
    in_store = o["channel"] == STORE
    return table("orders", {
        "order_id": order_ids(world, o["day"], o["number"]), "ordered_at": o["placed"], "updated_at": o["updated"],
        "customer_id": customer_ids(o["who"]), "status": STATUS[o["status"]], "channel": CHANNELS[o["channel"]],
        "store_id": _words([f"S{s + 1:02d}" for s in range(STORES)], np.where(in_store, o["who"] % STORES, -1)),
        "currency": np.full(len(in_store), CURRENCY, dtype=object), "shipping": o["shipping"], "coupon_code": coupon,
    })  # fmt: skip


def order_lines(world: World, x: Columns) -> pa.Table:
    return table("order_lines", {
        "order_id": order_ids(world, x["day"], x["number"]), "line_no": x["line_no"], "updated_at": x["updated"],
        "product_id": world.catalogue.ids[x["product"]], "quantity": x["quantity"], "unit_price": x["price"],
        "discount": x["discount"], "unit_cost": world.catalogue.unit_cost[x["product"]],
    })  # fmt: skip


def products(world: World, until: int) -> pa.Table:
    catalogue = world.catalogue
    last = len(world.people.sizes) - 1
    v = versions(catalogue, last)
    i, midnight = v["product"].to_numpy(), _shop_midnight(world)
    at = midnight + v["day"].to_numpy() * DAY + 300 * SECOND  # five past midnight
    available = midnight + catalogue.first_day[i] * DAY
    keep = at <= until
    i, at, available, v = i[keep], at[keep], available[keep], v[keep]
    paths = np.array([c.path for c in world.parameters.categories.values()], dtype=object)
    price = v["price"].to_numpy()
    return table("products", {
        "product_id": catalogue.ids[i], "updated_at": at, "title": catalogue.titles[i],
        "category": paths[catalogue.category[i]], "brand": catalogue.brands[i], "price": price,
        "currency": np.full(len(i), CURRENCY, dtype=object), "unit_cost": catalogue.unit_cost[i],
        "margin_rate": np.round(1 - catalogue.unit_cost[i] / price, 4), "url": _urls(catalogue)[i],
        "image_url": np.array([f"{SHOP_URL}/images/{x}.jpg" for x in catalogue.ids], dtype=object)[i],
        "in_stock": v["in_stock"].to_numpy(), "available_from": available,
    })  # fmt: skip


def _urls(catalogue: Catalogue) -> np.ndarray:
    return np.array([f"{SHOP_URL}/products/{x}" for x in catalogue.ids], dtype=object)


def _shop_midnight(world: World) -> int:
    """The opening in the first origin's zone, which is the shop's, in microseconds."""
    return int(world.midnight(0)[0])


def collection_id(world: World, week: int) -> str:
    day: date = world.day(week * 7)
    return f"exhibition-{day:%y%m%d}"


def collections(world: World, until: int) -> tuple[pa.Table, pa.Table]:
    """One exhibition a week, and its products."""
    shown = world.catalogue.collection
    starts = _shop_midnight(world) + np.arange(len(shown)) * 7 * DAY
    weeks = np.flatnonzero(starts <= until)
    ids = np.array([collection_id(world, w) for w in weeks.tolist()], dtype=object)
    titles = []
    for w in weeks:
        on_sale = [c.path.rsplit(" > ", 1)[1] for c, r in zip(world.parameters.categories.values(),
                   world.catalogue.sale[w], strict=True) if r > 0]  # fmt: skip
        titles.append(f"{' · '.join(on_sale)} 기획전" if on_sale else "이번 주 기획전")
    exhibitions = table("collections", {
        "collection_id": ids, "updated_at": starts[weeks], "kind": np.full(len(weeks), "exhibition", dtype=object),
        "title": titles, "url": [f"{SHOP_URL}/collections/{i}" for i in ids], "starts_at": starts[weeks],
        "ends_at": starts[weeks] + 7 * DAY,
    })  # fmt: skip
    size = shown.shape[1]
    members = table("collection_products", {
        "collection_id": np.repeat(ids, size), "product_id": world.catalogue.ids[shown[weeks].ravel()],
        "updated_at": np.repeat(starts[weeks], size), "position": np.tile(np.arange(1, size + 1), len(weeks)),
    })  # fmt: skip
    return exhibitions, members
