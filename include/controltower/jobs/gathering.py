"""The audience of a campaign: who, how they can be reached, and what would be shown to them. In columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from controltower.campaigns.specs import Audience, Spec
from controltower.errors import BadSettings, NoData
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa
    import sqlalchemy as sa

    from controltower.data.lake import Reading

_USUAL_HOUR = 10  # of whom nothing is known
_PICK = {
    "product_id": "product_id", "algorithm": "algorithm", "reason": "reason_code", "value": "reason_value",
}  # fmt: skip


class Gathered(NamedTuple):
    """The audience by column, the highest score first. Personal data: never logged, never stored."""

    members: pa.Table  # customer_id, hours, zone, country, email, products, algorithm, expected, inferred
    devices: pa.Table  # device_id, push_token, place of its owner among the members
    policy: Mapping[str, Any]  # the part that all members share

    @property
    def customers(self) -> list[str]:
        found: list[str] = self.members["customer_id"].to_pylist()
        return found

    def without(self, customers: Collection[str]) -> Gathered:
        """The others."""
        import pyarrow as pa
        import pyarrow.compute as pc

        keep = pc.invert(pc.is_in(self.members["customer_id"], pa.array(customers, pa.string())))
        place = pc.subtract(pc.cumulative_sum(keep.cast("int64")), 1)  # among those who are left
        devices = self.devices.filter(keep.take(self.devices["place"]))
        n = devices.column_names.index("place")
        devices = devices.set_column(n, "place", place.take(devices["place"]))
        return self._replace(members=self.members.filter(keep), devices=devices)


def gather(conf: Settings, shop: Shop, spec: Spec, as_of: datetime) -> Gathered:
    """The audience as of a moment."""
    import pyarrow as pa

    from controltower.audiences.segments import ranked, select
    from controltower.data.lake import Lake
    from controltower.profiles import contacts

    with Lake(conf).read(as_of) as lake:
        features, scores = lake.derived("features"), lake.derived("scores")
        made = {"features": _made(lake, features), "scores": _made(lake, scores)}
        known = features.drop("as_of").join(scores.drop("as_of"), "customer_id", how="left")
        by = spec.audience.ranked_by
        if spec.audience.goal:
            known = _with_expected(conf, shop, known, spec.audience, as_of)
        asked = {by, *(rule.column for rule in spec.audience.rules)}
        known = _with_profiles(conf, lake, known, asked, as_of)
        audience = select(known, spec.audience.rules)
        if by not in audience.columns:
            raise BadSettings(f"{spec.name}: order_by names no feature, score or profile: {by!r}.")
        first = ranked(audience, by, spec.audience.at_most)
        told = [name for name in dict.fromkeys(map(_table, spec.channels)) if name in first.columns]
        chosen = lake.arrow(first.select("customer_id", "send_hour", "model_version", *told))
        customers = chosen["customer_id"]
        columns = {
            "customer_id": customers,
            "hours": _hours(chosen, spec.channels),
            **contacts.places(lake, shop, customers),
            **_picks(lake, spec, customers),
            "expected": _expected(conf, shop, lake, spec, customers, as_of),
            "inferred": _by_inference(lake, first, spec.audience, customers),
        }
        devices = contacts.devices(lake, customers if "push" in spec.channels else customers[:0])
    policy = {
        "holdout": spec.holdout,
        "variants": {v.name: v.weight for v in spec.variants},
        "channels": list(spec.channels),
        "models": sorted(filter(None, chosen["model_version"].unique().to_pylist())),
        "made": {name: at.isoformat() if at else None for name, at in made.items()},
    }
    return Gathered(pa.table(columns), devices, policy)


def _with_profiles(conf: Settings, lake: Reading, known: ir.Table, asked: set[str], as_of: datetime) -> ir.Table:
    """The columns of profiles and of the journey beside features and scores, where they are asked for."""
    from controltower.jobs.inference import usable
    from controltower.profiles import journey

    parts = []
    if others := asked - set(known.columns) - set(journey.COLUMNS):
        if not lake.has("profiles"):
            raise NoData(
                f"{', '.join(sorted(others))}: no feature or score is called so, and there are no profiles yet.",
                "If it is one of a profile, run `controltower score` first; else correct the campaign's audience.",
            )
        parts.append(usable(conf, lake, as_of).drop("as_of"))
    if asked & set(journey.COLUMNS):
        parts.append(journey.journeys(lake.table, as_of))
    for part in parts:
        theirs = part.rename(whose="customer_id")
        known = known.left_join(theirs, known.customer_id == theirs.whose).drop("whose")
    return known


def _with_expected(conf: Settings, shop: Shop, known: ir.Table, audience: Audience, as_of: datetime) -> ir.Table:
    """Those of whom something of the goal is expected, with that."""
    import ibis

    from controltower.jobs.targeting import expected_of

    assert audience.goal is not None
    rows = expected_of(conf, shop, as_of, audience.goal, audience.within).rename_columns(["whose", audience.ranked_by])
    theirs = ibis.memtable(rows)
    return known.inner_join(theirs, known.customer_id == theirs.whose).drop("whose")


def _by_inference(lake: Reading, chosen: ir.Table, audience: Audience, customers: pa.ChunkedArray) -> pa.Array:
    """Which of the customers chosen wouldn't be if nothing was inferred of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.audiences.segments import select
    from controltower.profiles.told import without_inference

    if not audience.inferred:
        return pa.repeat(False, len(customers))
    ranked_by = chosen[audience.ranked_by]
    without = {name: without_inference(chosen, name) for name in audience.inferred}
    still = select(chosen.mutate(**without, ranked_by=ranked_by), audience.rules)
    if audience.at_most and audience.ranked_by in without:
        still = still.filter(still[audience.ranked_by].identical_to(still.ranked_by))
    return pc.invert(pc.is_in(customers, lake.arrow(still.select("customer_id"))["customer_id"].combine_chunks()))


