"""Features made from the day before's are, number by number, those that every fact gives."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import pyarrow as pa
import pytest
import yaml
from controltower.data.lake import Lake
from controltower.data.persons import Persons
from controltower.jobs.profiles import publish_features
from controltower.profiles import rolling
from controltower.profiles.facts import gather, uncounted_orders
from controltower.profiles.features import assemble
from controltower.profiles.portable import DAY
from controltower.profiles.rolling import basis, windows
from controltower.settings import Settings
from controltower.shop import Shop
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.lakes import publish_rows
from support.random_days import PERSONS, RandomDays
from support.shop_tables import SHOP, ago, event, lake_with, order, orders

BY_ITSELF = ("as_of", "days_", "order_rate")  # what changes with each day

log = logging.getLogger("controltower")
EXAMPLES = int(os.environ.get("ROLLING_EXAMPLES", "1"))  # 100 and more by hand


def check(lake: Lake, day: int, shop: Shop = SHOP) -> dict[str, Any]:
    """Publish the features as of ago(day), and compare them with those of a rescan."""
    report = publish_features(lake, ago(day), shop)
    with lake.read(ago(day)) as reading:
        facts = gather(reading.table, ago(day), shop)
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


def test_each_way_in_which_features_change_is_found(tmp_path: Path) -> None:
    """One step over every kind of change that a random day may lack: each customer has one; nobody else is counted."""
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    persons = [
        {"customer_id": other, "person_id": person, "since": ago(9), "until": None}
        for other, person in (("other", "unmerged"), ("erased", "relative"))
    ]
    lost = [event(f"l{n}", None, ago(n), "view_item", visitor_id="v1") for n in (20, 8)]
    views = [event(f"{who}-view", who, ago(41), "view_item", product_id="p1") for who in ("erased", "west")]
    tables = orders(
        order("gone", "erased", ago(40), ("p2", 1, 10)),
        order("abroad", "late_rate", ago(20), ("p3", 1, 10), currency="USD"),
        order("others", "other", ago(20), ("p1", 2, 10)),
        order("mine", "unmerged", ago(30), ("p1", 1, 10)),
        order("evening", "west", ago(34, hours=-2), ("p1", 1, 10)),
        order("own", "relative", ago(44), ("p4", 1, 10)),
        order("aged", "aged", ago(34.5), ("p1", 1, 10)),
        order("still", "guest", ago(41), ("p1", 1, 10)),
        order("passed", "erased", ago(43), ("p1", 1, 10)),
    )
    tables["orders"].append({**tables["orders"][-1], "customer_id": "heir", "updated_at": ago(42)})
    west = {"customer_id": "west", "timezone": "America/Los_Angeles", "updated_at": ago(60)}
    login = event("l-login", "lost", ago(7), "login", visitor_id="v1")
    lake = lake_with(tmp_path, {**tables, "events": [*lost, login, *views], "customers": [west]})
    lake_with(tmp_path, {"events": [event("early", "merged_file", ago(10), "view_item")]}, "small")
    publish_rows(lake, "identity", "current", pa.Table.from_pylist(persons, schema=PERSONS))
    check(lake, 5)
    before = features_of(lake)

    lake.merge(("events",), ("first", "small"), "merged")
    came = [
        event("late", "merged_file", ago(33), "search", query="q", received_at=ago(4.5)),
        event("other-login", "found", ago(7.5), "login", visitor_id="v1", received_at=ago(4.5)),
        event("west-view", "west", ago(4.1), "view_item", product_id="p1"),
    ]
    rate = {"date": ago(20).date(), "from": "USD", "to": "GBP", "rate": 0.8, "updated_at": ago(4.5)}
    lake_with(tmp_path, {"events": came, "exchange_rates": [rate]}, "new")
    for row in persons:
        row["until"] = ago(4.5)
    publish_rows(lake, "identity", "current", pa.Table.from_pylist(persons, schema=PERSONS))
    erasing = Persons(lake)
    gone = erasing.erase(erasing.find(["erased"]))
    assert gone == {"events": 1, "orders": 2, "order_lines": 1, "identity": 1, "features_basis": 1}
    report = check(lake, 4)
    after = features_of(lake)
    assert report["rescanned"] is None
    changed = {who for who in before.keys() | after.keys() if before.get(who) != after.get(who)}
    assert changed == {"late_rate", "other", "unmerged", "west", "lost", "found", "merged_file"} | {
        "relative", "aged",
    }  # fmt: skip
    assert report["counted"] == len(changed)
    assert {"heir", "guest"} < after.keys()


def test_an_erasure_that_changes_somebody_else_is_no_step(tmp_path: Path) -> None:
    """An order was given to who is erased since: its earlier owner hasn't got it any more, and no row tells."""
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    first = order("o", "heir", ago(40), ("p1", 1, 10))
    lake = lake_with(tmp_path, orders(first, order("other", "heir", ago(50), ("p1", 1, 10))))
    check(lake, 5)
    given = {**first[0], "customer_id": "erased", "updated_at": ago(4.5)}
    lake_with(tmp_path, {"orders": [given]}, "second")
    erasing = Persons(lake)
    assert erasing.erase(erasing.find(["erased"])) == {"orders": 2, "order_lines": 1}
    assert check(lake, 4)["rescanned"] == "what was read of orders before was replaced"


