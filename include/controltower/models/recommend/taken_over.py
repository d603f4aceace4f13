"""Lists of an earlier day that hold still: of people who did nothing since, and for whom nothing changed.

Each list is kept with its basis, 64 bits of what it was made of: the person's entries and segments, what may not be
shown to them, and what is the same for all: the model, the rules that hold, the code. Where the basis is the same, only
what fades with time, is bought by others or came into stock could change the list; that waits for a week at most.
Where that is all there is to a list, it is made anew each day (`batch.recommend` and `take_over` there): what is
popular, what is used up by now, which collections run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from controltower.models.recommend import mixing, rules
from controltower.models.recommend.interactions import Interactions
from controltower.models.registry import Card, code_version

if TYPE_CHECKING:
    from controltower.data.reading import Reading

KEPT = timedelta(days=7)  # a list is made anew when it is older
COLUMNS = {"basis", "made_at", "reason_product_id"}  # an interval that was written before there were these has none


def same_for_all(
    card: Card, placement: str, repeat: bool, k: int, site: str, prepared: rules.Prepared, now: datetime, zone: ZoneInfo
) -> np.uint64:
    """One number of what all lists of a placement at a site are made of."""
    told = prepared.rules
    dated = (*told.boosts, *told.buries, *told.exclusions, *told.pins)
    said: list[Any] = [
        code_version(), card.name, card.version, placement, repeat, k, site, told.model_dump_json(),
        [rule.holds(now, zone) for rule in dated],
        # a pin that is in stock again has its place at once
        prepared.pins.tolist(), prepared.places.tolist(), prepared.allowed[prepared.pins].tolist(),
    ]  # fmt: skip
    return np.uint64(mixing.of_texts([json.dumps(said)])[0])


def basis(history: Interactions, bars: sp.csr_matrix, same: np.ndarray) -> np.ndarray:
    """The basis (int64) of each of a history's people.

    bars: people x products, what may not be shown to each (bits); same: `same_for_all` of each one's site
    """
    barred = mixing.mixed(bars.indices.astype(np.uint64) << np.uint64(8) | bars.data.astype(np.uint64))
    return (history.digest + mixing.mixed(mixing.summed(barred, np.diff(bars.indptr)) + same)).view(np.int64)


@dataclass(frozen=True)
class Earlier:
    """The lists of an earlier interval: the newest of a reading, which is of a moment before the new ones."""

    reading: Reading

    @classmethod
    def of(cls, reading: Reading) -> Earlier | None:
        """None where there are none, or a version wrote them that kept no basis."""
        found = reading.has("recommendations") and COLUMNS.issubset(reading.derived("recommendations").columns)
        return cls(reading) if found else None

    def entries(
        self, placement: str, as_of: datetime, customers: np.ndarray, visitors: np.ndarray, product_ids: np.ndarray,
        basis: np.ndarray,
    ) -> Iterator[pa.RecordBatch]:  # fmt: skip
        """What is in the lists whose basis is the same still, and that are young enough; in any order.

        person: position in customers, then visitors; place: from 0; product, about: positions in product_ids (their
        number: isn't in them; -1: the reason names none); score, algorithm, code, rules (text), made_at
        """
        count, products = len(basis), len(product_ids)
        people = {
            "id": pa.array([*customers.tolist(), *visitors.tolist()], pa.string()),
            "is_visitor": np.arange(count) >= len(customers),
            "person": np.arange(count, dtype=np.int32),
            "basis": basis,
        }
        shown = {"id": pa.array(product_ids, pa.string()), "at": np.arange(products, dtype=np.int32)}
        self.reading.keep("_people", "SELECT * FROM given", {"given": pa.table(people)})
        self.reading.keep("_products", "SELECT * FROM given", {"given": pa.table(shown)})
        since = (as_of - KEPT).astimezone(UTC).isoformat()
        yield from self.reading.batches(
            f"""
            SELECT person, CAST(rank - 1 AS INTEGER) AS place, coalesce(shown.at, {products}) AS product,
              coalesce(named.at, -1) AS about, CAST(score AS FLOAT) AS score, algorithm, reason_code AS code, rules,
              made_at
            FROM recommendations AS kept
            JOIN _people AS who ON who.id = coalesce(kept.customer_id, kept.visitor_id)
              AND who.is_visitor = (kept.customer_id IS NULL) AND who.basis = kept.basis
            LEFT JOIN _products AS shown ON shown.id = kept.product_id
            LEFT JOIN _products AS named ON named.id = kept.reason_product_id
            WHERE placement = '{placement}' AND made_at >= TIMESTAMPTZ '{since}'
            """
        )
        self.reading.forget(["_people", "_products"])
