"""Deciding: every member has a place, and nobody without permission gets a message."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from controltower.campaigns import timing
from controltower.campaigns.allocation import Learned
from controltower.campaigns.planning import MEMBERS, Permissions
from controltower.campaigns.planning import decide as decide_in_columns
from controltower.campaigns.specs import Spec, Window, find_spec
from controltower.ledger.decisions import Decision, rows
from controltower.models.send_time.tables import around
from controltower.settings import INCLUDE, parse_shop
from controltower.shop import QuietHours, Shop
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime.fromisoformat("2026-06-15T06:30+09:00")
SHOP: Shop = parse_shop(INCLUDE / "shops" / "simulated.yaml").model_copy(update={"explore_hours": 0.0})
SPEC: Spec = find_spec(INCLUDE / "campaigns", "picked_for_you")
PICKS = [f'{{"product_id":"p{n}","algorithm":"als","reason":null,"value":null}}' for n in range(6)]
TABLES = np.tile(around(np.array([22]))[0], len(SPEC.channels)).tolist()
IDS = [f"c{n}" for n in range(12)]
WINDOW = Window()
SOME = st.sets(st.sampled_from(IDS))


def member(
    customer: str, address: bool | None = True, device: bool | None = True, picks: int = 6, subject: int = 0
) -> dict[str, Any]:
    return {
        "customer_id": customer, "subject_id": subject or int(customer[1:]) + 100, "zone": SHOP.zone.key,
        "country": "KR", "hours": TABLES, "address": address, "device": device, "products": PICKS[:picks],
        "algorithm": "als" if picks else None, "expected": None, "inferred": False,
    }  # fmt: skip


def decide(
    members: list[dict[str, Any]], spec: Spec, shop: Shop, rights: Permissions, now: datetime,
    learned: Learned | None = None, occurrence: str = "2026-06-15",
) -> list[Decision]:  # fmt: skip
    columns = {f.name: pa.array([m[f.name] for m in members], f.type) for f in MEMBERS}
    return list(rows(decide_in_columns(pa.table(columns), spec, shop, rights, now, occurrence, learned)))


def permissions(**sets: dict[str, set[str]]) -> Permissions:
    nobody: dict[str, set[str]] = {"email": set(), "push": set(), "in_app": set()}
    most = {"email": set(IDS), "push": set(IDS), "in_app": set()}
    given = {"granted": most, "night": nobody, "suppressed": nobody, "capped": nobody}
    return Permissions(**{name: by_channel | sets.get(name, {}) for name, by_channel in given.items()})


@settings(deadline=None)
@given(SOME, SOME, SOME, SOME, SOME, SOME)
def test_every_member_has_a_place_and_every_message_its_permissions(
    email: set[str], push: set[str], suppressed: set[str], capped: set[str], night: set[str], sent: set[str]
) -> None:
    rights = permissions(
        granted={"email": email, "push": push},
        suppressed={"email": suppressed, "push": suppressed},
        capped={"email": capped, "push": set()},
        night={"email": set(), "push": night},
    )
    rights = Permissions(**{**vars(rights), "in_earlier_version": {int(c[1:]) + 100 for c in sent}})
    decisions = decide([member(c) for c in IDS], SPEC, SHOP, rights, NOW)
    assert [d.customer_id for d in decisions] == IDS
    for d in decisions:
        assert 0 < d.probability <= 1
        assert (d.outcome == "message") == (d.reason is None)
        if d.outcome == "not_sent":
            continue
        assert d.customer_id not in suppressed | sent
        if d.outcome == "message":
            assert d.channel and d.due_at
            assert d.customer_id in rights.granted[d.channel]
            assert d.customer_id not in rights.capped[d.channel]
            if d.channel == "push" and timing.is_night_in_korea(d.due_at):
                assert d.customer_id in night


def one(m: dict[str, Any], rights: Permissions, spec: Spec = SPEC) -> tuple[str, str | None]:
    spec = spec.model_copy(update={"holdout": 0.0})
    shop = SHOP.model_copy(update={"global_holdout": 0.0})
    (d,) = decide([m], spec, shop, rights, NOW)
    return d.outcome, d.reason or d.channel


def test_each_refusal_has_its_reason_and_the_next_channel_takes_over() -> None:
    nobody: set[str] = set()
    assert one(member("c1"), permissions()) == ("message", "push")
    assert one(member("c1"), permissions(granted={"push": nobody, "email": {"c1"}})) == ("message", "email")
    assert one(member("c1"), permissions(granted={"push": nobody, "email": nobody})) == ("not_sent", "no_consent")
    both = {"push": {"c1"}, "email": {"c1"}}
    assert one(member("c1"), permissions(suppressed=both)) == ("not_sent", "suppressed")
    assert one(member("c1"), permissions(capped=both)) == ("not_sent", "frequency_cap")
    assert one(member("c1", address=None, device=None), permissions()) == ("not_sent", "no_address")
    assert one(member("c1", device=None), permissions()) == ("message", "email")
    in_app = {"granted": {"email": nobody, "push": nobody, "in_app": {"c1"}}}
    assert one(member("c1", address=None, device=None), permissions(**in_app)) == ("message", "in_app")
    assert one(member("c1"), permissions(**in_app, capped={"in_app": {"c1"}})) == ("not_sent", "frequency_cap")
    assert one(member("c1", address=False, device=False), permissions()) == ("not_sent", "suppressed")
    assert one(member("c1", address=False), permissions()) == ("message", "push")
    assert one(member("c1", picks=2), permissions()) == ("not_sent", "too_few_products")


def test_the_channel_that_is_expected_to_bring_most_is_taken_and_logged() -> None:
    """Of those open; the first of equal ones, as they are to two digits; without expectations the spec's order."""
    assert SPEC.channels == ["push", "email", "in_app"]
    spec = SPEC.model_copy(update={"holdout": 0.0})
    shop = SHOP.model_copy(update={"global_holdout": 0.0})
    said = {"c1": [0.1, 0.3, 0.0], "c2": [0.1, 0.1004, 0.0], "c3": [-0.2, -0.3, -0.1], "c4": None}
    members = [member(c) | {"expected": expected} for c, expected in said.items()]
    decided = decide(members, spec, shop, permissions(), NOW)
    assert [d.channel for d in decided] == ["email", "push", "push", "push"], "c3 hasn't agreed to in_app"
    assert decided[0].choices["expected"] == {"push": 0.1, "email": 0.25, "in_app": 0.0}
    assert decided[0].choices["channels"] == ["email", "push"]
    assert "expected" not in decided[3].choices
    (d,) = decide(members[:1], spec, shop, permissions(capped={"email": {"c1"}}), NOW)
    assert d.channel == "push" and d.choices["refused"]["email"] == "frequency_cap"


