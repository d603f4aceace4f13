"""Channels: planted liking and fatigue are found, models tell of nobody, and the best option is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from controltower.models.channel.choice import (
    CHOSEN,
    NO_OPEN_CHANNEL,
    NONE,
    NOT_WORTH_IT,
    Option,
    chances,
    choose,
)
from controltower.models.channel.response import KINDS, STRENGTHS, BestChannel, ChannelResponse, OwnChannel, strength
from controltower.models.channel.sends import (
    ANSWER_DAYS,
    Sends,
    read_answers,
    read_sends,
    recent,
    sends,
)
from controltower.models.channel.training import train
from support.shop_tables import SHOP, T, ago, lake_with, order, orders

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
    rows = outcome.details["backtest"]
    assert len(rows) == 3 and [row["as_of"] for row in rows] == sorted((row["as_of"] for row in rows), reverse=True)
    assert sum(row["messages"] for row in rows) == outcome.rows["tried"] > rows[0]["customers"]
    assert all(row["log_loss"] < row["baseline_log_loss"] for row in rows)
    assert all(0.8 < row["expected"] / row["came"] < 1.25 for row in rows)
    table = outcome.details["calibration"]["table"]
    assert len(table) == 10 and table[0]["high"] < table[-1]["low"], "the likeliest tenth clicks most"
    assert 0 < outcome.details["drift"]["score_stability"] < 0.1
    p = outcome.model.predict(liked.counts())
    own = pd.DataFrame({"c": liked.customer, "k": liked.channel, "y": liked.hits[:, 0]}).groupby(["c", "k"])["y"].mean()
    assert np.corrcoef(p[:, 1], own.unstack().to_numpy()[:, 1])[0, 1] > 0.9
    assert ((p > 0) & (p < 1)).all() and p.std() > 0.02
    assert p.mean(axis=0) == pytest.approx(outcome.model.rates[:, 0], rel=0.15)
    stranger = outcome.model.predict(liked.counts(np.array(["nobody"])))
    assert stranger[0] == pytest.approx(outcome.model.of_segments[0, :, 0])


def test_where_customers_are_alike_everybodys_rates_serve() -> None:
    outcome = train(sends(drawn(2, liking=0.0)), T)
    assert not outcome.published and isinstance(outcome.model, BestChannel)
    assert np.ptp(outcome.model.predict(sends(drawn(1, 2)).counts()), axis=0).tolist() == [0, 0]


def test_few_clicks_and_no_sends_give_a_plain_sentence() -> None:
    few = train(sends(drawn(1, customers=5, each=10)), T)
    assert isinstance(few.model, BestChannel) and "too few" in few.why
    none = train(sends(drawn(1, customers=5).iloc[:0]), T)
    assert none.window is None and none.model.predict(np.zeros((1, 0, 3))).shape == (1, 0)  # type: ignore[attr-defined]


def test_fatigue_is_found_and_never_raises_a_rate() -> None:
    tired = OwnChannel().fit(sends(drawn(3, tires=0.25)))
    assert -0.35 < tired.slopes[0] < -0.15, tired.slopes
    who, often, seldom = np.zeros((1, 2, 3)), np.array([6]), np.array([0])
    assert (tired.predict(who, week=often, month=often) < tired.predict(who, week=seldom, month=seldom)).all()
    rested = OwnChannel().fit(sends(drawn(3, tires=-0.1)))
    assert not rested.slopes.any()


def test_segments_tell_of_strangers(liked: Sends) -> None:
    rate = np.bincount(liked.customer, weights=liked.hits[:, 0]) / np.bincount(liked.customer)
    segments = np.where(rate > np.median(rate), "keen", "cool")
    model = OwnChannel().fit(liked, segments)
    keen, cool, other = model.predict(np.zeros((3, 2, 3)), np.array(["keen", "cool", "new"]))
    assert (keen > 1.5 * cool).all() and other == pytest.approx(model.rates[:, 0])
    assert (model.predict(liked.counts(), segments, response="ordered") < 0.01).all(), "nobody ordered"


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
    before, after = (m.predict(liked.counts(), week=many, month=many) for m in (model, again))
    assert (before == after).all() and (again.lift("news/b") == model.lift("news/b")).all()
    with np.load(tmp_path / "state.npz") as state:
        for name, values in state.items():
            assert len(liked.customer_ids) not in values.shape, f"{name} tells of each customer"
            assert not np.isin(values.astype(np.str_), liked.customer_ids).any(), name


def test_a_model_that_holds_customers_must_be_trained_again(liked: Sends, tmp_path: Path) -> None:
    model = OwnChannel().fit(liked)
    model.save(tmp_path)
    np.savez(tmp_path / "state.npz", **model._state(), customer_ids=liked.customer_ids, counts=liked.counts())
    with pytest.raises(KeyError):  # which the registry says in words
        OwnChannel.load(tmp_path)


def test_what_is_judged_knew_no_answer_that_wasnt_over(liked: Sends) -> None:
    """The clicks of the last days before the oldest date change nothing of what is said of the time after it."""
    edge = int(np.quantile(liked.second, 0.75))
    late = (liked.second > edge - ANSWER_DAYS * DAY) & (liked.second <= edge)
    assert liked.hits[late, 0].any()
    turned = replace(liked, hits=np.where(late[:, None], 1 - liked.hits, liked.hits))
    oldest, newest = ([train(s, T).details["backtest"][n] for s in (liked, turned)] for n in (-1, 0))
    assert oldest[0] == oldest[1] and newest[0] != newest[1], "answers that were over by the newest date count there"


def test_the_best_option_pays_most_beyond_its_cost() -> None:
    response = np.array([[0.10, 0.09], [0.10, 0.10], [0.01, 0.0], [0.5, 0.5], [np.nan, 0.2]])
    allowed = np.array([[True, True], [True, True], [True, True], [False, False], [True, True]])
    made = choose(response, np.array([0.05, 0.0]), np.array([2.0, 100.0, 1.0, 1.0, 1.0]), allowed)
    assert made.option.tolist() == [1, 1, 1, NONE, 1]
    assert made.expected == pytest.approx([0.18, 10.0, 0.0, 0.0, 0.2])
    assert made.reason.tolist() == [CHOSEN, CHOSEN, CHOSEN, NO_OPEN_CHANNEL, CHOSEN]
    dear = choose(response[:2], np.array([9.0, 9.0]), 1.0)
    assert dear.option.tolist() == [NONE, NONE] and set(dear.reason) == {NOT_WORTH_IT}
    assert choose(np.zeros((2, 0)), np.zeros(0), 1.0).option.tolist() == [NONE, NONE]


def test_equal_options_are_decided_by_their_order() -> None:
    third = np.array([[0.1 + 0.2, 0.3, 0.3]])
    assert choose(third, np.zeros(3), 1.0).option.tolist() == [0]
    assert choose(third[:, ::-1], np.zeros(3), 1.0).option.tolist() == [0]


def test_options_are_channels_with_messages(liked: Sends) -> None:
    """Two messages by e-mail, one by push, and SMS that was never tried."""
    model, own = OwnChannel().fit(liked), liked.counts()
    some, none = np.ones(len(own), dtype=int), np.zeros(len(own), dtype=int)
    options = [Option("email", "news/a"), Option("email", "news/b"), Option("push", "b"), Option("sms", "b")]
    found = chances(model, own, options, some, none)
    p = model.predict(own, None, some, none)
    assert found[:, 1] == pytest.approx(p[:, 0] * model.lift("news/b")[0]) and (found[:, 1] > found[:, 0]).all()
    assert (found[:, 2] == p[:, 1]).all() and (found[:, 3] == p.min(axis=1)).all()
    assert chances(model, own, [], some, none).shape == (len(own), 0)


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
    known = [{"customer_id": c, "updated_at": ago(400)} for c in ("c1", "c2")]
    lake = lake_with(
        tmp_path,
        {"customers": known, "messages_history": messages, "message_events": answers, **bought},
    )  # fmt: skip
    with lake.read(T) as reading:
        rows = reading.frame(read_sends(reading.table, T, SHOP))
        one = reading.frame(read_sends(reading.table, T, SHOP, most=1))
        counted = reading.frame(read_answers(reading.table, T, SHOP, ["email", "push", "sms"]))
    made = sends(rows)
    assert made.customer_ids.tolist() == ["c1", "c2"] and made.channels.tolist() == ["email", "push"]
    shown = np.c_[made.customer, made.channel, made.week, made.month, made.hits]
    assert shown.tolist() == [[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1], [0, 0, 0, 2, 0, 0], [1, 1, 0, 0, 0, 0]]
    all_of_one = rows[rows["customer_id"] == one["customer_id"].iloc[0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, all_of_one)
    own = counted.set_index("customer_id").loc[["c1", "c2"]].to_numpy(int).reshape(2, 3, 3)
    assert own.tolist() == [[[2, 0, 0], [1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 0, 0], [0, 0, 0]]]
    assert (own == made.counts(np.array(["c1", "c2"]), np.array(["email", "push", "sms"]))).all()
    strangers = made.counts(np.array(["c2", "other"]), np.array(["push"]))
    assert strangers.tolist() == [[[1, 0, 0]], [[0, 0, 0]]]


def test_messages_are_counted_up_to_a_moment() -> None:
    customer, second = np.array([0, 0, 0, 1]), np.array([1, 10, 20, 20]) * DAY
    week, month = recent(customer, second, np.array([0, 1, 2]), 21 * DAY)
    assert (week.tolist(), month.tolist()) == ([1, 1, 0], [2, 0, 0])
    none = recent(customer[:0], second[:0], np.array([0]), 5)
    assert (none[0].tolist(), none[1].tolist()) == ([0], [0])
