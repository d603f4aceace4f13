"""What a run does about the members of its audience: in columns while it is planned, for one customer as a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

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
        # its choices as JSON: up to the products, and each of these
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
    names = Decision._fields[:-1]
    chosen, others = choices_as_json(plan).to_pylist(), (plan[name].to_pylist() for name in names)
    for its, *row in zip(chosen, *others, strict=True):
        yield Decision(**dict(zip(names, row, strict=True)), choices=orjson.loads(its))


def about(choices: Mapping[str, Any]) -> str:
    """Choices as JSON up to the products, which come last."""
    return orjson.dumps({**choices, "products": []}).decode().removesuffix("]}")


def choices_as_json(plan: pa.Table) -> pa.Array:
    """What was chosen for each member, as JSON."""
    products = _whole(plan["products"])
    ends = pc.cumulative_sum(pc.list_value_length(products))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    parts = pa.ListArray.from_arrays(offsets, pc.list_flatten(products).dictionary_decode())
    return pc.binary_join_element_wise(_whole(plan["about"]).dictionary_decode(), pc.binary_join(parts, ","), "]}", "")


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
