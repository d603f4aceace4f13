"""The contract's rules, as SQL over one row: how a value is read, and which rule a row breaks.

The SQL works on `r_<column>`, the raw value, and `<column>`, the value read, which is NULL where there is none or where
it can't be read; and on `_odd_keys`, see below. Quarantine quotes the rules' names.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import available_timezones

from controltower.data.contract import LONGEST_ID, Column, Table, Type
from controltower.data.sql import listed, literal, quoted, raw

EPOCH = "TIMESTAMPTZ '1970-01-01 00:00:00+00'"

_ISO_TIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}(:?\d{2})?)?)?$"
_ISO_DATE = r"^\d{4}-\d{2}-\d{2}([T ]00:00(:00(\.0+)?)?Z?)?$"
_EMAIL = r"^[^\s@<>()\[\],;:\"\\]+@([\p{L}\p{N}]([\p{L}\p{N}-]*[\p{L}\p{N}])?\.)+[\p{L}\p{N}-]{2,63}$"
_LOCALE = r"^[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?(-[A-Za-z0-9]{5,8})*$"  # BCP 47
WORD = r"^[a-z][a-z0-9_]*$"  # channels are an open set of words
_EVENT_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,39}$"  # what GA4 takes for a name

_EXCEL_DATE = r"^[2-7]\d{4}(\.\d+)?$"  # days since 1900, of 1954 to 2118
_LONG_FLOAT = r"^-?\d(\.\d+)?[eE]\+\d+$"  # 8.80123E+12: the last digits of an id are gone
_NO_KEY = "('nan', 'NaN', 'NAN', 'NaT', '<NA>', 'null', 'NULL', 'None', '#N/A')"  # one "customer" for all of them

_TRUE = "('true', 't', '1', 'yes', 'y')"
_FALSE = "('false', 'f', '0', 'no', 'n')"
PURPOSES = "('marketing', 'night_marketing', 'profiling', 'third_party_ads')"
_STATUSES = "('placed', 'cancelled', 'returned')"

# of whom and what lists and models are
_LISTED = frozenset("customer_id visitor_id product_id parent_product_id collection_id".split())
_WHATEVER = frozenset(("consents", "devices", "identities"))  # tables that tell who may be written to, and where

# times at which something has happened: never later than the interval's end
_PAST = frozenset(
    "updated_at received_at occurred_at ordered_at recorded_at seen_at sent_at last_seen_at signed_up_at".split()
)

# money may be negative where it flows back
_RETURN = {
    "order_lines": "quantity < 0",
    "orders": "status IN ('cancelled', 'returned')",
    "events": "event_name = 'refund'",
}

# when a row without a known-at is taken to have been known, in a load of history (SQL; NULL: from the beginning)
KNOWN_WHEN = {
    "events": "occurred_at",
    "message_events": "occurred_at",
    "orders": "ordered_at",
    "order_lines": "_ordered_at",
    "customers": f"coalesce(signed_up_at, {EPOCH})",
    "products": f"coalesce(CASE WHEN available_from < _end THEN available_from END, {EPOCH})",
    "listings": f"CASE WHEN valid_from < _end THEN valid_from ELSE {EPOCH} END",
    "costs": "timezone('UTC', CAST(date AS TIMESTAMP))",
    "exchange_rates": "timezone('UTC', CAST(date AS TIMESTAMP))",
    # a holiday is known long before, the weather isn't
    "external": f"CASE WHEN name = 'holiday' THEN {EPOCH} ELSE timezone('UTC', CAST(date AS TIMESTAMP)) END",
}


class Rule(NamedTuple):
    """A row breaks it where `broken` (SQL) holds; quarantine quotes the name and the raw value of the column."""

    name: str
    column: str
    broken: str


def moment(value: datetime) -> str:
    return f"TIMESTAMPTZ '{value.isoformat()}'"


def cleaned(value: str, kind: str) -> str:
    """The raw value, or NULL for what files write where there is none: blanks, and NaN among numbers."""
    if kind == "VARCHAR":
        return f"nullif(trim({value}), '')"
    if kind in ("DOUBLE", "FLOAT"):
        return f"CASE WHEN isfinite({value}) OR isinf({value}) THEN {value} END"  # NOT isnan: wrong by file statistics
    return value


def read(column: Column, kind: str, zone: str) -> str:
    """SQL that reads the raw value of a column, which comes as DuckDB type `kind`."""
    value = raw(column.name)
    text = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
    match column.type:
        case Type.KEY:
            return _key(value, kind)
        case Type.WORD:
            return f"lower({text})"
        case Type.TIME:
            return _time(value, kind, zone)
        case Type.DATE:
            if kind == "DATE":
                return value
            return f"CASE WHEN regexp_matches({text}, {literal(_ISO_DATE)}) THEN try_cast({text} AS DATE) END"
        case Type.MONEY:
            return f"try_cast({value} AS DECIMAL(18,4))"
        case Type.NUMBER:
            number = f"try_cast({value} AS DOUBLE)"
            return f"CASE WHEN isfinite({number}) THEN {number} END"
        case Type.INTEGER:
            if kind.endswith("INT") or kind in ("BIGINT", "INTEGER"):
                return f"try_cast({value} AS BIGINT)"
            number = f"try_cast({value} AS DOUBLE)"
            return f"CASE WHEN {number} = floor({number}) THEN try_cast({number} AS BIGINT) END"
        case Type.FLAG:
            if kind == "BOOLEAN":
                return value
            return f"CASE WHEN lower({text}) IN {_TRUE} THEN true WHEN lower({text}) IN {_FALSE} THEN false END"
        case Type.JSON:
            if kind.startswith(("STRUCT", "MAP")):
                return f"CAST(to_json({value}) AS VARCHAR)"
            return f"CASE WHEN json_valid({text}) THEN CASE WHEN json_type({text}) = 'OBJECT' THEN {text} END END"
    if column.name in ("country", "currency"):
        return f"upper({text})"
    return f"lower({text})" if column.name == "status" else text


def _key(value: str, kind: str) -> str:
    """Keys are text; a number that some table has made a float (17850.0) is the integer it was, `nan` is none."""
    if kind == "VARCHAR":
        whole = rf"regexp_replace({value}, '^(-?\d+)\.0+$', '\1')"
        none = f"strlen({value}) BETWEEN 3 AND 4 AND {value} IN {_NO_KEY}"
        return f"CASE WHEN contains({value}, '.0') THEN {whole} WHEN {none} THEN NULL ELSE {value} END"
    if kind in ("DOUBLE", "FLOAT"):
        whole = f"{value} = floor({value}) AND abs({value}) < 1e15"
        return f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) ELSE CAST({value} AS VARCHAR) END"
    return f"CAST({value} AS VARCHAR)"


def _time(value: str, kind: str, zone: str) -> str:
    """UTC. A naive time is the source's; an hour that the clocks skip is moved on, of a repeated one the second."""
    if kind.startswith("TIMESTAMPTZ") or kind.endswith("WITH TIME ZONE"):
        return f"CAST({value} AS TIMESTAMPTZ)"  # there is one of nanoseconds, too
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return f"timezone({literal(zone)}, CAST({value} AS TIMESTAMP))"
    text = value if kind == "VARCHAR" else f"CAST({value} AS VARCHAR)"
    # a cast to TIMESTAMP drops an offset, so it is only for what ends in Z or has none
    return (
        f"CASE WHEN NOT regexp_matches({text}, {literal(_ISO_TIME)}) THEN NULL"
        f" WHEN suffix({text}, 'Z') THEN try_cast({text} AS TIMESTAMPTZ)"
        f" WHEN suffix({text}, 'z') THEN try_cast(upper({text}) AS TIMESTAMPTZ)"
        f" WHEN length({text}) > 10 AND ({text}[-6] IN ('+', '-') OR {text}[-5] IN ('+', '-')"  # a bare date has two
        f" OR {text}[-3] IN ('+', '-')) THEN try_cast({text} AS TIMESTAMPTZ)"
        f" ELSE timezone({literal(zone)}, try_cast({text} AS TIMESTAMP)) END"
    )


