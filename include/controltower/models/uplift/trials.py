"""Past randomised campaigns as rows to learn uplift from: who was drawn to be written to, with which probability, and
what they did within the days after, written to or not.

Rows of `messages_history` that say that nothing was sent (see `nothing_sent`) are the controls. `propensity` is the
probability of what was done to that customer; some systems write the probability of being written to into all rows
instead. Which of both it is shows in the controls: the inverses of their probabilities add up to the number of
customers. Where there is none, a campaign's shares stand for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from controltower.profiles.facts import gather
from controltower.profiles.facts.messages import nothing_sent, reactions_of
from controltower.profiles.facts.tables import Tables
from controltower.profiles.portable import DAY, one_if, seconds
from controltower.shop import Shop

OUTCOMES = ("visited", "converted", "spent")
LOOK_BACK_DAYS = 365
DAYS = 14  # in which outcomes are counted
SURELY = 4.0  # standard errors by which a propensity must miss to be taken for the other one
# Our own rows tell which time the campaign happened; the text is JSON.
OCCURRENCE = r'"occurrence":\s*"((?:[^"\\]|\\.)+)"'
VISITS = ("visited", "visit", "session_start")  # of message_events: what also people do who got nothing


@dataclass(frozen=True)
class Experiment:
    """Rows of a randomised trial, in no particular order.

    features: numeric columns as of before the treatment, index customer_id (the same customer may be there again).
    treated: 0 or 1. propensity: the known probability of 1, strictly between 0 and 1. outcome: 0/1, or an amount.
    began: the epoch second when the row's campaign did; None: that isn't known.
    """

    features: pd.DataFrame
    treated: np.ndarray
    propensity: np.ndarray
    outcome: np.ndarray
    began: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len({len(self.features), len(self.treated), len(self.propensity), len(self.outcome)}) > 1:
            raise ValueError("features, treated, propensity and outcome differ in length")
        if not np.isin(self.treated, (0, 1)).all():
            raise ValueError("treated is 0 or 1")
        if not ((self.propensity > 0) & (self.propensity < 1)).all():
            raise ValueError("a propensity isn't strictly between 0 and 1: those rows are no experiment")

    def __len__(self) -> int:
        return len(self.treated)

    @property
    def binary(self) -> bool:
        return bool(np.isin(self.outcome, (0, 1)).all())

    def take(self, at: np.ndarray) -> Experiment:
        """The rows of positions, or of a mask."""
        began = None if self.began is None else self.began[at]
        return Experiment(self.features.iloc[at], self.treated[at], self.propensity[at], self.outcome[at], began)


def read_trials(tables: Tables, as_of: datetime, shop: Shop, days: int = DAYS) -> ir.Table:
    """customer_id, campaign, variant, treatment, treated (0 or 1), propensity, second (when its occurrence began),
    clicked, visited, converted (0 or 1), spent (float, the shop's currency): a row a campaign, customer, variant and
    treatment, of the first occurrence of each.

    An occurrence is what `attributes` call so, else a day (UTC). It begins with its first row; from then on all its
    customers are counted for `days`, whenever their own message left: orders just before a late one would be missed
    among those written to only. Occurrences without both, controls and others, are left out: between days more differs
    than the message. Of the last LOOK_BACK_DAYS, where the `days` after had passed by as_of. Orders and
    visits count whether or not they came by the message; clicks are those in the campaign's own messages, for systems
    that write what controls did under them (see `prepared`).
    """
    facts = gather(tables, as_of, shop)
    end, start = as_of - timedelta(days=days), as_of - timedelta(days=LOOK_BACK_DAYS)
    history = tables("messages_history")
    history = history.filter(history.sent_at <= as_of, history.sent_at > start, history.campaign.notnull())
    told_as = history.attributes.re_extract(OCCURRENCE, 1).nullif("")
    history = history.mutate(
        treated=1 - one_if(nothing_sent(history)),
        occurrence=told_as.fill_null(history.sent_at.strftime("day %Y-%m-%d")),
    )
    which = ["campaign", "occurrence"]
    drawn = history.group_by(which).aggregate(began=history.sent_at.min(), ways=history.treated.nunique())
    drawn = drawn.filter(drawn.ways == 2, drawn.began <= end).select(*which, second=seconds(drawn.began))
    history = history.inner_join(drawn, which)
    keys = ["customer_id", "campaign", "variant", "treatment", "treated"]
    sent = history.filter(history.second == history.second.min().over(ibis.window(group_by=keys)))
    first = sent.group_by(keys).aggregate(
        second=sent.second.min(), propensity=sent.propensity.min(), message_id=sent.message_id.min()
    )
    rows = first.mutate(until=first.second + days * DAY)

    def after(facts_of: ir.Table, *columns: str, by: tuple[str, ...] = ("customer_id",)) -> ir.Table:
        some = facts_of.select(*by, *columns, at=facts_of.second)
        joined = rows.select("message_id", "customer_id", "campaign", "second", "until").inner_join(some, list(by))
        return joined.filter(joined["at"] >= joined.second, joined["at"] < joined.until)

    bought, seen = after(facts.orders, "amount"), after(facts.events)
    told = reactions_of(history, tables("message_events"), as_of)  # of controls, too
    told = told.filter(told.event.isin((*VISITS, "clicked")))
    told = told.inner_join(history.select("message_id", "campaign"), "message_id")
    answers = after(told, "event", by=("customer_id", "campaign"))
    ordered = bought.group_by("message_id").aggregate(
        converted=bought.count(), spent=bought.amount.sum().cast("float64")
    )
    visits = ibis.union(
        seen.select("message_id", visited=ibis.literal(1, "int64"), clicked=ibis.literal(0, "int64")),
        answers.select(
            "message_id", visited=one_if(answers.event.isin(VISITS)), clicked=one_if(answers.event == "clicked")
        ),
    )
    visits = visits.group_by("message_id").aggregate(visited=visits.visited.max(), clicked=visits.clicked.max())
    joined = rows.left_join(ordered, "message_id").drop("message_id_right").left_join(visits, "message_id")
    return joined.select(
        *keys,
        "propensity",
        "second",
        clicked=joined.clicked.fill_null(0),
        visited=joined.visited.fill_null(0),
        converted=one_if(joined.converted > 0),
        spent=joined.spent.fill_null(0.0),
    ).order_by("campaign", "customer_id", "second")


def prepared(rows: pd.DataFrame, arm: str | None = None) -> pd.DataFrame:
    """Of `read_trials`: the campaigns that drew controls too, with the `propensity` of being treated.

    arm: a variant (or treatment); without, all that was sent is one treatment. A customer who is in a campaign both
    ways is left out, and of those who are there twice the first row stays. Empty where no campaign had controls.
    """
    ways = rows.groupby(["campaign", "customer_id"])["treated"].transform("nunique")
    kept = rows[ways == 1].drop_duplicates(["campaign", "customer_id"])
    found = []
    for _, all_of in kept.groupby("campaign", sort=True):
        named = (all_of["variant"] == arm) | (all_of["treatment"] == arm)
        some = all_of if arm is None else all_of[(all_of["treated"] == 0) | named]
        if some["treated"].nunique() == 2:
            one = some.assign(propensity=_propensity(some, all_of))
            if one.loc[one["treated"] == 0, "clicked"].any():  # people who got nothing: these are visits
                one = one.assign(visited=one[["visited", "clicked"]].max(axis=1))
            found.append(one)
    return pd.concat(found, ignore_index=True) if found else kept.iloc[:0]


def starts(rows: pd.DataFrame) -> dict[str, datetime]:
    """By campaign of `prepared`, the moment as of which features are wanted: before anything of it was sent."""
    first = rows.groupby("campaign")["second"].min()
    return {str(name): datetime.fromtimestamp(int(second) - 1, UTC) for name, second in first.items()}


def experiment(rows: pd.DataFrame, features: Mapping[str, pd.DataFrame], outcome: str = "converted") -> Experiment:
    """Rows of `prepared` with the features (index customer_id) of each campaign as of its start; `outcome` is one of
    OUTCOMES. Customers without features then (not known yet) and campaigns without are left out."""
    if outcome not in OUTCOMES:
        raise ValueError(f"outcome is one of {', '.join(OUTCOMES)}")
    frames, kept = [], []
    for name, of in rows.groupby("campaign", sort=True):
        known = features.get(str(name))
        if known is not None:
            there = of[of["customer_id"].isin(known.index)]
            frames.append(known.loc[there["customer_id"]])
            kept.append(there)
    if not kept:
        nobody = np.zeros(0)
        return Experiment(pd.DataFrame(), nobody.astype(int), nobody, nobody)
    joined = pd.concat(kept)
    return Experiment(
        pd.concat(frames), joined["treated"].to_numpy(int), joined["propensity"].to_numpy(float),
        joined[outcome].to_numpy(float), joined["second"].to_numpy(np.int64),
    )  # fmt: skip


def _propensity(some: pd.DataFrame, all_of: pd.DataFrame) -> np.ndarray:
    """By row of a campaign's arm and controls, the probability of the arm given that it is one of both."""
    treated = some["treated"].to_numpy() == 1
    told = some["propensity"].to_numpy(float)
    usable = ~np.isnan(told).any() and ((told > 0) & (told < 1)).all()
    if not usable:
        return np.full(len(some), treated.mean())
    everyone = len(all_of)
    own, of_treatment = (1 / told[~treated]).sum(), (1 / (1 - told[~treated])).sum()
    error = np.sqrt(everyone * (1 / told[~treated] - 1).mean())  # of `own`, by the drawing
    if abs(own - everyone) > max(SURELY * error, abs(of_treatment - everyone)):
        return told
    arms = all_of.loc[all_of["treated"] == 1, ["variant", "treatment"]].drop_duplicates()
    if len(arms) <= 1:
        return np.where(treated, told, 1 - told)
    # of several arms each row tells its own probability only; means stand for the others'
    control = told[~treated].mean()
    ours = told[treated].mean() if len(some) < everyone else 1 - control
    return np.full(len(some), ours / (ours + control))
