"""`controltower privacy retention`: what grows is kept as the shop says, and long enough for all who read it."""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from controltower import clock, settings
from controltower.cli import app
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSettings, NoData
from controltower.jobs.ingest import ingest_data
from controltower.jobs.lake import list_versions
from controltower.jobs.profiles import publish_features
from controltower.jobs.quarantine import list_quarantine
from controltower.jobs.retention import keep_to_retention
from controltower.models.propensity import snapshot_times
from controltower.profiles.features import features
from controltower.settings import INCLUDE, Settings
from controltower.shop import KEPT_DAYS
from support.lakes import publish_rows
from support.random_shop import Rows, random_shop
from support.shop_tables import SHOP, T, ago, event, lake_with
from typer.testing import CliRunner

# The features that look at all there is: what is further back than it is kept is unknown, or not counted.
UNBOUNDED = {
    "days_since_last_event", "days_since_last_cart", "days_since_last_search", "days_since_last_message",
    "days_since_last_click", "days_since_first_event", "days_known",
}  # fmt: skip
COUNTED = {"messages_since_last_click", "messages_unanswered"}
DATED = ("events", "messages_history", "message_events")


def write_shop(conf: Settings, **days: int | None) -> None:
    shop = yaml.safe_load((INCLUDE / "shops" / "folder.yaml").read_text()) | {"retention_days": days}
    conf.shop_file.write_text(yaml.safe_dump(shop))


@pytest.fixture
def conf(home: Path) -> Settings:
    conf = settings.load()
    write_shop(conf)
    clock.set_clock(conf, T, speed=0)
    return conf


def removed(*, dry_run: bool = False) -> dict[str, int]:
    return {row["what"]: row["removed"] for row in keep_to_retention(dry_run=dry_run)["kept"] if row["removed"]}


def rows(lake: Lake, as_of: datetime) -> list[dict[str, Any]]:
    with lake.read(as_of) as reading:
        found: list[dict[str, Any]] = reading.arrow(features(reading.table, as_of, SHOP)).to_pylist()
    return sorted(found, key=lambda row: row["customer_id"])


@pytest.fixture
def long_history(home: Path, conf: Settings) -> tuple[Lake, Rows]:
    """Facts of three years, on 24 days in each."""
    rng, everything = random.Random(5), {}
    for year in range(3):
        for name, some in random_shop(rng, ago(365 * (year + 1)), ago(365 * year), f"y{year}-", size=12).items():
            everything.setdefault(name, []).extend(some)
    return lake_with(home, everything), everything


def test_features_stay_as_they_were(conf: Settings, long_history: tuple[Lake, Rows]) -> None:
    """With the shortest that a shop may set, as of the oldest snapshot that training looks at."""
    lake, facts = long_history
    shortest = {name: KEPT_DAYS[name][1] for name in DATED}
    write_shop(conf, **shortest)
    as_of = snapshot_times(T, 28, ago(2000))[-1]
    before = rows(lake, as_of)
    told = removed(dry_run=True)
    assert removed() == told and set(told) == set(DATED)
    for name, column in (("events", "occurred_at"), ("messages_history", "sent_at")):
        last = (max(row[column] for row in facts[name]) - timedelta(days=shortest[name])).date().replace(day=1)
        assert told[name] == sum(row[column].date() < last for row in facts[name])
    reach = shortest["events"] - (T - as_of).days - 1
    for was, now in zip(before, rows(lake, as_of), strict=True):
        different = {name for name in was if was[name] != now[name]}
        fewer = {name for name in COUNTED if now[name] is None or was[name] > now[name]}
        assert different <= {name for name in UNBOUNDED if (was[name] or 0) > reach} | fewer, (was, now)
    assert removed() == {}


def test_a_recording_of_past_years_stays(home: Path, conf: Settings) -> None:
    """Days count from the newest event, not from today."""
    lake = lake_with(home, random_shop(random.Random(1), ago(4000), ago(3600), "x", size=3))
    assert removed() == {} and lake.sizes("events")


def test_a_month_is_kept_until_all_of_it_is_older(home: Path, conf: Settings) -> None:
    write_shop(conf, events=400)
    days = 400 + ago(400).day - 1  # since that month began
    lake_with(home, {"events": [event(f"e{n}", "c1", ago(n), "view_item") for n in (0, 400, days, days + 1)]})
    assert removed() == {"events": 1}
    (version, *_) = list_versions()["versions"]
    assert (version["interval"], version["rows"]) == (None, {"events": 3})  # what the table has since


