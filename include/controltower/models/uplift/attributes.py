"""What tells customers apart beside what they did: the columns of `customers`, and what a shop keeps in `attributes`.

What is read is untrusted: of a customer's attributes count numbers, yes or no, and short texts; a number may be written
as a text. Names of columns say what is in them, so that a model's names are enough to make them again: `about:recency`
is a number, `about:zip_code=Urban` is 1 where the text is that, 0 where it is another; both NaN where nothing is known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from controltower.data.reading import Reading

ABOUT = "about:"
TEXTS = ("gender", "loyalty_tier", "country", "locale", "home_store", "site")  # points are a feature already
MOST_COLUMNS = 50
MOST_VALUES = 20  # of a text
FEWEST = 20  # customers of whom a number or a text is known: fewer teach nothing, and might be known by it
LONGEST = 60  # letters of a name or a text
GREATEST = 1e15
BATCH = 100_000
APART = 4.0  # standard errors by which those written to and the controls may differ: by chance, 1 in 16,000 does

Plain = float | str
Said = tuple[str, dict[str, Plain]]  # a customer, and what is known of them


class Chosen(NamedTuple):
    """columns: the names of those to make. apart: attributes by which the treated and the controls differ, left out."""

    columns: list[str]
    apart: list[str]


def read(reading: Reading, customers: Sequence[str] | np.ndarray) -> Iterator[Said]:
    """What is known as of the reading of those customers, whom the table `customers` holds then. The moment is the
    reading's: a version written later tells what came of a message, too."""
    assert reading.as_of is not None
    known = reading.table("customers")
    table = reading.arrow(known.select("customer_id", "birth_date", "attributes", *TEXTS))
    wanted = pa.array(np.asarray(customers, dtype=object), pa.string())
    kept = table.filter(pa.compute.is_in(table["customer_id"], value_set=wanted))
    return said(kept, reading.as_of)


def said(table: pa.Table, at: datetime) -> Iterator[Said]:
    """By row of the contract's `customers` (customer_id, birth_date, attributes, TEXTS); `age` in years at a moment.
    A column of the contract goes before an attribute of its name."""
    for batch in table.to_batches(max_chunksize=BATCH):
        texts = [batch[name].to_pylist() for name in TEXTS]
        for who, born, attributes, *own in zip(
            *(batch[name].to_pylist() for name in ("customer_id", "birth_date", "attributes")), *texts, strict=True
        ):
            told = {name: plain for name, value in _object(attributes) if (plain := _plain(value)) is not None}
            told |= {name: text for name, text in zip(TEXTS, own, strict=True) if text and len(text) <= LONGEST}
            if (age := _age(born, at.date())) is not None:
                told["age"] = age
            yield who, told


def choose(rows: Sequence[Said], treated: np.ndarray, propensity: np.ndarray) -> Chosen:
    """The columns that are worth making of an experiment's rows: at most MOST_COLUMNS, those known of most first.

    A lot knows nothing of customers. An attribute by which the two groups differ by more than APART standard errors, in
    its values or in whether it is known, was written later (who got which mail, what they did then): it is left out.
    """
    if not rows:
        return Chosen([], [])
    seen: Counter[str] = Counter(name for _, told in rows for name in told)
    found: dict[str, int] = {}
    for name, _ in sorted(seen.items(), key=lambda one: (-one[1], one[0]))[:MOST_COLUMNS]:
        values = Counter(told[name] for _, told in rows if name in told)
        numbers = sum(count for value, count in values.items() if _number(value) is not None)
        if numbers >= max(FEWEST, 0.99 * seen[name]):
            found[ABOUT + name] = seen[name]
            continue
        often = {value: count for value, count in values.items() if count >= FEWEST}
        if len(often) <= MOST_VALUES:
            found |= {f"{ABOUT}{name}={value}": count for value, count in often.items() if isinstance(value, str)}
    frame = columns(rows, list(found))
    off = treated - propensity
    off, spread = off - off.mean(), propensity * (1 - propensity)
    apart = {_name(column) for column in found if _apart(frame[column].to_numpy(), off, spread)}
    kept = sorted((c for c in found if _name(c) not in apart), key=lambda c: (-found[c], c))
    return Chosen(kept[:MOST_COLUMNS], sorted(apart))


def columns(rows: Iterable[Said], names: Sequence[str]) -> pd.DataFrame:
    """Those columns (float) by customer: index customer_id, in the order of the rows."""
    asked = [(name, *name.removeprefix(ABOUT).partition("=")) for name in names]
    ids: list[str] = []
    made: dict[str, list[float]] = {name: [] for name in names}
    for who, told in rows:
        ids.append(who)
        for column, name, text, value in asked:
            one = told.get(name)
            if one is None:
                made[column].append(math.nan)
            elif text:
                made[column].append(float(one == value))
            else:
                number = _number(one)
                made[column].append(math.nan if number is None else number)
    index = pd.Index(ids, name="customer_id", dtype=object)
    return pd.DataFrame({name: np.array(values, dtype=float) for name, values in made.items()}, index=index)


def names(learned: Iterable[str]) -> list[str]:
    """Of a model's columns, those that are made here."""
    return [name for name in learned if name.startswith(ABOUT)]


def _object(text: str | None) -> Iterable[tuple[str, Any]]:
    """The names and values of a JSON object; nothing where it isn't one."""
    try:
        found = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return ()
    if not isinstance(found, dict):
        return ()
    return ((name, value) for name, value in found.items() if 0 < len(name) <= LONGEST and "=" not in name)


def _plain(value: Any) -> Plain | None:
    if isinstance(value, str):
        text = value.strip()
        return text if 0 < len(text) <= LONGEST else None
    return _number(value)


def _number(value: Any) -> float | None:
    """None: it isn't one, or none to reckon with."""
    if isinstance(value, str):
        text = value.casefold()
        if text in ("true", "false"):
            return float(text == "true")
        try:
            value = float(text) if "_" not in text else None
        except ValueError:
            return None
    if not isinstance(value, int | float) or not abs(value) <= GREATEST:  # of NaN neither is true
        return None
    return float(value)


def _age(born: date | None, today: date) -> float | None:
    years = (today - born).days / 365.25 if born else -1.0
    return years if 0 < years < 120 else None


def _name(column: str) -> str:
    return column.removeprefix(ABOUT).partition("=")[0]


def _apart(values: np.ndarray, off: np.ndarray, spread: np.ndarray) -> bool:
    """Whether a column differs by more than APART between the groups: by rank, which one huge number doesn't move."""
    known = ~np.isnan(values)
    for x, rows in ((pd.Series(values[known]).rank().to_numpy(), known), (known.astype(float), np.ones_like(known))):
        if len(x) and np.ptp(x) > 0:
            centred = x - x.mean()
            if abs((off[rows] * centred).sum()) > APART * np.sqrt((spread[rows] * centred**2).sum()):
                return True
    return False
