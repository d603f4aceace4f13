"""Profiles: what customers told, what is inferred of those who didn't, what they prefer, and their RFM cells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from controltower import clock, settings
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import numpy as np
    import pyarrow as pa

    from controltower.data.lake import Lake, Reading
    from controltower.jobs.predictions import Past
    from controltower.jobs.predictions.evaluated import Evaluated
    from controltower.models.base import Outcome
    from controltower.models.publication import InService
    from controltower.models.registry import Registry
    from controltower.models.traits.items import Histories
    from controltower.models.traits.model import Trait

log = logging.getLogger("controltower")

SLICE: Final = 50_000  # customers of whom is inferred at a time: memory must not grow with the shop


def agreed(conf: Settings, as_of: datetime, customers: Collection[str] | None = None) -> set[str]:
    """Of whom, of all or of those given, something may be inferred: the consent held at `as_of`, and holds now."""
    from controltower.ledger import consents
    from controltower.ledger.database import reading

    with reading(conf) as ledger:
        then, now = (consents.agreed(ledger, consents.PROFILING, at, customers) for at in (as_of, clock.now(conf)))
    return then & now


def train_traits(
    conf: Settings,
    lake: Lake,
    as_of: datetime,
    shop: Shop,
    in_service: Callable[[str, Iterable[type[Trait]]], InService[Trait]] | None = None,
) -> Iterator[Outcome]:
    """The models of gender and age, from those who told theirs and agree to profiling. in_service: `Past.in_service`;
    without, none was."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.models import publication
    from controltower.models.traits import training
    from controltower.models.traits.model import KINDS

    dates = [as_of, *training.past_dates(as_of)]
    by = [_told_by(lake, date, shop) for date in dates]
    for name, histories, values in _who_told(conf, lake, as_of, shop):
        ids = pa.array(histories.customer_ids.tolist(), pa.string())
        had = [pc.is_in(ids, told[_TOLD[name]]).to_numpy(zero_copy_only=False) for told in by]
        past = [
            training.ToldBy(date, before, after & ~before)
            for date, before, after in zip(dates[1:], had[1:], had[:-1], strict=True)
        ]
        then = in_service(name, KINDS) if in_service else publication.nothing
        yield training.train(name, histories, values, as_of, past, then)


def _told_by(lake: Lake, time: datetime, shop: Shop) -> dict[str, pa.Array]:
    """By column of what is told, the ids of the customers of whom it was known at a moment."""
    with lake.read(time) as reading:
        rows = reading.arrow(_told(reading, time, shop))
    return {name: rows["customer_id"].filter(rows[name].is_valid()).combine_chunks() for name in _TOLD.values()}