def features_of(lake: Lake) -> dict[str, dict[str, Any]]:
    """What was published last, without what passes by itself."""
    with lake.read() as reading:
        rows = reading.arrow(reading.derived("features")).to_pylist()
    return {
        row["customer_id"]: {name: value for name, value in row.items() if not name.startswith(BY_ITSELF)}
        for row in rows
    }


def test_only_what_may_have_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whom an event left the last week, the week; of a new visitor's person, the visitor's old events beside. Older
    days than the newest that was made step, too."""
    monkeypatch.setattr(basis, "KEPT", 1)
    shop = SHOP.model_copy(update={"identity": SHOP.identity.model_copy(update={"visitor_days": 200})})
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(shop.model_dump(mode="json")))
    facts = [event(f"w{n}", "week", ago(n), "view_item", product_id="p1") for n in (11.5, 20, 100)]
    facts += [event(f"q{n}", "quiet", ago(n), "view_item", product_id="p1") for n in (9, 13)]
    facts += [event(f"v{n}", None, ago(n), "view_item", visitor_id="v1") for n in (150, 12)]
    facts += [event("known", "visiting", ago(13), "view_item")]
    facts += [event("login", "visiting", ago(4.5), "login", visitor_id="v1")]
    lake = lake_with(tmp_path, {"events": facts})
    found, of_step = {}, rolling.touched.of_step

    def watched(*given: Any) -> Any:
        chosen = of_step(*given)
        found.update(zip(chosen.ids.to_pylist(), chosen.groups["events"].tolist(), strict=True))
        return chosen

    monkeypatch.setattr(rolling.touched, "of_step", watched)
    for day in (0, 5):
        assert publish_features(lake, ago(day), shop)["rescanned"]
    assert check(lake, 4, shop)["rescanned"] is None
    assert found == {"week": 7, "quiet": 0, "visiting": 90}


def test_an_age_compared_otherwise_is_told() -> None:
    """The edges of windows are found by how features compare ages."""
    rows = ibis.table({"age": "int64"}, name="rows")
    assert windows.edge((rows.age < 30 * DAY).op()) == 30
    assert windows.edge((rows.age == rows.age.min()).op()) is None
    for otherwise in (
        rows.age >= 30 * DAY, rows.age < 30 * DAY + 1, rows.age + 1 < 30 * DAY, rows.age.between(0, 30 * DAY),
        rows.age / DAY < 30, rows.age == 30 * DAY, rows.age.min() < 30 * DAY,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="whole days"):
            windows.edge(otherwise.op())