def test_messages_are_planned_out_of_the_shops_quiet_hours() -> None:
    quiet = QuietHours(start=time(11), end=time(7))  # over midnight, and over the best hour, 22
    decisions = decide(
        [member(c) for c in IDS], SPEC, SHOP.model_copy(update={"quiet_hours": quiet}), permissions(), NOW
    )
    due = {d.due_at.astimezone(SHOP.zone).hour for d in decisions if d.due_at}
    assert due == {8}  # of 8, 9 and 10 the nearest to 22 around the clock
    never = QuietHours(start=time(8), end=time(7, 59))
    shop = SHOP.model_copy(update={"quiet_hours": never, "global_holdout": 0.0})
    assert {d.reason for d in decide([member("c1")], SPEC, shop, permissions(), NOW)} == {"no_hour_in_window"}


def test_two_customers_who_are_one_person_get_one_message() -> None:
    spec = SPEC.model_copy(update={"holdout": 0.0})
    shop = SHOP.model_copy(update={"global_holdout": 0.0})
    decided = decide([member("c1", subject=7), member("c2", subject=7)], spec, shop, permissions(), NOW)
    assert [(d.outcome, d.reason) for d in decided] == [("message", None), ("not_sent", "same_person")]


def test_learned_shares_are_the_probabilities_of_what_was_done() -> None:
    learned = Learned("2026-06-15", {"personal": 0.8, "product_first": 0.2}, {})
    kept = [{"subject_id": int(c[1:]) + 100, "arm": "product_first", "share": 0.5} for c in IDS]
    stored = pa.Table.from_pylist(kept)
    rights = Permissions(**{**vars(permissions()), "stored_arms": stored})
    decisions = decide([member(c) for c in IDS], SPEC, SHOP, rights, NOW, learned)
    treated = (1 - SPEC.holdout) * (1 - SHOP.global_holdout)
    sent = [d for d in decisions if d.outcome == "message"]
    assert len({d.arm for d in sent}) == 2
    for d in sent:
        assert d.share == learned.shares[str(d.arm)]
        assert abs(d.probability - treated * d.share) < 1e-12
    later = decide([member(c) for c in IDS], SPEC, SHOP, rights, NOW, Learned("2026-06-16", learned.shares, {}))
    assert [d.arm for d in later] != [d.arm for d in decisions]
    fixed = [d for d in decide([member(c) for c in IDS], SPEC, SHOP, rights, NOW) if d.outcome == "message"]
    assert {d.arm for d in fixed} == {"product_first"}, "without them, the first assignment holds"