def _who_told(conf: Settings, lake: Lake, as_of: datetime, shop: Shop) -> Iterator[tuple[str, Histories, np.ndarray]]:
    """By trait, those who told it and agree to profiling (of many a sample): their items, and what they told."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.models.traits import items, said, training

    with lake.read(as_of) as reading:
        rows = reading.arrow(_told(reading, as_of, shop).order_by("customer_id"))
        rows = rows.filter(pc.is_in(rows["customer_id"], pa.array(agreed(conf, as_of), pa.string())))
        classes = {
            training.GENDER: pc.index_in(rows["told_gender"], pa.array(said.GENDERS)),
            training.AGE_BAND: rows["told_age"],
        }
        drawn = {name: training.drawn(values.is_valid().to_numpy()) for name, values in classes.items()}
        customers = rows["customer_id"].take(np.unique(np.concatenate(list(drawn.values())))).to_pylist()
        histories = items.read(reading.table, as_of, shop, customers)
    for name, values in classes.items():
        theirs = histories.of_customers(rows["customer_id"].take(drawn[name]))
        yield name, theirs, values.take(drawn[name]).to_numpy().astype(np.int64)


def evaluate(past: Past, until: datetime) -> Evaluated:
    """What would be inferred of customers who told and are held out, beside everybody's shares. Traits have no dates:
    all is as of `until`."""
    from controltower.jobs.predictions.evaluated import Evaluated, compared
    from controltower.models.traits.evaluation import held_out

    rows, verdicts = [], []
    for name, histories, told in _who_told(past.config, past.lake, until, past.shop):
        found = held_out(name, histories, told, until)
        rows += found.rows
        verdict = f"{name}: {found.outcome.model.name} would serve. {found.outcome.why}"
        if len(found.loss) > 1:
            ours, theirs = found.loss.values()
            beside = compared(found.customers, lambda loss, some: loss[some].mean(), ours, theirs, lower_is_better=True)
            verdict += f" Log loss on {len(ours)} others who told, beside everybody's shares: {beside}."
        verdicts.append(verdict)
    return Evaluated(rows, verdicts)


class Profiles(NamedTuple):
    """The rows of `profiles`, one a customer, made while they are read; which model serves for each trait, and why none
    does for the others: of those nothing is inferred."""

    rows: pa.RecordBatchReader
    served: dict[str, str]
    lacking: dict[str, str]


def profile_rows(conf: Settings, lake: Reading, registry: Registry, as_of: datetime, shop: Shop) -> Profiles:
    """Needs the features of `as_of`, as `lake` is, which must stay until all rows are read."""
    import ibis
    import pyarrow as pa

    from controltower.errors import NoData
    from controltower.models.traits import items, training
    from controltower.models.traits.model import KINDS

    models, cards, lacking = {}, {}, {}
    for name in training.NAMES:
        try:
            models[name], cards[name] = registry.load(name, as_of, KINDS)
        except NoData as e:
            models[name], lacking[name] = training.untaught(name), e.what
            log.warning("nothing is inferred by %s: %s", name, e.what)
    by = " ".join(f"{name}@{card.version}" for name, card in cards.items())
    who = ibis.memtable(pa.table({"agreed_id": pa.array(agreed(conf, as_of), pa.string())}))
    seen = _seen(conf, lake, as_of, shop)
    seen = seen.left_join(who, seen.customer_id == who.agreed_id)
    seen = lake.computed(
        "_seen", seen.mutate(agrees=seen.agreed_id.notnull()).drop("agreed_id").order_by("customer_id")
    )
    silent = seen.filter(seen.agrees, seen.told_gender.isnull() | seen.told_age.isnull())
    looked = lake.computed("_items", items.once(lake.table, as_of, shop, silent).order_by("customer_id"))
    words = items.words_of_products(lake.table)
    ids = lake.arrow(seen.select("customer_id").order_by("customer_id"))["customer_id"]

    def some(first: int) -> pa.Table:
        """The rows of a slice of the customers; past the last: none."""
        theirs = ids[first : first + SLICE]
        edges = [theirs[0].as_py(), theirs[-1].as_py()] if len(theirs) else ["", ""]
        rows, histories = (lake.arrow(t.filter(t.customer_id.between(*edges))) for t in (seen, looked))
        return _inferred(rows.sort_by("customer_id"), histories, words, models, by)

    schema = some(len(ids)).schema
    made = (batch for first in range(0, len(ids), SLICE) for batch in some(first).to_batches())
    served = {name: card.serves for name, card in cards.items()}
    return Profiles(pa.RecordBatchReader.from_batches(schema, made), served, lacking)


_TOLD = {"gender": "told_gender", "age_band": "told_age"}  # by model


def _inferred(
    seen: pa.Table, looked: pa.Table, words: dict[str, list[str]], models: dict[str, Trait], by: str
) -> pa.Table:
    """Rows of `profiles`: `seen` (customer_id, agrees, what isn't inferred; sorted), and what is inferred of those who
    agree and didn't tell, from the items that they had to do with."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.models.traits import items, said, training

    silent = {name: pc.and_(seen["agrees"], seen[column].is_null()) for name, column in _TOLD.items()}
    ids = np.array(seen["customer_id"].filter(pc.or_(*silent.values())).to_pylist(), dtype=np.str_)
    histories = items.of_rows(ids, looked, words)
    table = seen.drop("agrees")
    for name, infer in ((training.GENDER, said.gender), (training.AGE_BAND, said.age)):
        theirs = histories.of_customers(seen["customer_id"].filter(silent[name]))
        table = _beside(table, theirs.customer_ids, infer(models[name], theirs))
    counted = {
        "inferred_from_items": pa.array(histories.lengths, pa.int64()),
        "inferred_by": pa.array([by or None] * len(ids), pa.string()),
    }
    return _beside(table, ids, counted)


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
        rows += of_one(lake.arrow(usable(conf, lake, as_of, ids)).to_pylist(), ids)
    found = {name: value for row in rows for name, value in row.items() if value is not None}
    found = {name: value for name, value in found.items() if not name.startswith(("customer_id", "told_or_inferred_"))}
    if "as_of" in found:
        made = found.pop("as_of")
        found["profile_as_of"] = made.isoformat()
        if "told_age" not in found:
            with suppress(NoData):
                found |= {"inferred_age_years": years} if (years := _by_year(conf, found, made)) else {}
    return found


def of_one(rows: list[dict[str, Any]], ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the first of a person's ids that has any: what was made before a merge is there for each of them."""
    return next((theirs for one in ids if (theirs := [row for row in rows if row["customer_id"] == one])), [])


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


def _seen(conf: Settings, reading: Reading, as_of: datetime, shop: Shop) -> ir.Table:
    """customer_id, as_of, and what isn't inferred, of all customers with features."""
    from controltower.data.lake import Lake
    from controltower.jobs.lifecycle import a_week_ago
    from controltower.profiles.preferences import preferences
    from controltower.profiles.rfm import cells

    features = reading.derived("features")
    rows = features.select("customer_id", "as_of")
    for part in (
        _told(reading, as_of, shop),
        preferences(reading.table, as_of, shop),
        cells(features),
        a_week_ago(Lake(conf), as_of, shop),
    ):
        rows = rows.left_join(part, "customer_id").drop("customer_id_right")
    return rows


def _beside(table: pa.Table, customers: object, columns: dict[str, pa.Array]) -> pa.Table:
    """The table with columns of some of its customers; the others have none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    at = pc.index_in(table["customer_id"], pa.array(customers, pa.string()))
    for name, values in columns.items():
        table = table.append_column(name, values.take(at.combine_chunks()))
    return table
