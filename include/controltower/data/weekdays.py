"""What the same hours of the weeks before brought, by the times of what the lake holds: who is closed on Saturdays
has no rows on one, and that isn't odd."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb

from controltower.data.contract import CONTRACT
from controltower.data.lake import Lake
from controltower.data.scratch import bounded, bounds, scratch
from controltower.data.sql import listed, literal, quoted

WEEKS = 13  # that are looked back
FEWEST = 4  # of them in which anything happened
_WEEK = timedelta(days=7)


def usual(lake: Lake, table: str, start: datetime, end: datetime, zone: str) -> float | None:
    """A table's rows in these hours of a week of the shop's clock, on average of the weeks before in which there were
    any at all. None where fewer than FEWEST such weeks are known, or the hours are more than a week's.
    """
    contract, first = CONTRACT[table], start - WEEKS * _WEEK
    known = [p for p in lake.manifest().parts(table) if p.rows]
    # the day before and after: a part's date is by UTC
    low, high = ((at + timedelta(days=days)).date().isoformat() for at, days in ((first, -1), (start, 1)))
    files = lake.store.local(p.file for p in known if p.date is None or low <= p.date <= high)
    if not files or end - start > _WEEK:
        return None
    at = f"epoch(timezone({literal(zone)}, {quoted(contract.happened or contract.known)}))"
    local = start.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    week, length = _WEEK.total_seconds(), (end - start).total_seconds()
    query = f"""
        WITH seen AS (
            SELECT epoch(TIMESTAMP '{local}') - {at} AS ago FROM read_parquet({listed(files)})
            WHERE ago > 0 AND ago <= {WEEKS * week})
        SELECT count(*) FILTER (WHERE ceil(ago / {week}) * {week} - ago < {length}), count(DISTINCT ceil(ago / {week}))
        FROM seen WHERE ago <= (SELECT floor(max(ago) / {week}) * {week} FROM seen)"""  # whole weeks
    with scratch(lake.settings) as folder, duckdb.connect(config=bounds(lake.settings, folder)) as con, bounded():
        rows, weeks = con.execute(query).fetchall()[0]
    return rows / weeks if weeks >= FEWEST else None
