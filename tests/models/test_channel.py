"""Channels: planted liking, fatigue and costs are found; who has not agreed gets nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from controltower.models.channel.choice import (
    CHOSEN,
    NO_CONSENT,
    NONE,
    NOT_WORTH_IT,
    Option,
    choose,
    following,
)
from controltower.models.channel.response import KINDS, STRENGTHS, BestChannel, ChannelResponse, OwnChannel, strength
from controltower.models.channel.sends import (
    Sends,
    cost_per_message,
    read_consented,
    read_costs,
    read_sends,
    recent,
    sends,
)
from controltower.models.channel.training import train
from support.shop_tables import SHOP, T, ago, lake_with, money, order, orders

DAY = 86_400
NOW = 20_000 * DAY


def drawn(seed: int, customers: int = 600, each: int = 30, liking: float = 1.2, tires: float = 0.0) -> pd.DataFrame:
    """Rows of `read_sends`: push is clicked half as often as e-mail, but `liking` (a spread in log-odds) differs by
    customer and channel; message b does twice as well as a; each message of the last week tires by `tires`."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(0, liking, (customers, 2)) - np.array([2.5, 3.3])
    rows = []
    for who in range(customers):
        busy = rng.integers(1, 8)
        seconds = np.sort(rng.integers(NOW - each * 14 * DAY // busy, NOW, each))
        for n, second in enumerate(seconds):
            channel, message = int(rng.integers(2)), str(rng.choice(["a", "b"]))
            week = int((seconds[:n] >= second - 7 * DAY).sum())
            odds = taste[who, channel] + 0.7 * (message == "b") - tires * week
            rows.append((f"c{who:04}", ("email", "push")[channel], "news", message, int(second),
                         int(rng.random() < 1 / (1 + np.exp(-odds)))))  # fmt: skip
    names = ["customer_id", "channel", "campaign", "variant", "second", "clicked"]
    return pd.DataFrame(rows, columns=names).assign(ordered=0, closed=True)


@pytest.fixture(scope="module")
def liked() -> Sends:
    return sends(drawn(1))


def test_own_answers_count_where_customers_differ(liked: Sends) -> None:
    outcome = train(liked, T)
    assert outcome.published and isinstance(outcome.model, OwnChannel), outcome.why
    assert outcome.metrics["log_loss"] < outcome.baseline_metrics["log_loss"]
    p = outcome.model.predict(liked.customer_ids)
    own = pd.DataFrame({"c": liked.customer, "k": liked.channel, "y": liked.hits[:, 0]}).groupby(["c", "k"])["y"].mean()
    assert np.corrcoef(p[:, 1], own.unstack().to_numpy()[:, 1])[0, 1] > 0.9
    assert ((p > 0) & (p < 1)).all() and p.std() > 0.02
    assert p.mean(axis=0) == pytest.approx(outcome.model.rates[:, 0], rel=0.15)
    stranger = outcome.model.predict(np.array(["nobody"]))
    assert stranger[0] == pytest.approx(outcome.model.of_segments[0, :, 0])


def test_where_customers_are_alike_everybodys_rates_serve() -> None:
    outcome = train(sends(drawn(2, liking=0.0)), T)
    assert not outcome.published and isinstance(outcome.model, BestChannel)
    assert np.ptp(outcome.model.predict(np.array(["c0000", "c0001"])), axis=0).tolist() == [0, 0]


def test_few_clicks_and_no_sends_give_a_plain_sentence() -> None:
    few = train(sends(drawn(1, customers=5, each=10)), T)
    assert isinstance(few.model, BestChannel) and "too few" in few.why
    none = train(sends(drawn(1, customers=5).iloc[:0]), T)
    assert none.window is None and none.model.predict(np.array(["c"])).shape == (1, 0)  # type: ignore[attr-defined]


def test_fatigue_is_found_and_never_raises_a_rate() -> None:
    tired = OwnChannel().fit(sends(drawn(3, tires=0.25)))
    assert -0.35 < tired.slopes[0] < -0.15, tired.slopes
    who, often, seldom = np.array(["c0000"]), np.array([6]), np.array([0])
    assert (tired.predict(who, week=often, month=often) < tired.predict(who, week=seldom, month=seldom)).all()
    rested = OwnChannel().fit(sends(drawn(3, tires=-0.1)))
    assert not rested.slopes.any()


def test_segments_tell_of_strangers(liked: Sends) -> None:
    rate = np.bincount(liked.customer, weights=liked.hits[:, 0]) / np.bincount(liked.customer)
    segments = np.where(rate > np.median(rate), "keen", "cool")
    model = OwnChannel().fit(liked, segments)
    keen, cool, other = model.predict(np.array(["x", "y", "z"]), np.array(["keen", "cool", "new"]))
    assert (keen > 1.5 * cool).all() and other == pytest.approx(model.rates[:, 0])
    assert (model.predict(liked.customer_ids, segments, response="ordered") < 0.01).all(), "nobody ordered"


def test_a_messages_own_lift(liked: Sends) -> None:
    model = OwnChannel().fit(liked)
    assert (model.lift("news/b") > 1.2).all() and (model.lift("news/a") < 0.9).all()
    assert model.lift("never sent").tolist() == [1, 1]


def test_the_likeliest_strength_is_that_of_the_draw() -> None:
    rng = np.random.default_rng(1)
    sent, prior = np.full(4000, 30), np.full(4000, 0.2)
    assert strength(rng.binomial(30, rng.beta(4, 16, 4000)), sent, prior) == 20
    assert strength(rng.binomial(30, 0.2, 4000), sent, prior) >= 500
    assert strength(np.zeros(3), np.zeros(3), np.full(3, 0.2)) == STRENGTHS[-1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_saved_and_loaded_it_says_the_same(kind: type[ChannelResponse], liked: Sends, tmp_path: Path) -> None:
    model = kind().fit(liked)
    model.save(tmp_path)
    again, many = kind.load(tmp_path), np.full(len(liked.customer_ids), 5)
    before, after = (m.predict(liked.customer_ids, week=many, month=many) for m in (model, again))
    assert (before == after).all() and (again.lift("news/b") == model.lift("news/b")).all()


def test_the_best_option_pays_most_beyond_its_cost() -> None:
    response = np.array([[0.10, 0.09], [0.10, 0.10], [0.01, 0.0], [0.5, 0.5], [np.nan, 0.2]])
    allowed = np.array([[True, True], [True, True], [True, True], [False, False], [True, True]])
    made = choose(response, np.array([0.05, 0.0]), np.array([2.0, 100.0, 1.0, 1.0, 1.0]), allowed)
    assert made.option.tolist() == [1, 1, 1, NONE, 1]
    assert made.expected == pytest.approx([0.18, 10.0, 0.0, 0.0, 0.2])
    assert made.reason.tolist() == [CHOSEN, CHOSEN, CHOSEN, NO_CONSENT, CHOSEN]
    dear = choose(response[:2], np.array([9.0, 9.0]), 1.0)
    assert dear.option.tolist() == [NONE, NONE] and set(dear.reason) == {NOT_WORTH_IT}
    assert choose(np.zeros((2, 0)), np.zeros(0), 1.0).option.tolist() == [NONE, NONE]


def test_equal_options_are_decided_by_their_order() -> None:
    third = np.array([[0.1 + 0.2, 0.3, 0.3]])
    assert choose(third, np.zeros(3), 1.0).option.tolist() == [0]
    assert choose(third[:, ::-1], np.zeros(3), 1.0).option.tolist() == [0]


def test_which_way_campaign_b_goes(liked: Sends) -> None:
    """A is done; B has two messages by e-mail and one by push, and SMS that was never tried."""
    model, who = OwnChannel().fit(liked), liked.customer_ids
    b = [Option("email", "news/a"), Option("email", "news/b"), Option("push", "b"), Option("sms", "b")]
    none, some = np.zeros(len(who), dtype=int), np.ones(len(who), dtype=int)
    consented = {"email": set(who[:400]), "push": set(who[:500]), "sms": set()}
    costs = {"email": 0.001, "push": 0.0, "sms": 0.05}
    made = following(model, who, b, value=2.0, costs=costs, consented=consented, week=some, month=none)
    assert set(made.option[:400]) == {1, 2}, "message b is the better one"
    assert set(made.option[400:500]) == {2} and set(made.reason[500:]) == {NO_CONSENT}
    p = model.predict(who, week=some, month=none)
    best = np.where(p[:, 0] * model.lift("news/b")[0] * 2 - 0.001 > p[:, 1] * 2, 1, 2)
    assert (made.option[:400] == best[:400]).all()
    worthless = following(model, who, b, value=1e-6, costs={"email": 1, "push": 1}, consented=consented, week=some,
                          month=none)  # fmt: skip
    assert (worthless.option == NONE).all()


def test_sends_are_read_from_the_lake(tmp_path: Path) -> None:
    def sent(n: int, customer: str, days: float, channel: str = "email", **more: str) -> dict[str, object]:
        return {"message_id": f"m{n}", "customer_id": customer, "channel": channel, "campaign": "a", "variant": "x",
                "sent_at": ago(days), **more}  # fmt: skip

    messages = [
        sent(1, "c1", 40), sent(2, "c1", 35, "push"), sent(3, "c1", 20), sent(4, "c1", 2),
        sent(5, "c2", 20, treatment="control"), sent(6, "c2", 19, "push"),
    ]  # fmt: skip
    machine = '{"machine": true}'
    answers = [
        {"event_id": "e1", "message_id": "m2", "event": "clicked", "occurred_at": ago(34)},
        {"event_id": "e2", "message_id": "m6", "event": "clicked", "occurred_at": ago(11)},  # after 8 days
        {"event_id": "e3", "message_id": "m3", "event": "clicked", "occurred_at": ago(19), "attributes": machine},
    ]  # fmt: skip
    bought = orders(order("o1", "c1", ago(33), ("p", 1, 5.0)), order("o2", "c1", ago(39), ("p", 1, 5.0)))
    costs = [
        {"date": date(2026, 6, 1), "channel": "email", "campaign": "a", "amount": money(6), "currency": "GBP"},
        {"date": date(2026, 6, 1), "channel": "push", "campaign": "a", "amount": money(4), "currency": "USD"},
        {"date": date(2026, 6, 2), "channel": "email", "campaign": "a", "amount": money(3), "currency": "USD"},
    ]
    rates = [{"date": date(2026, 6, 1), "from": "USD", "to": "GBP", "rate": 0.5}]
    agreed = [
        {"customer_id": "c1", "channel": "email", "purpose": "marketing", "recorded_at": ago(9), "granted": yes,
         "source": source} for yes, source in ((True, "form"), (False, "page"))
    ] + [
        {"customer_id": "c1", "channel": "push", "purpose": "marketing", "recorded_at": ago(days), "granted": yes,
         "source": "form"} for yes, days in ((False, 9), (True, 8))
    ]  # fmt: skip
    known = [{"customer_id": c, "updated_at": ago(400)} for c in ("c1", "c2")]
    lake = lake_with(
        tmp_path,
        {"customers": known, "messages_history": messages, "message_events": answers, "costs": costs,
         "exchange_rates": rates, "consents": agreed, **bought},
    )  # fmt: skip
    with lake.read(T) as reading:
        rows = reading.frame(read_sends(reading.table, T, SHOP))
        spent = reading.frame(read_costs(reading.table, T, SHOP))
        consented = reading.frame(read_consented(reading.table, T))
    made = sends(rows)
    assert made.customer_ids.tolist() == ["c1", "c2"] and made.channels.tolist() == ["email", "push"]
    shown = np.c_[made.customer, made.channel, made.week, made.month, made.hits]
    assert shown.tolist() == [[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1], [0, 0, 0, 2, 0, 0], [1, 1, 0, 0, 0, 0]]
    # 3 USD of a day without a rate are left out; the control is no message
    assert cost_per_message(spent, rows) == pytest.approx({"email": 6 / 3, "push": 2 / 2})
    assert consented.to_numpy().tolist() == [["c1", "push"]], "a withdrawal wins a tie"


def test_messages_are_counted_up_to_a_moment() -> None:
    customer, second = np.array([0, 0, 0, 1]), np.array([1, 10, 20, 20]) * DAY
    week, month = recent(customer, second, np.array([0, 1, 2]), 21 * DAY)
    assert (week.tolist(), month.tolist()) == ([1, 1, 0], [2, 0, 0])
    none = recent(customer[:0], second[:0], np.array([0]), 5)
    assert (none[0].tolist(), none[1].tolist()) == ([0], [0])
