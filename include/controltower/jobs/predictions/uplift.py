"""What a message changes, by customer, learned from past campaigns that drew by chance whom not to write to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controltower.jobs.predictions.evaluated import Evaluated
from controltower.jobs.predictions.now import Now
from controltower.jobs.predictions.past import Past

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from controltower.models.base import Outcome

log = logging.getLogger("controltower")

NAMES: tuple[str, ...] = ("uplift",)
STARTS = 8  # dates whose features are computed, which take minutes where a million customers are known
OUTCOME = "converted"
BLOCK = 100_000  # customers asked at a time: their features stand in memory twice
ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class _Known:
    features: dict[str, pd.DataFrame]  # by campaign, index customer_id
    columns: list[str]  # those of attributes
    apart: list[str]  # attributes that were left out: the groups differ by them


def train(past: Past) -> Iterator[Outcome]:
    from dataclasses import replace

    from controltower.models.uplift import training
    from controltower.models.uplift.learners import KINDS
    from controltower.models.uplift.trials import experiment

    drawn, left_out = _drawn(past, past.as_of)
    log.info("training uplift on %d customers of drawn campaigns", len(drawn))
    known = _known(past, drawn)
    rows = experiment(drawn, known.features, OUTCOME)
    today = None if training.lacking(rows) else _today(past, known.columns)
    outcome = training.train(rows, past.as_of, OUTCOME, today=today, in_service=past.in_service(NAMES[0], KINDS))
    about = {
        "campaigns": sorted(set(drawn["campaign"])), "campaigns_left_out": left_out, "attributes_apart": known.apart,
    }  # fmt: skip
    if left_out:
        kept = f"Only the {STARTS} start dates with most customers on the smaller side were learned from."
        outcome = replace(outcome, why=f"{outcome.why} {kept}")
    yield replace(outcome, details=about | outcome.details)  # what stays in service learned from its own campaigns


def _today(past: Past, columns: list[str]) -> pd.DataFrame:
    """Features as of now, with columns of `attributes`, of a sample of the customers."""
    from controltower.models import propensity
    from controltower.models.uplift import attributes

    features = propensity.drawn(past.features(past.as_of))
    with past.lake.read(past.as_of) as reading:
        told = dict(attributes.read(reading, features.index.to_numpy()))
    about = attributes.columns([(who, told.get(who, {})) for who in features.index], columns)
    return features.join(about.set_axis(features.index))


def score(now: Now) -> dict[str, pa.Array]:
    """uplift: by how much one message changes the chance of an order within 14 days; uplift_error: the standard error
    of its mean over a fifth of the customers, or of all where nobody is told apart. Null where nothing was learned."""
    import numpy as np
    import pandas as pd

    from controltower.models.uplift import attributes
    from controltower.models.uplift.learners import KINDS, Learner

    columns = ("uplift", "uplift_error")
    model = now.load(NAMES[0], KINDS)
    if model is None or np.isnan(model.error):
        return now.numbers(None, columns)
    parts = [now.features.iloc[i : i + BLOCK] for i in range(0, len(now.features), BLOCK)]
    if isinstance(model, Learner) and (names := attributes.names(model.columns.tolist())):
        about = attributes.columns(attributes.read(now.reading, now.customers), names)
        said = [model.predict(part.join(about)) for part in parts]
    else:
        said = [model.predict(part) for part in parts]
    found = pd.DataFrame({"uplift": np.concatenate([np.zeros(0), *said]), "uplift_error": model.error})
    return now.numbers(found, columns)


def evaluate(past: Past, until: datetime) -> Evaluated:
    """What ranking by uplift gains, by outcome: what was learned before `past.as_of`, judged by the campaigns that
    began since. Where not both teach enough: all that is known until `until`, learned and judged in turns."""
    from controltower.errors import NoData
    from controltower.models.uplift import training
    from controltower.models.uplift.learners import Uplift
    from controltower.models.uplift.trials import OUTCOMES, experiment

    (before, _), (known, _) = _drawn(past, past.as_of), _drawn(past, until)
    if not len(known):
        raise NoData(
            f"No campaign whose answers were over by {until.isoformat()} kept customers back by chance.",
            "A campaign needs a holdout, or controls in messages_history; answers are counted for 14 days.",
        )
    began = known.groupby("campaign")["second"].transform("min")
    since = known[began >= past.as_of.timestamp()]
    learned = _known(past, before)
    judging = _known(past, since, learned.columns)
    all_of: _Known | None = None
    rows: list[dict[str, Any]] = []
    said = []
    for name in OUTCOMES:
        earlier, later = experiment(before, learned.features, name), experiment(since, judging.features, name)
        if training.lacking(earlier) or training.lacking(later):
            all_of = all_of or _known(past, known)
            whole = experiment(known, all_of.features, name)
            outcome = training.train(whole, until, name, backtest=False)
            told, how = {**outcome.baseline_metrics, **outcome.metrics}, "in turns"
        else:
            whole, outcome = later, training.train(earlier, past.as_of, name, backtest=False)
            assert isinstance(outcome.model, Uplift)
            told, how = training.judged(outcome.model, later), "since"
        model = outcome.challenger if how == "in turns" and outcome.metrics else outcome.model.name
        same = {
            "outcome": name, "judged": how, "recommends": outcome.details["recommend"], "customers": len(whole),
            "controls": int((whole.treated == 0).sum()),
            **{f"effect{end}": told.get(f"effect{end}") for end in ENDS},
        }  # fmt: skip
        rows.append({"model": model} | same | {f"qini{end}": told.get(f"qini{end}") for end in ENDS})
        rows.append({"model": "treat_all"} | same | {f"qini{end}": 0.0 for end in ENDS})
        campaigns = known if how == "in turns" else since
        said.append(f"{name} (campaigns: {campaigns['campaign'].nunique()}): {_verdict(how, outcome, told)}")
    return Evaluated(rows, said)


def _verdict(how: str, outcome: Outcome, told: dict[str, float]) -> str:
    if how == "in turns":
        return (
            "there isn't a campaign that teaches enough both before the split and since, so the customers of all were"
            f" split: learned from some, judged on others, in turns. {outcome.why}"
        )
    return (
        f"learned before the split: {outcome.why} Since then: Qini {told['qini']:.5f} ({told['qini_low']:.5f} to"
        f" {told['qini_high']:.5f}) per customer; writing to all changed {told['effect']:.5f}"
        f" ({told['effect_low']:.5f} to {told['effect_high']:.5f})."
    )


def _drawn(past: Past, until: datetime) -> tuple[pd.DataFrame, int]:
    """The rows of drawn campaigns whose answers were over (`trials.prepared`), with `start`, the second as of which
    their features count; at most STARTS of these, and how many campaigns were left out for that."""
    from controltower.models.uplift import training
    from controltower.models.uplift.trials import prepared, read_trials, starts
    from controltower.profiles.portable import DAY

    with past.lake.read(until) as reading:
        rows = prepared(reading.frame(read_trials(reading.table, until, past.shop)))
    first = {name: int(moment.timestamp()) for name, moment in starts(rows).items()}
    on_day: dict[int, int] = {}  # campaigns of one day share features, of before the first of them
    for second in sorted(first.values()):
        on_day.setdefault(second // DAY, second)
    rows = rows.assign(start=[on_day[first[name] // DAY] for name in rows["campaign"]])
    controls = rows["treated"].eq(0).groupby(rows["start"]).agg(["sum", "size"])
    smaller = controls["sum"].where(controls["sum"] * 2 <= controls["size"], controls["size"] - controls["sum"])
    chosen = smaller.sort_index(ascending=False).sort_values(ascending=False, kind="stable").index[:STARTS]
    kept = rows[rows["start"].isin(chosen)]
    return training.sampled(kept), rows["campaign"].nunique() - kept["campaign"].nunique()


def _known(past: Past, rows: pd.DataFrame, columns: list[str] | None = None) -> _Known:
    """Of rows of `_drawn`, as of each campaign's start: features, and columns of `attributes`, chosen by the rows where
    none are given. Of who wasn't known then, none is known."""
    import pandas as pd

    from controltower.models.uplift import attributes

    said: dict[int, dict[str, Any]] = {}
    groups = {start: rows[rows["start"] == start] for start in sorted(set(rows["start"]))}
    for start, of in groups.items():
        with past.lake.read(datetime.fromtimestamp(int(start), UTC)) as reading:
            said[start] = dict(attributes.read(reading, of["customer_id"].unique()))
    told = [(who, said[start].get(who, {})) for who, start in zip(rows["customer_id"], rows["start"], strict=True)]
    apart: list[str] = []
    if columns is None:
        columns, apart = attributes.choose(told, rows["treated"].to_numpy(int), rows["propensity"].to_numpy(float))
    about = attributes.columns(told, columns).set_axis(rows.index)
    features: dict[str, pd.DataFrame] = {}
    for start, of in groups.items():
        known = past.features(datetime.fromtimestamp(int(start), UTC))
        for name, some in of.groupby("campaign"):
            who = some["customer_id"]
            features[str(name)] = pd.concat([known.reindex(who), about.loc[some.index].set_axis(who)], axis=1)
    return _Known(features, columns, apart)
