"""Audience rules on profiles and on the journey, for the one campaign of a scored shop."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from controltower.campaigns import specs
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSpec
from controltower.jobs.gathering import gather
from controltower.ledger import consents
from controltower.ledger.database import begin
from controltower.settings import Settings, load_shop
from support import scored_shop
from support.lakes import publish_rows
from support.scored_shop import KNOWN, NOW, SCORED
from support.shop_tables import event, table

PEOPLE = {"c0": ("female", None, None), "c1": ("male", None, None), "c2": (None, "female", 0.9),
          "c3": (None, None, 0.6), "c4": (None, "male", 0.1), "c5": (None, "female", 0.95)}  # fmt: skip


@pytest.fixture
def conf(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """c0 and c1 told their gender; of the others it is inferred; c5 withdrew since."""
    conf = scored_shop.make(home, monkeypatch)
    rows = [
        {"customer_id": c, "as_of": SCORED, "told_gender": told, "told_age": 30 if told else None,
         "inferred_gender": guess, "inferred_female_probability": p,
         "inferred_male_probability": None if p is None else 1 - p, "inferred_age": None if told else 33}
        for c, (told, guess, p) in PEOPLE.items()
    ]  # fmt: skip
    lake = Lake(conf)
    publish_rows(lake, "profiles", interval_key(SCORED), pa.Table.from_pylist(rows))
    events = [event(f"{c}{m}", c, NOW - timedelta(minutes=m), "add_to_cart", product_id="p1")
              for c, m in (("c0", 29), ("c1", 30), ("c2", 300))]  # fmt: skip
    publish_rows(lake, "events", "first", table("events", events))
    words = [(c, KNOWN, True) for c in PEOPLE] + [("c5", NOW - timedelta(hours=1), False)]
    with begin(conf) as ledger:
        consents.record(
            ledger,
            [{"customer_id": c, "channel": "email", "purpose": "profiling", "recorded_at": at, "granted": granted,
              "source": "test"} for c, at, granted in words],
        )  # fmt: skip
    return conf


def audience(conf: Settings, *rules: dict[str, Any]) -> set[str]:
    spec = specs.validate(scored_shop.SPEC | {"audience": {"rules": list(rules)}}, "test")
    return set(gather(conf, load_shop(conf), spec, NOW).customers)


def test_told_inferred_or_both_and_only_while_they_agree(conf: Settings) -> None:
    assert audience(conf, {"column": "told_gender", "is_in": ["female"]}) == {"c0"}
    assert audience(conf, {"column": "inferred_gender", "is_in": ["female"]}) == {"c2"}
    assert audience(conf, {"column": "told_or_inferred_female_probability", "at_least": 0.8}) == {"c0", "c2"}
    assert audience(conf, {"column": "told_or_inferred_female_probability", "at_least": 0.5}) == {"c0", "c2", "c3"}
    assert audience(conf, {"column": "told_or_inferred_age", "at_least": 31}) == {"c2", "c3", "c4"}


def test_the_journey_as_of_the_minute(conf: Settings) -> None:
    assert audience(conf, {"column": "journey", "is_in": ["browsing_now"]}) == {"c0"}
    left = {"column": "journey", "is_in": ["left_with_cart"]}
    assert audience(conf, left) == {"c1", "c2"}
    assert audience(conf, left, {"column": "journey_minutes", "at_most": 60}) == {"c1"}
    both = audience(conf, left, {"column": "told_or_inferred_gender", "is_in": ["female"]})
    assert both == {"c2"}


def test_a_column_that_is_nowhere(conf: Settings) -> None:
    with pytest.raises(BadSpec, match="told_gender"):
        audience(conf, {"column": "gender", "is_in": ["female"]})