def _expected(
    conf: Settings, shop: Shop, lake: Reading, spec: Spec, customers: pa.ChunkedArray, as_of: datetime
) -> pa.Array:
    """What a message on each of the spec's channels is expected to be worth to each customer (MEMBERS); all null where
    the spec doesn't weigh channels, or nothing was learned of them."""
    import numpy as np
    import pyarrow as pa

    from controltower.jobs.weighing import Weighing

    nothing = pa.nulls(len(customers), pa.list_(pa.float64()))
    if spec.channel_choice != "expected":
        return nothing
    weighing = Weighing.of(conf, shop, lake, np.asarray(customers.to_pylist(), dtype=np.str_), as_of)
    if weighing is None:
        return nothing
    return pa.FixedSizeListArray.from_arrays(
        pa.array(weighing.by_channel(spec).ravel()), len(spec.channels)
    ).cast(pa.list_(pa.float64()))  # fmt: skip


def _made(lake: Reading, derived: ir.Table) -> datetime | None:
    """As of when the rows of a derived table were made; None where it is empty."""
    at: datetime | None = lake.arrow(derived.aggregate(at=derived.as_of.max()))["at"][0].as_py()
    return at


def _table(channel: str) -> str:
    """The column of scores with the tables of a channel's hours."""
    return "send_hours" if channel == "in_app" else f"send_hours_{channel}"


