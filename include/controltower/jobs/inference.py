"""Profiles: what customers told, what is inferred of those who didn't, what they prefer, and their RFM cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from controltower.data.lake import Lake, Reading
    from controltower.models.base import Outcome
    from controltower.models.registry import Registry

PURPOSE = "profiling"


def agreed(conf: Settings, as_of: datetime, customers: Collection[str] | None = None) -> set[str]:
    """Of whom, of all or of those given, something may be inferred: the consent held at `as_of`, and holds now."""
    from controltower.ledger import consents
    from controltower.ledger.database import reading

    with reading(conf) as ledger:
        then, now = (consents.agreed(ledger, PURPOSE, at, customers) for at in (as_of, clock.now(conf)))
    return then & now


def train_traits(conf: Settings, lake: Lake, as_of: datetime, shop: Shop) -> list[Outcome]:
    """The models of gender and age, from those who told theirs and agree to profiling."""
    import numpy as np

    from controltower.models.traits import items, said, training

    with lake.read(as_of) as reading:
        who = agreed(conf, as_of)
        rows = {r["customer_id"]: r for r in reading.arrow(_told(reading, as_of, shop)).to_pylist()}
        histories = items.read(reading.table, as_of, shop, who & rows.keys())
    known = [rows[customer] for customer in histories.customer_ids.tolist()]
    genders = [said.GENDERS.index(r["told_gender"]) if r["told_gender"] in said.GENDERS else -1 for r in known]
    ages = [-1 if r["told_age"] is None else r["told_age"] for r in known]
    outcomes = []
    for name, values in ((training.GENDER, genders), (training.AGE_BAND, ages)):
        told = np.array(values, dtype=np.int64)
        there = np.flatnonzero(told >= 0)
        outcomes.append(training.train(name, histories.of(there), told[there], as_of))
    return outcomes


def profile_rows(
    conf: Settings, lake: Lake, registry: Registry, as_of: datetime, shop: Shop
) -> tuple[pa.Table, dict[str, str]]:
    """The rows of `profiles`, one a customer, and which model served for each trait. Needs the features of `as_of`."""
    import numpy as np
    import pyarrow as pa

    from controltower.models.traits import items, said, training
    from controltower.models.traits.model import KINDS

    models = {name: registry.load(name, as_of, KINDS) for name in training.NAMES}
    with lake.read(as_of) as reading:
        table = reading.arrow(_seen(reading, as_of, shop))
        who = agreed(conf, as_of)
        silent = {name: _silent(table, column) & who for name, column in _TOLD.items()}
        histories = items.read(reading.table, as_of, shop, set().union(*silent.values()))
    for name, infer in ((training.GENDER, said.gender), (training.AGE_BAND, said.age)):
        theirs = histories.of(np.flatnonzero(np.isin(histories.customer_ids, sorted(silent[name]))))
        table = _beside(table, theirs.customer_ids, infer(models[name][0], theirs))
    by = " ".join(f"{name}@{card.version}" for name, (_, card) in models.items())
    counted = {
        "inferred_from_items": pa.array(histories.lengths, pa.int64()),
        "inferred_by": pa.array([by] * len(histories.customer_ids), pa.string()),
    }
    table = _beside(table, histories.customer_ids, counted)
    return table, {name: card.serves for name, (_, card) in models.items()}


_TOLD = {"gender": "told_gender", "age_band": "told_age"}  # by model


def usable(conf: Settings, lake: Reading, as_of: datetime, customers: Collection[str] | None = None) -> ir.Table:
    """The newest profiles, of all or of some customers, without what is inferred of those who don't agree to it now."""
    import ibis
    import pyarrow as pa

    from controltower.profiles.told import told_or_inferred

    rows = lake.derived("profiles")
    if customers is not None:
        rows = rows.filter(rows.customer_id.isin(list(customers)))
    who = pa.array(sorted(agreed(conf, as_of, customers)), pa.string())
    return told_or_inferred(rows, ibis.memtable(pa.table({"customer_id": who})))


def profile_of(conf: Settings, lake: Reading, ids: Sequence[str], as_of: datetime) -> dict[str, Any]:
    """Of one person: `journey` and `journey_minutes` as of the very moment, and the newest profile made by then, with
    `profile_as_of` and, where something is inferred of the age, `inferred_age_years`: {year: probability}.

    What isn't known is left out.
    """
    from controltower.errors import NoData
    from controltower.profiles.journey import journeys

    def theirs(table: str) -> ir.Table:
        rows = lake.table(table)
        return rows.filter(rows.customer_id.isin(ids))

    rows = lake.arrow(journeys(theirs, as_of)).to_pylist()
    with suppress(NoData):
        rows += lake.arrow(usable(conf, lake, as_of, ids)).to_pylist()
    found = {name: value for row in rows for name, value in row.items() if value is not None}
    found = {name: value for name, value in found.items() if not name.startswith(("customer_id", "told_or_inferred_"))}
    if "as_of" in found:
        made = found.pop("as_of")
        found["profile_as_of"] = made.isoformat()
        if "inferred_by" in found and "told_age" not in found:
            with suppress(NoData):
                found["inferred_age_years"] = _by_year(conf, found, made)
    return found


def _by_year(conf: Settings, profile: dict[str, Any], made: datetime) -> dict[int, float]:
    from controltower.models.registry import Registry
    from controltower.models.traits import said, training
    from controltower.models.traits.model import KINDS

    model, _ = Registry(conf.home / "models").load(training.AGE_BAND, made, KINDS)
    return said.by_year(model, profile)


def profiles(as_of: str | None = None) -> pa.Table:
    """The newest profiles as of a moment (now), as they may be used."""
    from controltower.data.lake import Lake

    conf = settings.load()
    at = clock.parse(as_of, settings.load_shop(conf)) if as_of else clock.now(conf)
    with Lake(conf).read(at) as lake:
        return lake.arrow(usable(conf, lake, at).order_by("customer_id"))


def _told(reading: Reading, as_of: datetime, shop: Shop) -> ir.Table:
    from controltower.profiles.told import told

    return told(reading.table("customers"), as_of.astimezone(shop.zone).date())


def _seen(reading: Reading, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, as_of, and what isn't inferred, of all customers with features."""
    from controltower.profiles.preferences import preferences
    from controltower.profiles.rfm import cells

    features = reading.derived("features")
    rows = features.select("customer_id", "as_of")
    for part in (_told(reading, as_of, shop), preferences(reading.table, as_of, shop), cells(features)):
        rows = rows.left_join(part, "customer_id").drop("customer_id_right")
    return rows.order_by("customer_id")


def _silent(table: pa.Table, column: str) -> set[str]:
    return set(table.filter(table[column].is_null())["customer_id"].to_pylist())


def _beside(table: pa.Table, customers: object, columns: dict[str, pa.Array]) -> pa.Table:
    """The table with columns of some of its customers; the others have none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    at = pc.index_in(table["customer_id"], pa.array(customers, pa.string()))
    for name, values in columns.items():
        table = table.append_column(name, values.take(at.combine_chunks()))
    return table
