"""What the features of a day rest on beside the facts of each customer: kept with them, and compared the next day.

One long table of text, `features_basis`: about, customer_id, name, value. Rows are about

load         table, interval, digest of its files (the same after an erasure) and number of rows: what was read
oldest       table, the earliest date that it has rows of
definitions  digest of the code, what runs it, and what shop.yaml says of money and time
counted      name of a feature that is 0 without rows
holidays     country, its days with their flags
product      product_id, JSON of category, price and usual price
customer     customer_id, JSON of time zone and country
person       customer_id, the person that it belongs to
ids          the person's customer_id, how many ids belong to it: an erasure may take the ids' own rows
visitor      customer_id, visitor_id, the time in which the visitor's anonymous events are the customer's
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import controltower
from controltower.data.lake import Reading
from controltower.data.manifest import Load
from controltower.data.parts import first_name
from controltower.profiles.facts import Facts, calendar
from controltower.shop import Shop

TABLE = "features_basis"
KEPT = 10  # of how many moments
LOAD, OLDEST, DEFINITIONS, COUNTED, HOLIDAYS = "load", "oldest", "definitions", "counted", "holidays"
SCHEMA = pa.schema([(name, pa.string()) for name in ("about", "customer_id", "name", "value")])
# Tables of which what came since is looked for; of the others, what was read is compared or small.
READ = ("events", "orders", "order_lines", "messages_history", "message_events", "exchange_rates")
_COUNTED_BY = ("duckdb", "ibis-framework", "tzdata")
_CODE = ("profiles", "data/contract.py", "data/reading.py", "data/queries.py", "data/identity/people.py")


def gathered(reading: Reading, facts: Facts, empty: Collection[str]) -> pa.Table:
    """The basis as of the reading's moment; `empty` names the features that are 0 without rows."""
    rows: list[tuple[str, str | None, str | None, str | None]] = [
        (LOAD, table, interval, load(parts)) for table in READ for interval, parts in reading.loads(table).items()
    ]
    rows += [(OLDEST, table, None, oldest(reading, table)) for table in READ]
    rows.append((DEFINITIONS, None, None, _definitions(facts.shop)))
    rows += [(COUNTED, None, name, None) for name in sorted(empty)]
    rows += _holiday_rows(facts)
    small = pa.table(list(map(pa.array, zip(*rows, strict=True))), schema=SCHEMA)
    reading.keep("_priced", reading.sql(facts.products))
    queries = [
        "SELECT 'product', NULL, product_id, to_json([category, price::VARCHAR, usual_price::VARCHAR])::VARCHAR"
        " FROM _priced",
        "SELECT 'customer', customer_id, NULL, to_json([timezone, country])::VARCHAR FROM _customers"
        " WHERE timezone IS NOT NULL OR country IS NOT NULL",
    ]
    if reading.has_persons:
        queries.append("SELECT 'person', customer_id, NULL, person_id FROM _persons")
        queries.append("SELECT 'ids', person_id, NULL, count(*)::VARCHAR FROM _persons GROUP BY person_id")
    if reading.has_spans:
        queries.append("SELECT 'visitor', customer_id, visitor_id, concat(since, ' ', until) FROM _spans")
    large = reading.run(" UNION ALL ".join(queries)).rename_columns(SCHEMA.names).cast(SCHEMA)
    return pa.concat_tables([small, large])


def of(basis: pa.Table, about: str, *columns: str) -> Iterator[tuple[str | None, ...]]:
    """The rows about something."""
    rows = basis.filter(pc.field("about") == about)
    return zip(*(rows[name].to_pylist() for name in columns), strict=True)


def holidays(basis: pa.Table) -> dict[str, dict[int, str]]:
    """By country and day since 1970."""
    found = of(basis, HOLIDAYS, "name", "value")
    return {str(country): {int(day): flags for day, flags in json.loads(str(days))} for country, days in found}


def day(of: date) -> int:
    """Whole days since 1970."""
    return (of - date(1970, 1, 1)).days


def load(of: Load) -> str:
    """A digest of the load's files, and how many rows they hold.

    An erasure writes files anew without somebody's rows, but changes nobody else's features: the digest stays. Where
    it may change them, the file gets a name of its own (Persons.erase).
    """
    files = "\n".join(first_name(part.file) for part in of.parts)
    return f"{hashlib.sha256(files.encode()).hexdigest()[:16]} {sum(part.rows for part in of.parts)}"


def oldest(reading: Reading, table: str) -> str:
    """The earliest date that a table has rows of, or had before an erasure; later than every date where it has none."""
    dates = (part.date for load in reading.loads(table).values() for part in load.parts if part.date)
    return min(dates, default="none")


def _holiday_rows(facts: Facts) -> Iterator[tuple[str, None, str, str]]:
    for country, days in calendar.flags_of(facts.holidays).items():
        yield HOLIDAYS, None, country, json.dumps([[day, f"{holiday} {gifts}"] for day, holiday, gifts in days])


def _definitions(shop: Shop) -> str:
    told = [shop.currency, shop.timezone, shop.country, shop.identity.visitor_days, *map(version, _COUNTED_BY)]
    return hashlib.sha256(f"{_code()} {json.dumps(told)}".encode()).hexdigest()


@cache
def _code() -> str:
    """Changes with the code that features are made by."""
    package, found = Path(controltower.__path__[0]), hashlib.sha256()
    for place in _CODE:
        for path in sorted(package.joinpath(place).rglob("*.py")) or [package.joinpath(place)]:
            found.update(path.read_bytes())
    return found.hexdigest()
