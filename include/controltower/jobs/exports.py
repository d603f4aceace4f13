"""Results as tables, and into files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import ControlTowerError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa


_PIECE = 20_000  # rows that are written to a CSV file at once


def derived(table: str, as_of: str) -> pa.Table:
    """`features`, `scores` or `recommendations` as of a moment."""
    from controltower.data.lake import Lake

    conf = settings.load()
    with Lake(conf).read(clock.parse(as_of, settings.load_shop(conf))) as lake:
        return lake.arrow(lake.derived(table).order_by("customer_id"))


def scores(as_of: str) -> pa.Table:
    """`scores` as of a moment, and beside them, of customers who agree to profiling now, the probabilities of what they
    told or what is inferred of them: `gender_female`, `gender_male`, `age_under_20` and so on (1 or 0 where they told),
    and by which models (`profile_model_version`). Null of others, and where nothing is known."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.data.lake import Lake
    from controltower.errors import NoData
    from controltower.jobs.inference import agreed, usable

    conf = settings.load()
    at = clock.parse(as_of, settings.load_shop(conf))
    with Lake(conf).read(at) as lake:
        table = lake.arrow(lake.derived("scores").order_by("customer_id"))
        try:
            profiles = usable(conf, lake, at)
        except NoData:  # none were made
            number, text = pa.float64(), pa.string()
            types = {**dict.fromkeys([*_genders(), *_bands()], number), "profile_model_version": text}
            return _beside(table, pa.schema([("customer_id", text), *types.items()]).empty_table())
        columns = {"customer_id": profiles.customer_id} | _probabilities(profiles)
        found = lake.arrow(profiles.select(**columns))
    return _beside(table, found.filter(pc.is_in(found["customer_id"], pa.array(agreed(conf, at), pa.string()))))


def _probabilities(profiles: ir.Table) -> dict[str, ir.Value]:
    """The columns that `scores` adds, from profiles."""
    import ibis

    from controltower.models.traits import ages
    from controltower.profiles.portable import one_if

    edges = [0, *ages.EDGES.tolist(), 1000]
    bands = {
        column: ibis.ifelse(
            profiles.told_age.notnull(),
            one_if(profiles.told_age.between(low, high - 1)).cast("float64"),
            profiles[f"inferred_{column}_probability"],
        )
        for column, low, high in zip(_bands(), edges[:-1], edges[1:], strict=True)
    }
    genders = {
        column: profiles[f"told_or_inferred_{column.removeprefix('gender_')}_probability"] for column in _genders()
    }
    return genders | bands | {"profile_model_version": profiles.inferred_by}


def _genders() -> list[str]:
    from controltower.profiles.told import GENDERS

    return [f"gender_{name}" for name in GENDERS]


def _bands() -> list[str]:
    from controltower.models.traits import ages

    return [f"age_{band}" for band in ages.BANDS]


def _beside(table: pa.Table, found: pa.Table) -> pa.Table:
    """The table with the columns of `found`, null where it has no row of a customer."""
    import pyarrow.compute as pc

    at = pc.index_in(table["customer_id"], found["customer_id"])
    for name in found.column_names[1:]:
        table = table.append_column(name, found[name].take(at))
    return table


def decisions(run_id: int) -> pa.Table:
    """A run's frozen audience: who gets what, and who gets nothing and why."""
    import pyarrow as pa

    from controltower.ledger import reports
    from controltower.ledger.database import reading

    text = ("customer_id", "outcome", "reason", "arm", "channel", "algorithm")
    schema = pa.schema(
        [(name, pa.string()) for name in text] + [("probability", pa.float64()), ("due_at", pa.timestamp("us", "UTC"))]
    )
    with reading(settings.load()) as ledger:
        return pa.Table.from_pylist(reports.audience(ledger, run_id), schema=schema)


def export_top_customers(as_of: str | None = None, at_most: int = 100) -> dict[str, Any]:
    """Write the customers most likely to buy within a week to HOME/exports/top_customers-<as of>.csv.

    Ids, scores and model versions, the likeliest first. Returns {as_of, file, customers}.
    """
    from controltower.data.lake import Lake, interval_key

    conf = settings.load()
    moment = clock.parse(as_of, settings.load_shop(conf)) if as_of else clock.now(conf)
    with Lake(conf).read(moment) as lake:
        scores = lake.derived("scores")
        top = scores.order_by(scores.propensity_7d.desc(), "customer_id").limit(at_most)
        table = lake.arrow(top.select("customer_id", "propensity_7d", "model_version"))
    out = conf.home / "exports" / f"top_customers-{interval_key(moment)}.csv"
    out.parent.mkdir(exist_ok=True)
    write(table, out)
    return {"as_of": moment.isoformat(), "file": out.name, "customers": table.num_rows}


def check(out: Path) -> None:
    """Raise, before any work is done, where a result could not be written there."""
    if out.suffix not in {".csv", ".parquet", ".json"}:
        raise ControlTowerError(f"{out.name} has no known form.", "Use a name that ends in .csv, .parquet or .json.")
    if not out.parent.is_dir():
        raise ControlTowerError(f"There is no folder {out.parent}.", "Make it first.")
    if not os.access(out.parent, os.W_OK):
        raise ControlTowerError(f"{out.parent} can't be written to.", "Choose another folder.")


def write(table: pa.Table, out: Path) -> None:
    """Write a table as .csv, .parquet or .json (a list of objects); whole or not at all.

    In a CSV file no text is a formula to a spreadsheet, and a list is JSON; the others keep every value as it is.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    from controltower.data.spreadsheet import plain_texts

    check(out)
    fresh = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        if out.suffix == ".csv":
            table = plain_texts(table)
            with pyarrow.csv.CSVWriter(fresh, _lists_as_text(table.slice(0, 0)).schema) as out_file:
                for some in table.to_batches(max_chunksize=_PIECE):
                    out_file.write_table(_lists_as_text(pa.Table.from_batches([some])))
        elif out.suffix == ".parquet":
            pyarrow.parquet.write_table(table, fresh)
        else:
            fresh.write_text(json.dumps(table.to_pylist(), ensure_ascii=False, default=str), encoding="utf-8")
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)


def _lists_as_text(table: pa.Table) -> pa.Table:
    """The table with its lists of numbers as JSON."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for i, field in enumerate(table.schema):
        if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type):
            numbers = pc.binary_join(table.column(i).cast(pa.list_(pa.string())), ",")
            table = table.set_column(i, field.name, pc.binary_join_element_wise("[", numbers, "]", ""))
    return table
