"""Deciding: every member has a place, and nobody without permission gets a message."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

import pyarrow as pa
from controltower.campaigns import timing
from controltower.campaigns.allocation import Learned
from controltower.campaigns.planning import MEMBERS, Permissions
from controltower.campaigns.planning import decide as decide_in_columns
from controltower.campaigns.specs import Spec, find_spec
from controltower.ledger.decisions import Decision, rows
from controltower.settings import INCLUDE, parse_shop
from controltower.shop import QuietHours, Shop
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime.fromisoformat("2026-06-15T06:30+09:00")
SHOP: Shop = parse_shop(INCLUDE / "shops" / "simulated.yaml")
SPEC: Spec = find_spec(INCLUDE / "campaigns", "picked_for_you")
PICKS = [f'{{"product_id":"p{n}","algorithm":"als","reason":null,"value":null}}' for n in range(6)]
IDS = [f"c{n}" for n in range(12)]
SOME = st.sets(st.sampled_from(IDS))


def member(
    customer: str, address: bool | None = True, device: bool | None = True, picks: int = 6, subject: int = 0
) -> dict[str, Any]:
    return {
        "customer_id": customer, "subject_id": subject or int(customer[1:]) + 100, "zone": SHOP.zone.key,
        "country": "KR", "send_hour": 22, "address": address, "device": device, "products": PICKS[:picks],
        "algorithm": "als" if picks else None, "inferred": False,
    }  # fmt: skip


def decide(members: list[dict[str, Any]], *how: Any) -> list[Decision]:
    columns = {f.name: pa.array([m[f.name] for m in members], f.type) for f in MEMBERS}
    return list(rows(decide_in_columns(pa.table(columns), *how)))


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
    members = [member(c) for c in IDS]
    assert decide(members, SPEC, SHOP, permissions(), NOW) == decide(members, SPEC, SHOP, permissions(), NOW)