def test_planning_twice_decides_the_same() -> None:
    members, shop = [member(c) for c in IDS], SHOP.model_copy(update={"explore_hours": 0.5})
    first = decide(members, SPEC, shop, permissions(), NOW)
    assert first == decide(members, SPEC, shop, permissions(), NOW)
    alone = [decide([m], SPEC, shop, permissions(), NOW)[0] for m in members]
    assert alone == first, "whoever goes along"
    assert decide(members, SPEC, shop, permissions(), NOW, occurrence="2026-06-16") != first


def due(
    now: str, hour: int, zone: str = SHOP.timezone, window: Window = WINDOW, channel: str = "email"
) -> tuple[datetime, list[int]] | None:
    """When a message to somebody is due whose hour this is, and the hours to choose from."""
    spec = SPEC.model_copy(update={"holdout": 0.0, "channels": [channel], "window": window})
    one = member("c1") | {"zone": zone, "hours": around(np.array([hour]))[0]}
    (d,) = decide(
        [one], spec, SHOP.model_copy(update={"global_holdout": 0.0}), permissions(), datetime.fromisoformat(now)
    )
    assert (d.reason == "no_hour_in_window") == (d.due_at is None)
    return (d.due_at, d.choices["hours"]) if d.due_at else None


@pytest.mark.parametrize(
    ("now", "zone", "hour", "at"),
    [
        ("2026-06-15T06:30+09:00", "Asia/Seoul", 14, "2026-06-15T14:00+09:00"),
        ("2026-06-15T14:20+09:00", "Asia/Seoul", 14, "2026-06-15T14:20+09:00"),  # the best hour has begun: at once
        ("2026-06-15T15:10+09:00", "Asia/Seoul", 14, "2026-06-16T14:00+09:00"),
        (
            "2026-06-15T06:30+09:00",
            "Asia/Seoul",
            23,
            "2026-06-15T20:00+09:00",
        ),  # outside the window: the nearest inside
        ("2026-03-28T20:30+00:00", "Europe/London", 10, "2026-03-29T10:00+01:00"),  # the clock moves forward in between
        ("2026-10-24T20:30+01:00", "Europe/London", 10, "2026-10-25T10:00+00:00"),  # and back
        ("2026-03-07T22:00-05:00", "America/New_York", 9, "2026-03-08T09:00-04:00"),
        ("2026-11-01T00:30-04:00", "America/New_York", 9, "2026-11-01T09:00-05:00"),
    ],
)
def test_the_best_hour_is_met_in_the_customers_zone(now: str, zone: str, hour: int, at: str) -> None:
    found = due(now, hour, zone)
    assert found is not None and found[0] == datetime.fromisoformat(at)


