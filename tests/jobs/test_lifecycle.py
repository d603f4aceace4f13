"""Who moves between the stages, on a shop whose customers' moves are known."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from controltower import settings
from controltower.audiences.rules import Rule
from controltower.audiences.segments import select
from controltower.cli import app
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSettings, NoData
from controltower.jobs.inference import profile_rows
from controltower.jobs.lifecycle import lifecycle_moves
from controltower.jobs.profiles import build_profiles
from controltower.models.registry import Registry
from support.lakes import publish_rows
from support.shop_tables import SHOP, T, ago, lake_with, order, orders
from typer.testing import CliRunner

WEEK = timedelta(days=7)
# days before T on which each customer bought: a week before T they stood here, at T there
MOVES: dict[tuple[str | None, str | None], list[tuple[float, ...]]] = {
    ("prospect", "prospect"): [(), ()],
    ("prospect", "new"): [(3,)],
    ("new", "new"): [(10,)],
    ("new", "active"): [(25, 2), (35,)],
    ("active", "active"): [(50, 1)],
    ("active", "lapsing"): [(62,), (65,), (44, 54, 34)],
    ("lapsing", "active"): [(100, 5)],
    ("lapsing", "lost"): [(185,)],
    ("lost", "lost"): [(300,)],
    (None, "prospect"): [()],
}
BOUGHT = {f"{a or 'later'}>{b}{n}": days for (a, b), some in MOVES.items() for n, days in enumerate(some)}


@pytest.fixture
def shop(home: Path) -> Lake:
    """Features as of T and as of a week before, made by the real job."""
    (home / "shop.yaml").write_text(yaml.safe_dump(SHOP.model_dump(mode="json")))
    made = [order(f"{c}{d}", c, ago(d), ("p", 1, 5)) for c, days in BOUGHT.items() for d in days]
    people = [{"customer_id": c, "updated_at": ago(2 if c.startswith("later") else 400)} for c in BOUGHT]
    lake = lake_with(home, {"customers": people, **orders(*made)})
    for at in (T - WEEK, T):
        build_profiles(at.isoformat())
    return lake


def score(lake: Lake, at: datetime, dormant: dict[str, float | None], buys: float = 0.1) -> None:
    """Scores as of a moment: the chance of no purchase, and of a purchase."""
    rows = pa.table({
        "customer_id": list(dormant), "as_of": [at] * len(dormant),
        "dormancy_28d": pa.array(dormant.values(), pa.float64()), "propensity_28d": [buys] * len(dormant),
    })  # fmt: skip
    publish_rows(lake, "scores", interval_key(at), rows)


def cells(moves: list[dict[str, Any]]) -> dict[tuple[str | None, str | None], Any]:
    return {(move["from"], move["to"]): move for move in moves}


def test_who_moved_within_a_week(shop: Lake) -> None:
    report = lifecycle_moves(T.isoformat())
    assert (report["as_of"], report["before"]) == (T.isoformat(), (T - WEEK).isoformat())
    assert {pair: move["customers"] for pair, move in cells(report["moves"]).items()} == {
        pair: len(some) for pair, some in MOVES.items()
    }
    assert report["stages"] == {"prospect": 3, "new": 2, "active": 4, "lapsing": 3, "lost": 2}
    assert report["expected"] is None, "nobody was scored"
    assert list(cells(report["moves"]))[-1] == (None, "prospect"), "in the order of the stages"
    assert json.loads(json.dumps(report)) == report


def test_what_isnt_there_is_told(shop: Lake, home: Path) -> None:
    report = lifecycle_moves(T.isoformat(), days=28)
    assert (report["before"], report["moves"]) == (None, [])
    assert lifecycle_moves(T.isoformat(), days=6)["before"] == (T - WEEK).isoformat(), "at most a day older"
    assert lifecycle_moves(T.isoformat(), days=5)["before"] is None
    with pytest.raises(NoData, match="controltower features"):
        lifecycle_moves("2026-01-01")
    with pytest.raises(BadSettings, match="1 to 365"):
        lifecycle_moves(days=0)


def test_an_id_that_was_merged_since_is_no_move(shop: Lake) -> None:
    gone = ["lost>lost0"]
    merged = {"customer_id": gone, "person_id": ["new>new0"], "since": [ago(1)], "until": [None]}
    schema = pa.schema({"customer_id": "string", "person_id": "string"}
                       | {name: pa.timestamp("us", tz="UTC") for name in ("since", "until")})  # fmt: skip
    publish_rows(shop, "identity", "now", pa.table(merged, schema=schema))
    build_profiles(T.isoformat(), rescan=True)
    found = cells(lifecycle_moves(T.isoformat())["moves"])
    assert found["lost", None]["customers"] == 1 and ("lost", "lost") not in found


def test_audiences_may_ask_for_the_stage_a_week_ago(shop: Lake, home: Path) -> None:
    conf = settings.load()
    with shop.read(T) as reading:
        rows = profile_rows(conf, reading, Registry(home / "models"), T, SHOP).rows.read_all()
        shop.commit(interval_key(T), {"profiles": shop.write("profiles", rows)})
    before = dict(zip(rows["customer_id"].to_pylist(), rows["lifecycle_a_week_ago"].to_pylist(), strict=True))
    assert before == {f"{a or 'later'}>{b}{n}": a for (a, b), some in MOVES.items() for n in range(len(some))}
    rules = [Rule(column="lifecycle", is_in=["lapsing"]), Rule(column="lifecycle_a_week_ago", is_in=["active"])]
    with shop.read(T) as reading:
        known = reading.derived("features").drop("as_of").join(reading.derived("profiles").drop("as_of"), "customer_id")
        chosen = reading.arrow(select(known, rules).select("customer_id"))["customer_id"].to_pylist()
    assert sorted(chosen) == [f"active>lapsing{n}" for n in range(3)]
    with shop.read(T - WEEK) as reading:
        first = profile_rows(conf, reading, Registry(home / "models"), T - WEEK, SHOP).rows.read_all()
    assert first["lifecycle_a_week_ago"].null_count == len(BOUGHT) - 1, "nothing is known of a week before"


def test_what_is_expected_follows_the_chances_and_the_rule(shop: Lake) -> None:
    """Of those active now: bought 5 and 35 and 2 and 1 days ago; within 28 days only the second would lapse."""
    score(shop, T, dict.fromkeys(BOUGHT, 0.75))
    said = lifecycle_moves(T.isoformat())["expected"]
    found = cells(said["moves"])
    assert (said["days"], said["until"], said["unknown"]) == (28, ago(-28).isoformat(), 0)
    assert (said["error"], said["dates"]) == (None, 0)
    lapse = found["active", "lapsing"]
    assert lapse["expected"] == pytest.approx(0.75) and lapse["low"] == 0
    assert lapse["high"] == pytest.approx(0.75 + 1.96 * sqrt(0.75 * 0.25), abs=1e-3)
    stay = found["active", "active"]
    assert stay["expected"] == pytest.approx(3.25), "three stay whatever they do"
    assert found["prospect", "new"]["expected"] == pytest.approx(0.3), "who never bought: by the propensity"
    assert found["new", "active"]["expected"] == pytest.approx(2), "their 30 days are over by then"
    assert sum(move["expected"] for move in found.values()) == pytest.approx(len(BOUGHT))


def test_past_dates_widen_what_is_expected(shop: Lake) -> None:
    """28 days before T half of the buyers who came were expected, and far too many for chance."""
    crowd = {f"many{n}": (100.0, 60.0, *((5.0,) if n < 800 else ())) for n in range(1000)}
    made = [order(f"{c}{d}", c, ago(d), ("p", 1, 5)) for c, days in crowd.items() for d in days]
    lake_with(shop.settings.home, {"customers": [{"customer_id": c} for c in crowd], **orders(*made)}, "many")
    for at in (ago(28), T):
        build_profiles(at.isoformat(), rescan=True)
        score(shop, at, dict.fromkeys((*crowd, *BOUGHT), 0.6), buys=0.4)
    said = lifecycle_moves(T.isoformat())["expected"]
    assert said["dates"] == 1 and 0.85 < said["error"] < 1.05, "800 and some of 406 expected"
    lapse = cells(said["moves"])["active", "lapsing"]
    assert lapse["high"] - lapse["expected"] > 1.96 * sqrt(lapse["expected"] * 0.4)


def test_whose_chance_isnt_known_is_counted(shop: Lake) -> None:
    score(shop, T, dict.fromkeys(BOUGHT, None))
    said = lifecycle_moves(T.isoformat())["expected"]
    assert said["unknown"] == 6, "not of who stays whatever they do, nor of who never bought"
    assert sum(move["expected"] for move in said["moves"]) == pytest.approx(len(BOUGHT) - 6)


def test_the_command(shop: Lake, home: Path) -> None:
    asked = ["lifecycle", "--as-of", T.isoformat()]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0 and "3 prospect, 2 new, 4 active, 3 lapsing, 2 lost" in shown.output
    assert "There are no scores of that date" in shown.output and "not known then" in shown.output
    score(shop, T, dict.fromkeys(BOUGHT, 0.75))
    out = home / "moves.json"
    shown = CliRunner().invoke(app, [*asked, "--days", "28", "--out", str(out)])
    assert "no moves can be told" in shown.output and "The interval holds chance only" in shown.output
    assert json.loads(out.read_text()) == []
    told = json.loads(CliRunner().invoke(app, [*asked, "--json", "--out", str(out)]).stdout)
    assert json.loads(out.read_text()) == told["moves"]
