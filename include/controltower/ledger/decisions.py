"""What a run does about the members of its audience: in columns while it is planned, for one customer as a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

_CODES = pa.dictionary(pa.int32(), pa.string())  # what many have in common is there once
SCHEMA = pa.schema(
    [
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("outcome", _CODES, nullable=False),
        ("reason", _CODES),
        ("arm", _CODES),
        pa.field("probability", pa.float64(), nullable=False),
        ("share", pa.float64()),
        ("channel", _CODES),
        ("due_at", pa.timestamp("us", "UTC")),
        ("algorithm", _CODES),
        # its choices as JSON: all but the products, and each of these
        pa.field("about", _CODES, nullable=False),
        pa.field("products", pa.list_(_CODES), nullable=False),
    ]
)


class Decision(NamedTuple):
    """What a run does about one member of its audience."""

    customer_id: str
    subject_id: int
    outcome: str  # message | holdout | not_sent
    probability: float
    reason: str | None = None
    arm: str | None = None
    share: float | None = None  # of the arm among the treated, when it was drawn
    channel: str | None = None
    due_at: datetime | None = None
    algorithm: str | None = None
    choices: Mapping[str, Any] = {}


def tabulate(decisions: Iterable[Decision]) -> pa.Table:
    """Decisions as columns, in their order."""
    rows = list(decisions)
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names if name in Decision._fields}
    columns["about"] = [about(row.choices) for row in rows]
    columns["products"] = [[orjson.dumps(p).decode() for p in row.choices.get("products", ())] for row in rows]
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA)


def rows(plan: pa.Table) -> Iterator[Decision]:
    """The decisions one by one."""
    names = ("about", "products", *Decision._fields[:-1])
    for said, products, *others in zip(*(plan[name].to_pylist() for name in names), strict=True):
        chosen = {**orjson.loads(said), "products": list(map(orjson.loads, products))}
        yield Decision(**dict(zip(names[2:], others, strict=True)), choices=chosen)


def about(choices: Mapping[str, Any]) -> str:
    """Choices as JSON, but for the products."""
    return orjson.dumps({name: value for name, value in choices.items() if name != "products"}).decode()


def numbered(plan: pa.Table) -> tuple[pa.Table, pa.ListArray]:
    """What was chosen in a plan, each once (number, choice), and the numbers of each member's: `about` and products."""
    products = _whole(plan["products"])
    about, of_members = _used(_whole(plan["about"]))
    picks, of_products = _used(pc.list_flatten(products))
    ends = np.concatenate([[0], np.cumsum(pc.list_value_length(products).to_numpy())])
    theirs = np.insert(of_products + len(about), ends[:-1], of_members).astype(np.int32)
    numbers = pa.ListArray.from_arrays(pa.array(ends + np.arange(len(ends)), pa.int32()), pa.array(theirs))
    known = pa.concat_arrays([about, picks])
    return pa.table({"number": pa.array(np.arange(len(known))), "choice": known}), numbers


def _used(column: pa.DictionaryArray) -> tuple[pa.Array, np.ndarray]:
    """The different values of a column, and of each row the place of its own among them."""
    used, places = np.unique(column.indices.to_numpy(), return_inverse=True)
    return column.dictionary.take(pa.array(used)), places


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