def test_hours_that_the_clock_leaves_out_or_gives_twice() -> None:
    """London's clock goes from 01:00 to 02:00 on 29 March 2026, and back on 25 October."""
    small = Window(start=time(1), end=time(2))
    before = "2026-03-28T12:00+00:00"
    assert due(before, 1, "Europe/London", small) is None
    longer = due(before, 1, "Europe/London", small.model_copy(update={"hours": 48}))
    assert longer == (datetime.fromisoformat("2026-03-30T01:00+01:00"), [1])
    twice = due("2026-10-24T12:00+01:00", 1, "Europe/London", small)
    assert twice == (datetime.fromisoformat("2026-10-25T01:00+01:00"), [1])
    assert due("2026-06-15T22:00+09:00", 9, window=Window(hours=3)) is None
    friday = due("2026-06-12T12:00+09:00", 11, window=Window(start=time(11), end=time(12), hours=72))
    assert friday == (datetime.fromisoformat("2026-06-13T11:00+09:00"), [11])


def test_the_table_of_the_channel_and_of_the_day_decides() -> None:
    """By e-mail he is reached on Saturdays at 9, by push on Sundays at 19, and little less at 9 on Fridays."""
    tables = np.zeros((2, 168), np.uint8)
    tables[0, 5 * 24 + 9], tables[1, 6 * 24 + 19], tables[:, 4 * 24 + 9] = 200, 200, 190
    spec = SPEC.model_copy(update={"channels": ["email", "push"], "holdout": 0.0, "window": Window(hours=72)})
    shop = SHOP.model_copy(update={"global_holdout": 0.0})
    one = member("c1") | {"hours": tables.ravel()}
    thursday = datetime.fromisoformat("2026-06-11T22:00+09:00")
    for refused, at in ((set[str](), "2026-06-13T09:00+09:00"), ({"c1"}, "2026-06-14T19:00+09:00")):
        (d,) = decide([one], spec, shop, permissions(suppressed={"email": refused}), thursday)
        assert d.due_at == datetime.fromisoformat(at) - timedelta(hours=1)  # of equal hours the first that is near


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 1.0])
def test_a_share_of_messages_goes_at_a_random_allowed_hour(share: float) -> None:
    """Each with its probability, and whether it was drawn."""
    ids = [f"c{n}" for n in range(3000)]
    shop = SHOP.model_copy(update={"explore_hours": share, "global_holdout": 0.0})
    spec = SPEC.model_copy(update={"holdout": 0.0, "channels": ["email"]})
    rights = permissions(granted={"email": set(ids)})
    one = member("c1") | {"hours": TABLES[:168]}
    decisions = decide([one | {"customer_id": c, "subject_id": n} for n, c in enumerate(ids)], spec, shop, rights, NOW)
    chosen = [d.choices for d in decisions]
    drawn = [c["hour"] for c in chosen if c["explored"]]
    assert len(drawn) / 3000 == pytest.approx(share, abs=0.03) and (share > 0 or not drawn)
    assert {c["hour"] for c in chosen if not c["explored"]} <= {20}
    if drawn:
        counts = np.bincount(drawn, minlength=24)[8:21]
        assert counts.sum() == len(drawn) and ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 33
    for d, c in zip(decisions, chosen, strict=True):
        assert d.due_at is not None and d.due_at.astimezone(SHOP.zone).hour == c["hour"] in c["hours"]
        assert c["best_hour"] == 20 and c["hours"] == list(range(8, 21))
        assert c["hour_probability"] == pytest.approx(share / 13 + (1 - share) * (c["hour"] == 20), abs=1e-6)