def within(column: Column) -> str:
    """SQL of a column that was read, empty where it is a time that Python or another zone can't tell."""
    name, since, until = quoted(column.name), "0001-01-02", "9999-12-30"
    if column.type is Type.TIME:
        return f"CASE WHEN {name} BETWEEN TIMESTAMPTZ '{since} 00:00Z' AND TIMESTAMPTZ '{until} 00:00Z' THEN {name} END"
    if column.type is Type.DATE:
        return f"CASE WHEN {name} BETWEEN DATE '{since}' AND DATE '{until}' THEN {name} END"
    return name


def rules(table: Table, end: datetime) -> list[Rule]:
    """The rules of a table, in the order in which they are tried. `end`: the latest moment that can have happened."""
    found = []
    for column in table.columns:
        name, c = column.name, quoted(column.name)
        if column.required:
            given = c if column.type is Type.KEY else raw(name)
            found.append(Rule("required", name, f"{given} IS NULL"))
        if column.type in (Type.TIME, Type.DATE):
            serial = f"regexp_matches(CAST({raw(name)} AS VARCHAR), {literal(_EXCEL_DATE)})"
            found.append(Rule("excel_date", name, f"{c} IS NULL AND {serial}"))
        if column.type not in (Type.KEY, Type.TEXT, Type.WORD):
            found.append(Rule(column.type.value, name, f"{c} IS NULL AND {raw(name)} IS NOT NULL"))
        if column.type is Type.KEY:
            found.append(Rule("control_character", name, f"_odd_keys AND regexp_matches({c}, '[\\x00-\\x1f\\x7f]')"))
            is_long = f"_odd_keys AND regexp_matches({c}, {literal(_LONG_FLOAT)})"
            found.append(Rule("float_key", name, is_long))
        if name in _LISTED and table.name not in _WHATEVER:
            is_long = f"strlen({c}) > {LONGEST_ID} AND length({c}) > {LONGEST_ID}"
            if name == "visitor_id":
                is_long += " AND customer_id IS NULL"  # else it is the customer who counts
            found.append(Rule("long_key", name, is_long))
        if name in _PAST:
            found.append(Rule("future", name, f"{c} > {moment(end)}"))
        if column.type is Type.MONEY:
            back = _RETURN.get(table.name)
            negative = f"{c} < 0" + (f" AND NOT coalesce({back}, false)" if back else "")
            found.append(Rule("negative", name, negative))
    names = {c.name for c in table.columns}
    found += [Rule(rule, column, broken) for rule, column, broken in _shapes() if column in names]
    if table.name == "consents":
        found.append(Rule("purpose", "purpose", f"purpose NOT IN {PURPOSES}"))
        found.append(Rule("channel", "channel", _unlike("channel", WORD)))
    if table.name == "orders":
        found.append(Rule("status", "status", f"status NOT IN {_STATUSES}"))
    if table.name == "order_lines":
        found.append(Rule("order", "order_id", "_ordered_at IS NULL"))
    if table.name == "identities":
        found.append(Rule("required", "customer_id", "customer_id IS NULL AND visitor_id IS NULL"))
    return found


def odd_keys(table: Table) -> str:
    """SQL: whether any key of a row may be odd. One look at all of them costs less than one at each."""
    keys = [quoted(c.name) for c in table.columns if c.type is Type.KEY]
    return f"regexp_matches(concat_ws('', '', {', '.join(keys)}), '[\\x00-\\x1f\\x7f+]')" if keys else "false"


@lru_cache
def _shapes() -> tuple[tuple[str, str, str], ...]:
    """Rules on how a text looks, wherever a table has the column."""
    zones = listed(sorted(available_timezones()))
    return (
        ("email", "email", _unlike("email", _EMAIL)),
        ("locale", "locale", _unlike("locale", _LOCALE)),
        ("timezone", "timezone", f"timezone IS NOT NULL AND NOT list_contains({zones}, timezone)"),
        ("country", "country", _unlike("country", "^[A-Z]{2}$")),
        ("currency", "currency", _unlike("currency", "^[A-Z]{3}$")),
        ("event_name", "event_name", _unlike("event_name", _EVENT_NAME)),
    )


def _unlike(column: str, pattern: str) -> str:
    return f"NOT regexp_matches({column}, {literal(pattern)})"
