"""Withdrawals of consent in rows that aren't loaded. Here a load fails closed: who may have said no is not written to.

A row that breaks a rule (an empty source, a clock that is ahead) may be somebody's withdrawal all the same, and the law
(Korea's Network Act, article 50(2)) doesn't ask how it was written. What the row doesn't tell is taken at its widest.
All of it is read from the gate's table `checked_consents`, before quarantine masks anything.
"""

from __future__ import annotations

from datetime import datetime

import duckdb
import pyarrow as pa

from controltower.data.contract import CONTRACT
from controltower.data.erased import ERASED
from controltower.data.gate import Checked
from controltower.data.rules import PURPOSES, WORD, moment
from controltower.data.sql import listed, literal, quoted

TABLE = "consents"

_CHANNELS = ["email", "push", "in_app"]  # where a row's own channel can't be read
_PURPOSES = ["marketing", "night_marketing"]  # likewise
_SOURCE = "quarantine"

_MAY_BE = "customer_id IS NOT NULL AND granted IS NOT true"


def held_back(con: duckdb.DuckDBPyConnection, now: datetime) -> pa.Table:
    """The withdrawals of a load that is published: in rows that break a rule, and in those after its end that are known
    by now. A row may be one unless it clearly grants. Columns of the contract; no time is later than `now`."""
    return _read(con, now, f"_rule NOT IN (0, {ERASED}) AND {_MAY_BE}")


def of_refused(con: duckdb.DuckDBPyConnection, now: datetime) -> pa.Table:
    """The withdrawals of a load that is refused: in all its rows, but only clear ones. Its file will come again, and a
    `granted` that can't be read may be the very thing that is wrong with all of it."""
    return _read(con, now, f"_rule <> {ERASED} AND customer_id IS NOT NULL AND NOT granted")


def notes(con: duckdb.DuckDBPyConnection, checked: Checked) -> list[str]:
    """What the report says of the bad rows: how many count as withdrawals, and in how many nobody can be named."""
    (taken, unnamed) = con.execute(f"""
        SELECT count(*) FILTER ({_MAY_BE}), count(*) FILTER (customer_id IS NULL AND granted IS NOT true)
        FROM checked_{TABLE} WHERE _rule > 0""").fetchall()[0]
    unnamed += sum(len(group.bad_lines) for group in checked.groups)
    found = []
    if taken:
        found.append(f"{taken:,} quarantined rows count as withdrawals: nobody is written to against them")
    if unnamed:
        found.append(f"{unnamed:,} quarantined rows name no customer: a withdrawal among them can't be heeded")
    return found


def _read(con: duckdb.DuckDBPyConnection, now: datetime, which: str) -> pa.Table:
    columns = ", ".join(quoted(c.name) for c in CONTRACT[TABLE].columns)
    # A row that may be a grant counts just before its time: once mended it has the same time, where a withdrawal wins.
    at = "CASE WHEN granted IS NULL THEN recorded_at - INTERVAL 1 MICROSECOND ELSE recorded_at END"
    rows = con.sql(f"""
        SELECT {columns} FROM (
            SELECT * REPLACE (
                word AS channel, aim AS purpose, false AS granted, coalesce(source, {literal(_SOURCE)}) AS source,
                CASE WHEN recorded_at <= {moment(now)} THEN {at} ELSE {moment(now)} END AS recorded_at)
            FROM checked_{TABLE},
                 unnest(CASE WHEN regexp_matches(channel, {literal(WORD)}) THEN [channel]
                             ELSE {listed(_CHANNELS)} END) AS _channels(word),
                 unnest(CASE WHEN purpose IN {PURPOSES} THEN [purpose] ELSE {listed(_PURPOSES)} END) AS _purposes(aim)
            WHERE {which})""")
    return rows.to_arrow_table().cast(CONTRACT[TABLE].schema)
