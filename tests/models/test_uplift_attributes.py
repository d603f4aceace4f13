"""What a shop keeps of its customers beyond the contract, as columns to learn uplift from."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controltower.models.uplift.attributes import (
    MOST_COLUMNS,
    MOST_VALUES,
    Said,
    choose,
    columns,
    names,
    read,
    said,
)
from support.shop_tables import T, ago, lake_with, table


def told(count: int, **values: Any) -> list[Said]:
    """Rows of as many customers: a value each, of a list or (one for all) not."""
    of = {name: value if isinstance(value, list) else [value] * count for name, value in values.items()}
    return [(f"c{n}", {name: v[n] for name, v in of.items() if v[n] is not None}) for n in range(count)]


def chosen(rows: list[Said], treated: np.ndarray | None = None) -> list[str]:
    by_lot = (np.random.default_rng(1).random(len(rows)) < 0.5).astype(int)
    return choose(rows, by_lot if treated is None else treated, np.full(len(rows), 0.5)).columns


def parsed(attributes: str | None, **more: Any) -> dict[str, Any]:
    rows = [{"customer_id": "a", "updated_at": ago(1), "attributes": attributes, **more}]
    ((_, found),) = said(table("customers", rows), T)
    return found


def test_numbers_yes_or_no_and_short_texts_count() -> None:
    attributes = '{"recency": 10, "history": "142.44", "newbie": true, "zip_code": " Urban ", "mens": "0"}'
    found = parsed(attributes, gender="f", country="GB", birth_date=(T - timedelta(days=3653)).date())
    assert found.pop("age") == pytest.approx(10, abs=0.01)
    assert found == {"recency": 10.0, "history": "142.44", "newbie": 1.0, "zip_code": "Urban", "mens": "0",
                     "gender": "f", "country": "GB"}  # fmt: skip
    assert parsed('{"gender": "other"}', gender="f") == {"gender": "f"}, "the contract's column goes first"


@pytest.mark.parametrize(
    "attributes",
    [
        None, "", "[1, 2]", "null", '"text"', "{broken", '{"a": NaN}', '{"a": 1e999}', '{"a": {"b": 1}}', '{"a": [1]}',
        '{"a": null}', '{"a": ""}', '{"a": 1e300}', '{"a": "' + "x" * 100_000 + '"}', '{"a=b": 1}', '{"": 1}',
        '{"' + "n" * 1000 + '": 1}',
    ],
)  # fmt: skip
def test_the_odd_is_ignored(attributes: str | None) -> None:
    assert parsed(attributes) == {}


def test_texts_that_are_no_numbers_to_reckon_with_stay_texts_or_nothing() -> None:
    rows = told(100, size=[*["nan", "inf", "1_0", "9" * 40] * 5, *["12"] * 80])
    assert chosen(rows) == ["about:size=12"], "less than 99 of 100 are numbers"
    rows = told(3000, size=["inf", *["12", "13"] * 1499, "1e400"])
    made = columns(rows, chosen(rows))
    assert list(made) == ["about:size"] and np.isnan(made["about:size"].iloc[[0, -1]]).all()


def test_texts_of_few_values_make_a_column_each() -> None:
    rows = told(
        600, area=[*["Urban"] * 300, *["Rural"] * 281, *["Mars"] * 19], name=[f"n{n}" for n in range(600)],
        town=[f"t{n % (MOST_VALUES + 1)}" for n in range(600)], newbie=[float(n % 2) for n in range(600)],
        rare=[1.0] * 19 + [None] * 581,
    )  # fmt: skip
    found = chosen(rows)
    assert found == ["about:newbie", "about:area=Urban", "about:area=Rural"]
    made = columns([*rows[299:301], ("new", {"area": "Moon", "newbie": "?"}), ("silent", {})], found)
    assert made.index.tolist() == ["c299", "c300", "new", "silent"]
    assert made.to_numpy()[:3, 1:].tolist() == [[1, 0], [0, 1], [0, 0]] and np.isnan(made.to_numpy()[3]).all()
    assert np.isnan(made["about:newbie"]["new"])
    assert names(["days_since_last_order", *found]) == found


def test_at_most_so_many_columns_those_known_of_most() -> None:
    rows = [(f"c{n}", {f"k{k:03}": float(n % 7) for k in range(200) if n >= k}) for n in range(400)]
    assert chosen(rows) == [f"about:k{k:03}" for k in range(MOST_COLUMNS)]
    assert choose([], np.zeros(0), np.zeros(0)) == ([], [])


def test_what_differs_between_the_groups_was_written_later() -> None:
    rng = np.random.default_rng(3)
    treated = (rng.random(2000) < 0.5).astype(int)
    rows = told(
        2000,
        recency=rng.integers(1, 12, 2000).astype(float).tolist(),
        segment=["Mail" if t else "None" for t in treated],
        visits=(rng.poisson(1, 2000) + treated).astype(float).tolist(),
        opened=[1.0 if t else None for t in treated],
    )
    assert choose(rows, treated, np.full(2000, 0.5)) == (["about:recency"], ["opened", "segment", "visits"])


def test_what_was_written_later_isnt_read(tmp_path: Path) -> None:
    def row(who: str, at: Any, area: str) -> dict[str, Any]:
        return {"customer_id": who, "updated_at": at, "attributes": json.dumps({"area": area})}

    rows = [
        row("a", ago(20), "Urban"),
        row("a", ago(5), "Rural"),
        row("b", ago(5), "Rural"),
        row("c", ago(20), "Urban"),
    ]
    lake = lake_with(tmp_path, {"customers": rows})
    with lake.read(ago(10)) as then, lake.read(T) as now:
        assert dict(read(then, ["a", "b"])) == {"a": {"area": "Urban"}}
        assert dict(read(now, np.array(["a", "b"]))) == {"a": {"area": "Rural"}, "b": {"area": "Rural"}}
