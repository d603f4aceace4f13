"""Make a shop: the days in a row, and its files in the contract's form."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from controltower.errors import BadSettings
from controltower.simulation import behaviour, browsing, catalogue, people, registers, tables
from controltower.simulation.parameters import Parameters
from controltower.simulation.truth import NOTE, TRUTH, read_note
from controltower.simulation.world import SECOND, Columns, State, World


def generate(folder: Path, *, until: datetime, parameters: Parameters, seed: int) -> dict[str, int]:
    """Write everything the shop knows at `until` into `folder`, one Parquet file a table; returns rows by table.

    The same parameters, seed and `until` give the same rows. A later `until` gives the same rows and more, as long as
    the opening day stays: where `parameters.opened` is null, a folder that already holds a shop of this seed keeps its
    opening day, and a fresh one takes the start of a month. Beside the tables, `truth/` holds what no shop knows.
    Raises BadSettings where `until` has no zone or lies before the opening.
    """
    if until.tzinfo is None:
        raise BadSettings("The simulated shop's `until` has no time zone.", "Write 2026-06-15T07:00:00+09:00.")
    opened = parameters.opened or _kept_opening(folder, parameters, seed, until) or opening(until, parameters)
    now = round(until.timestamp() * SECOND)
    world = make_world(parameters, seed, opened, until)
    state = State.first(world)
    log = _live_all(world, state)

    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRUTH).mkdir(exist_ok=True)
    _keep_note(folder, opened, seed, parameters)
    written = {name: tables.write(folder, name, rows) for name, rows in _tables(world, state, log, now).items()}
    tables.write(folder / TRUTH, "truth", _truth(world, state, now))
    tables.write(folder / TRUTH, "products", _product_truth(world))
    return written


def opening(until: datetime, parameters: Parameters) -> date:
    """The last first of a month at least `days` days before `until`: it seldom moves when `until` does."""
    return (_local_day(until, parameters) - timedelta(days=parameters.days)).replace(day=1)


def make_world(parameters: Parameters, seed: int, opened: date, until: datetime) -> World:
    """Everything that stays the same, up to the day after `until` (some customers' day begins before the shop's)."""
    last = (_local_day(until, parameters) - opened).days + 1
    if last < 2:
        raise BadSettings(
            f"The simulated shop opens on {opened}, which is not before {until.date()}.",
            "Choose a later time, or an earlier `opened` in simulation/parameters.yaml.",
        )
    goods = catalogue.make(parameters, seed, last // 7 + 1)
    everyone = people.make(parameters, seed, last)
    return World(
        parameters=parameters, seed=seed, opened=opened, people=everyone, catalogue=goods,
        liking=people.liking(everyone, goods, parameters), appetite=np.cumsum(everyone.taste, axis=1),
    )  # fmt: skip


def _local_day(moment: datetime, parameters: Parameters) -> date:
    return moment.astimezone(ZoneInfo(parameters.origins[0].timezone)).date()


def _kept_opening(folder: Path, parameters: Parameters, seed: int, until: datetime) -> date | None:
    kept = read_note(folder)
    if not kept:
        return None
    opened = date.fromisoformat(kept["opened"])
    enough = (_local_day(until, parameters) - opened).days >= parameters.days
    return opened if kept["seed"] == seed and enough else None


def _keep_note(folder: Path, opened: date, seed: int, parameters: Parameters) -> None:
    made = {"seed": seed, "customers": parameters.customers, "effect": parameters.answers.effect}
    fresh = folder / TRUTH / f".{NOTE}.new"
    fresh.write_text(json.dumps({"opened": opened.isoformat()} | made), encoding="utf-8")
    fresh.replace(folder / TRUTH / NOTE)


class _Log:
    """What the days leave: columns by table, and the monthly looks at loyalty and devices."""

    def __init__(self) -> None:
        self.events: list[Columns] = []
        self.orders: list[Columns] = []
        self.lines: list[Columns] = []
        self.loyalty: list[pd.DataFrame] = []
        self.seen: list[pd.DataFrame] = []


def _live_all(world: World, state: State) -> _Log:
    log = _Log()
    for day in range(len(world.people.sizes)):
        if world.day(day).day == 1 and day > 0:
            _look_monthly(world, state, day, log)
        events, orders, lines = behaviour.live(world, state, day)
        size = len(events["time"])
        events |= {"day": np.full(size, day), "number": np.arange(size), "broken": _broken(world, day, events["name"])}
        log.events.append(events)
        log.orders.append(orders)
        log.lines.append(lines)
    return log


def _broken(world: World, day: int, name: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([world.seed, 7, day])
    hit = (rng.random(len(name)) < world.parameters.broken_share) & (name == browsing.VIEW)
    return np.where(hit, rng.integers(tables.BROKEN_NAME, tables.BROKEN_VALUE + 1, len(name)), 0)


def _look_monthly(world: World, state: State, day: int, log: _Log) -> None:
    """On the first of a month, at 20:00 of the shop: tiers and points of those who bought, devices that were used.

    By then the day before is over in every zone.
    """
    money = world.parameters.money
    at = int(world.midnight(day)[0]) + 20 * 3600 * SECOND
    bought = np.flatnonzero((state.bought_on >= day - 31) & (np.arange(world.people.size) > 0))
    tiers = sorted((amount, name) for name, amount in money.tiers.items())
    rank = np.searchsorted([amount for amount, _ in tiers], state.spent[bought], side="right")
    tier = np.array(["basic", *(name for _, name in tiers)], dtype=object)[rank]
    points = np.floor(state.spent[bought] * money.points_rate)
    log.loyalty.append(pd.DataFrame({"who": bought, "updated_at": at, "points": points, "loyalty_tier": tier}))
    used = np.flatnonzero((state.app_seen >= at - 32 * 86400 * SECOND) & (state.signed_up_at < state.app_seen))
    used = used[used > 0]
    log.seen.append(pd.DataFrame({"who": used, "at": at, "last_seen_at": state.app_seen[used]}))


def _tables(world: World, state: State, log: _Log, now: int) -> dict[str, pa.Table]:
    """Every contract table, holding only what was known by then (microseconds)."""
    every = _joined(log.events)
    renewals = pd.concat(log.loyalty) if log.loyalty else pd.DataFrame(columns=["who"])
    seen = pd.concat(log.seen) if log.seen else pd.DataFrame({"who": [], "at": [], "last_seen_at": []}, dtype=np.int64)
    customers = registers.customers(world, state, renewals)
    customers = customers[(customers["updated_at"] <= now) & (customers["signed_up_at"] <= now)]
    exhibitions, members = tables.collections(world, now)
    return {
        "customers": tables.table("customers", dict(customers.items())),  # type: ignore[arg-type]
        "consents": tables.table("consents", dict(registers.consents(world, state, now).items())),  # type: ignore[arg-type]
        "devices": tables.table("devices", dict(registers.devices(world, state, seen, now).items())),  # type: ignore[arg-type]
        "products": tables.products(world, now),
        "events": tables.events(world, _until(every, "received", now)),
        "orders": tables.orders(world, _until(_joined(log.orders), "updated", now)),
        "order_lines": tables.order_lines(world, _until(_joined(log.lines), "updated", now)),
        "collections": exhibitions,
        "collection_products": members,
        "identities": tables.identities(every, now),
    }


def _joined(days: list[Columns]) -> Columns:
    return {name: np.concatenate([d[name] for d in days]) for name in days[0]}


def _until(columns: Columns, known: str, now: int) -> Columns:
    keep = columns[known] <= now
    return {name: values[keep] for name, values in columns.items()}


def _truth(world: World, state: State, now: int) -> pa.Table:
    rows = pa.Table.from_pandas(registers.truth(world, state, now), preserve_index=False)
    rows = rows.set_column(
        rows.schema.get_field_index("fades_at"), "fades_at", rows["fades_at"].cast(pa.timestamp("us", tz="UTC"))
    )
    paths = [c.path for c in world.parameters.categories.values()]
    return rows.replace_schema_metadata({"categories": json.dumps(paths, ensure_ascii=False)})


def _product_truth(world: World) -> pa.Table:
    c = world.catalogue
    return pa.table({
        "product_id": c.ids, "category": pa.array(c.category), "popularity": c.popularity, "style": list(c.style),
        "companion_product_id": c.ids[c.companion],
        "first_sold": [world.day(d) for d in c.first_day],
    })  # fmt: skip