def _hours(scores: pa.Table, channels: Sequence[str]) -> pa.Array:
    """Each customer's tables for these channels (MEMBERS). Who has none gets one around their send hour; where that is
    none, or no number, around the usual one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.models.send_time.evidence import HOURS
    from controltower.models.send_time.tables import around

    hour = scores["send_hour"].cast("float64")
    hour = pc.if_else(pc.is_finite(hour), hour, None).cast("int64", safe=False).fill_null(_USUAL_HOUR).to_numpy()
    size = HOURS * len(channels)
    tables = np.empty((scores.num_rows, len(channels), HOURS), np.uint8)
    for n, name in enumerate(map(_table, channels)):
        if name not in scores.column_names:
            tables[:, n] = around(hour)
            continue
        there = scores[name].is_valid().to_numpy()
        tables[there, n] = pc.list_flatten(scores[name]).to_numpy().reshape(-1, HOURS)
        tables[~there, n] = around(hour[~there])
    offsets = np.arange(scores.num_rows + 1) * size
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(tables.ravel()))


def _picks(lake: Reading, spec: Spec, customers: pa.ChunkedArray) -> dict[str, pa.Array]:
    """Each customer's products as JSON, in the order of the customers, and the first one's algorithm.

    Many share a pick: each is made once.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.errors import BadSettings
    from controltower.models.recommend.placements import check

    if check(spec.recommend.placement).collections:
        raise BadSettings(
            f"{spec.name}: the placement {spec.recommend.placement} shows collections, and a message products.",
            "Choose another placement in the campaign's file.",
        )
    recommendations = lake.derived("recommendations")
    wanted = recommendations.filter(
        recommendations.customer_id.notnull(),
        recommendations.placement == spec.recommend.placement,
        recommendations["rank"] <= spec.recommend.products,
    )
    picked = {name: wanted[column] for name, column in _PICK.items()}
    found = lake.arrow(wanted.select("customer_id", "rank", **picked))
    place = pc.index_in(found["customer_id"], customers)
    found = found.append_column("place", place).filter(place.is_valid())
    code = np.zeros(found.num_rows, np.int64)
    for column in _PICK:  # a number for each pick that there is
        values = pc.dictionary_encode(found[column].combine_chunks(), null_encoding="encode")
        code = code * max(len(values.dictionary), 1) + values.indices.to_numpy()
    encoded = pa.array(code).dictionary_encode()
    distinct = found.select(list(_PICK)).take(pc.index_in(encoded.dictionary, pa.array(code)))
    texts = pa.array([orjson.dumps(pick).decode() for pick in distinct.to_pylist()], pa.string())
    places, code = found["place"].to_numpy(), encoded.indices.to_numpy()
    order = np.lexsort((found["rank"].to_numpy(), places))
    code, places = code[order], places[order]
    within = np.arange(len(places)) - np.searchsorted(places, places) < spec.recommend.products
    code, places = code[within], places[within]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(customers)))])
    first = pa.array(code).take(pa.array(offsets[:-1], mask=offsets[:-1] == offsets[1:]))
    picks = pa.DictionaryArray.from_arrays(pa.array(code), texts)
    algorithm = distinct["algorithm"].combine_chunks().take(first)
    return {
        "products": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), picks),
        "algorithm": algorithm.dictionary_encode(),
    }


def members_of(
    ledger: sa.Connection, key: bytes, spec: Spec, gathered: Gathered, subjects: Sequence[int], now: datetime
) -> pa.Table:
    """The audience as deciding needs it (campaigns.planning.MEMBERS): no address, but whether one is open."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from controltower.campaigns.planning import MEMBERS
    from controltower.ledger import suppressions

    def suppressed(column: pa.ChunkedArray, channel: str) -> pa.Array:
        """Whether each address or token is suppressed."""
        held = suppressions.held(ledger, "address", channel, spec.purpose, now) if channel in spec.channels else ()
        if not held:
            return pa.repeat(False, len(column))  # spares hashing them all
        return pa.array([bool(a) and suppressions.address_hash(key, a) in held for a in column.to_pylist()], pa.bool_())

    members, devices = gathered.members, gathered.devices
    email, size = members["email"], members.num_rows
    lives = devices.filter(pc.invert(suppressed(devices["push_token"], "push")))
    refused = suppressions.held(ledger, "device", "push", spec.purpose, now)
    open_ones = lives.filter(pc.invert(pc.is_in(lives["device_id"], pa.array(list(refused), pa.string()))))
    there, is_open = (np.bincount(some["place"].to_numpy(), minlength=size) > 0 for some in (lives, open_ones))
    missing = pc.fill_null(pc.equal(email, ""), True).to_numpy()
    columns = {
        **{name: members[name] for name in members.column_names if name != "email"},
        "subject_id": pa.array(subjects, pa.int64()),
        "address": pa.array(~np.asarray(suppressed(email, "email")), mask=missing),
        "device": pa.array(is_open, mask=~there),
    }
    return pa.table({f.name: columns[f.name] for f in MEMBERS}).cast(MEMBERS)
