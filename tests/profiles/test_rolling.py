"""Features made from the day before's are, number by number, those that every fact gives."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from controltower.data.lake import Lake
from controltower.jobs.profiles import publish_features
from controltower.profiles.facts import gather, uncounted_orders
from controltower.profiles.features import assemble
from controltower.settings import Settings
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.random_days import RandomDays
from support.shop_tables import SHOP, ago

log = logging.getLogger("controltower")
EXAMPLES = int(os.environ.get("ROLLING_EXAMPLES", "1"))  # 100 and more by hand


def check(lake: Lake, day: int) -> dict[str, Any]:
    """Publish the features as of ago(day), and compare them with those of a rescan."""
    report = publish_features(lake, ago(day), SHOP)
    with lake.read(ago(day)) as reading:
        facts = gather(reading.table, ago(day), SHOP)
        whole = reading.arrow(assemble(facts)).combine_chunks()
        made = reading.arrow(reading.derived("features")).combine_chunks()
        without_rate = uncounted_orders(facts).to_pyarrow().as_py()
    assert made.schema.equals(whole.schema)
    wrong = {name: differing(made, whole, name) for name in whole.column_names if not made[name].equals(whole[name])}
    assert not wrong, f"{report}: {wrong}"
    assert report["orders_in_other_currencies_without_a_rate"] == without_rate
    return report


def differing(made: Any, whole: Any, name: str) -> Any:
    columns = [rows[column].to_pylist() for column in ("customer_id", name) for rows in (made, whole)]
    pairs = zip(*columns, strict=False)
    return [pair for pair in pairs if pair[0] != pair[1] or pair[2] != pair[3]][:3]


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.integers(0, 2**32))
def test_random_days_are_the_same_as_a_rescan(seed: int) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
        days = RandomDays(seed, Lake(Settings(home=Path(folder), threads=2), grace=0))
        days.first(5)
        check(days.lake, 5)
        rng, reports = random.Random(seed), []
        for day in (4, 3):
            done = days.load(day)
            if rng.random() < 0.2:  # nobody ran it
                continue
            reports.append({**check(days.lake, day), "day": day, "done": done})
        log.info("%d: %s", seed, [(r["day"], r["counted"], r["rescanned"], r["done"]) for r in reports])