def test_features_are_counted_anew_after_a_month_went(conf: Settings) -> None:
    """A day's step must notice what was dropped of an interval, even where the rest was merged with more that came."""
    lake = lake_with(conf.home, {"events": [event(f"{n}", "c1", ago(n), "view_item") for n in (500, 3)]}, "first")
    publish_features(lake, ago(1), SHOP)
    write_shop(conf, events=400)
    assert removed() == {"events": 1}
    lake_with(conf.home, {"events": [event(f"e{n}", "c1", ago(0.5), "view_item") for n in range(5)]}, "second")
    lake.merge(("events",), ("first", "second"), "merged")
    assert "replaced" in publish_features(lake, ago(0), SHOP)["rescanned"]


def test_of_features_and_scores_the_newest_stay(conf: Settings) -> None:
    lake, made = Lake(conf), [200, 181, 180, 40]
    for days in made:
        for table in ("features", "scores"):
            publish_rows(lake, table, interval_key(ago(days)), pa.table({"customer_id": ["a", "b"]}))
    assert removed(dry_run=True) == {}  # 180 days before the newest
    publish_rows(lake, "features", interval_key(T), pa.table({"customer_id": ["a"]}))
    assert removed(dry_run=True) == {"features": 4} and len(lake.intervals("features")) == 5
    assert removed() == {"features": 4}
    assert lake.intervals("features") == [interval_key(ago(d)) for d in (180, 40, 0)]
    with lake.read(ago(190)) as reading, pytest.raises(NoData):
        reading.derived("features")
    with lake.read(ago(100)) as reading:
        assert reading.arrow(reading.derived("features")).num_rows == 2


def test_readers_that_began_before_see_what_they_saw(conf: Settings, long_history: tuple[Lake, Rows]) -> None:
    lake, facts = long_history
    write_shop(conf, events=400)
    with lake.read() as reading:
        assert removed()["events"]
        assert reading.arrow(reading.table("events").count().as_table())[0][0].as_py() == len(facts["events"])


def test_bad_rows_and_exports_go(conf: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "customers.csv").write_text(
        "customer_id,updated_at,birth_date\nc1,2026-06-01,1990-01-01\nc2,2026-06-01,x\n"
    )
    (folder / "source.yaml").write_text("bad_rows_limit: 0.9\n")
    ingest_data(str(folder))
    exports = conf.home / "exports"
    exports.mkdir()
    for name, days in (("old.csv", 31), ("new.csv", 29)):
        (exports / name).write_text("customer_id\nc1\n")
        os.utime(exports / name, (clock.wall() - days * 86_400,) * 2)
    assert removed(dry_run=True) == {"exports": 1} and (exports / "old.csv").exists()
    assert removed() == {"exports": 1} and [f.name for f in exports.iterdir()] == ["new.csv"]
    clock.set_clock(conf, T + timedelta(days=90), speed=0)
    assert removed() == {}
    clock.set_clock(conf, T + timedelta(days=91), speed=0)
    assert removed(dry_run=True) == {"quarantine": 1} and list_quarantine()["rows"]
    assert removed() == {"quarantine": 1} and not list_quarantine()["rows"]
    assert Lake(conf).sizes("customers")  # what was good stays


def test_for_good(conf: Settings, long_history: tuple[Lake, Rows]) -> None:
    write_shop(conf, **dict.fromkeys(KEPT_DAYS))
    assert removed() == {}


@pytest.mark.parametrize(
    ("days", "why"), [({"events": 399}, "for 400 days at least"), ({"orders": 900}, "'orders' isn't kept by days")]
)
def test_what_others_read_can_not_be_kept_too_shortly(conf: Settings, days: dict[str, int], why: str) -> None:
    write_shop(conf, **days)
    with pytest.raises(BadSettings, match=why):
        keep_to_retention()


def test_the_command_tells_each(conf: Settings, long_history: tuple[Lake, Rows]) -> None:
    write_shop(conf, scores=None)
    told = CliRunner().invoke(app, ["privacy", "retention", "--dry-run"])
    assert told.exit_code == 0 and "what scores, days for good, removed 0" in told.output
    told = CliRunner().invoke(app, ["privacy", "retention"])
    assert "what events, days 1095, removed" in told.output and "dry_run: no" in told.output
