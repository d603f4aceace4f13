"""Audience rules on profiles and on the journey, for the one campaign of a scored shop."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from controltower import clock
from controltower.campaigns import specs
from controltower.data.lake import Lake, interval_key
from controltower.errors import BadSpec, NoData
from controltower.jobs.campaigns import plan_campaign
from controltower.jobs.dispatch import dispatch_messages
from controltower.jobs.gathering import gather
from controltower.ledger import consents, plans
from controltower.ledger.database import begin, reading
from controltower.ledger.in_app import available
from controltower.settings import Settings, load_shop
from controltower.web.public.in_app import show
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
    say(conf, PEOPLE, KNOWN, True)
    say(conf, ["c5"], NOW - timedelta(hours=1), False)
    return conf


def say(conf: Settings, customers: Iterable[str], at: datetime, granted: bool, purpose: str = "profiling") -> None:
    channel = "in_app" if purpose == "marketing" else "email"
    with begin(conf) as ledger:
        consents.record(
            ledger,
            [{"customer_id": c, "channel": channel, "purpose": purpose, "recorded_at": at, "granted": granted,
              "source": "test"} for c in customers],
        )  # fmt: skip


def chosen(conf: Settings, *rules: dict[str, Any], **more: Any) -> dict[str, bool]:
    """The audience: whether each is in it by what is inferred of them."""
    spec = specs.validate(scored_shop.SPEC | {"audience": {"rules": list(rules), **more}}, "test")
    found = gather(conf, load_shop(conf), spec, NOW).members
    return dict(zip(found["customer_id"].to_pylist(), found["inferred"].to_pylist(), strict=True))


def audience(conf: Settings, *rules: dict[str, Any]) -> set[str]:
    return set(chosen(conf, *rules))


def test_told_inferred_or_both_and_only_while_they_agree(conf: Settings) -> None:
    assert audience(conf, {"column": "told_gender", "is_in": ["female"]}) == {"c0"}
    assert audience(conf, {"column": "inferred_gender", "is_in": ["female"]}) == {"c2"}
    assert audience(conf, {"column": "told_or_inferred_female_probability", "at_least": 0.8}) == {"c0", "c2"}
    assert audience(conf, {"column": "told_or_inferred_female_probability", "at_least": 0.5}) == {"c0", "c2", "c3"}
    assert audience(conf, {"column": "told_or_inferred_age", "at_least": 31}) == {"c2", "c3", "c4"}


def test_who_is_in_it_by_what_is_inferred(conf: Settings) -> None:
    woman = {"column": "told_or_inferred_female_probability", "at_least": 0.5}
    old = {"column": "told_or_inferred_age", "at_least": 20}
    everybody = {"column": "orders_total", "at_least": 1}
    assert chosen(conf, woman) == {"c0": False, "c2": True, "c3": True}
    assert chosen(conf, old) == {"c0": False, "c1": False, "c2": True, "c3": True, "c4": True}
    assert not any(chosen(conf, {"column": "inferred_gender", "is_in": ["male"], "or_unknown": True}).values())
    by = {"order_by": "told_or_inferred_female_probability"}
    assert not any(chosen(conf, everybody, **by).values()), "it only says who comes first"
    assert chosen(conf, everybody, **by, at_most=3) == {"c0": False, "c2": True, "c3": True}
    assert list(chosen(conf, everybody, **by, at_most=9).values()).count(True) == 3, "of some nothing is inferred"


def test_who_withdraws_after_the_plan_is_not_written_to_by_what_was_inferred(conf: Settings) -> None:
    """c0 told, and stays; of c2 and c3 it was inferred: one withdraws before it leaves, one later."""
    text = {"in_app_title": {"en": "A"}, "in_app_body": {"en": "B"}}
    woman = {"column": "told_or_inferred_female_probability", "at_least": 0.5}
    variants = [variant | text for variant in scored_shop.SPEC["variants"]]
    scored_shop.write_spec(
        conf, template="picked_for_you", channels=["in_app"], audience={"rules": [woman]}, variants=variants
    )
    say(conf, PEOPLE, KNOWN, True, "marketing")
    run_id = plan_campaign("spring")["run_id"]
    noon = NOW + timedelta(hours=3)
    clock.set_clock(conf, noon, speed=0)
    say(conf, ["c0", "c2"], noon, False)
    report = dispatch_messages()
    assert (report["requests"], report["refused"]) == ({"sent": 1}, {"no_profiling_consent": 1})

    def shown(customer: str) -> int:
        with reading(conf) as ledger:
            return len(show(conf, available(ledger, customer, noon), noon))

    assert [shown(c) for c in ("c0", "c2", "c3")] == [1, 0, 1]
    say(conf, ["c3"], noon, False)
    assert [shown(c) for c in ("c0", "c3")] == [1, 0]
    with reading(conf) as ledger:
        assert plans.by_inference(ledger, run_id, ["c0", "c2", "c3"]) == {"c2", "c3"}


def test_the_journey_as_of_the_minute(conf: Settings) -> None:
    assert audience(conf, {"column": "journey", "is_in": ["browsing_now"]}) == {"c0"}
    left = {"column": "journey", "is_in": ["left_with_cart"]}
    assert audience(conf, left) == {"c1", "c2"}
    assert audience(conf, left, {"column": "journey_minutes", "at_most": 60}) == {"c1"}
    both = audience(conf, left, {"column": "told_or_inferred_gender", "is_in": ["female"]})
    assert both == {"c2"}


def test_a_column_that_is_nowhere(conf: Settings) -> None:
    with pytest.raises(BadSpec, match=r"no feature, score or profile.*told_gender"):
        audience(conf, {"column": "gender", "is_in": ["female"]})
    lake = Lake(conf)
    lake.drop({"profiles": {key: load.parts for key, load in lake.manifest().loads("profiles").items()}})
    with pytest.raises(NoData, match=r"told_gender: .* no profiles yet. If .* `controltower score` first"):
        audience(conf, {"column": "told_gender", "is_in": ["female"]})
