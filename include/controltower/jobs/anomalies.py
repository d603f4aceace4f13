"""Loads of the shop's data that are too odd for campaigns to go on with: found at ingest, shown, accepted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.campaigns import preflight
from controltower.campaigns.preflight import Odd
from controltower.errors import BadSettings
from controltower.jobs.control import COMMAND_LINE
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.data.anomalies import Load
    from controltower.data.gate import Interval


def look_over_load(
    conf: Settings, source: str, interval: Interval, brought: Mapping[str, Load], *, compared: bool = True
) -> list[Odd]:
    """Keep what a load brought, and return what is odd about it.

    A table that the source handed over before, and not now, brought no rows. Not `compared`: it comes in bits.
    """
    from controltower.data import weekdays
    from controltower.data.anomalies import Load, anomalies
    from controltower.data.lake import Lake
    from controltower.ledger import loads
    from controltower.ledger.database import begin, reading

    end = min(interval.end, interval.now)
    found: list[Odd] = []
    rows = []
    with reading(conf) as ledger:
        before = loads.last_of_each(ledger, source) if compared else {}
    for table in dict.fromkeys([*brought, *before]):
        today = brought.get(table, Load(interval.start, end, 0))
        earlier = [x for key, x in before.get(table, {}).items() if key != interval.key and x.end <= end]

        def weekday(table: str = table) -> float | None:
            start = interval.start
            return weekdays.usual(Lake(conf), table, start, end, interval.zone) if start else None

        odd = [
            {"table": table, "interval": interval.key, "at": end.isoformat(), **o}
            for o in anomalies(today, earlier, weekday)
        ]
        found += odd
        rows.append(
            {
                "loaded_at": interval.now, "source": source, "table_name": table, "interval": interval.key,
                "starts_at": interval.start, "ends_at": end, "rows": today.rows, "keys": today.keys,
                "filled": dict(today.filled), "newest": today.newest, "odd": odd, "is_odd": bool(odd),
            }
        )  # fmt: skip
    with begin(conf) as ledger:
        loads.record(ledger, rows)
    return found


def standing(ledger: sa.Connection, shop: Shop, now: datetime) -> list[Odd]:
    """What stops campaigns now: odd loads that nobody mended or accepted, and tables whose newest fact is too old."""
    from controltower.ledger import loads

    newest = loads.newest(ledger)
    odd: list[Odd] = [o for found in loads.standing(ledger) for o in found.odd]
    for table, hours in shop.data_stale_hours.items():
        if table in newest and not shop.recorded_orders:
            odd += preflight.stale({table: newest[table]}, now, timedelta(hours=hours))
    return odd


def tell(shop: Shop, odd: Odd, language: str = "en") -> str:
    return preflight.tell(odd, shop.zone, language)


def list_anomalies() -> dict[str, Any]:
    """What stops campaigns now: {anomalies: [table, interval, what]}; what is stale has no interval."""
    from controltower.ledger.database import reading

    conf = settings.load()
    shop = settings.load_shop(conf)
    with reading(conf) as ledger:
        odd = standing(ledger, shop, clock.now(conf))
    return {"anomalies": [{"table": o["table"], "interval": o.get("interval"), "what": tell(shop, o)} for o in odd]}


def accept_data(table: str, why: str, by: str = COMMAND_LINE, interval: str | None = None) -> dict[str, Any]:
    """Say that what a load brought of a table is right: campaigns go on, and the same isn't odd for a while.

    Of one interval, or all that stand. Returns {accepted: [table, interval, what]}; BadSettings where nothing stands.
    """
    from controltower.ledger import loads
    from controltower.ledger.database import begin

    conf = settings.load()
    shop = settings.load_shop(conf)
    with begin(conf) as ledger:
        found = [s for s in loads.standing(ledger) if s.table == table and interval in (None, s.interval)]
        if not found:
            raise BadSettings(
                f"Nothing odd about {table} waits to be accepted.",
                "`controltower data anomalies` lists what does. What is stale can't be accepted: load newer data, or"
                " raise data_stale_hours in shop.yaml.",
            )
        loads.accept(ledger, [s.load_id for s in found], by, why, clock.now(conf))
    return {
        "accepted": [
            {"table": s.table, "interval": s.interval, "what": "; ".join(tell(shop, o) for o in s.odd)} for s in found
        ]
    }
