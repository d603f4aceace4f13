"""How good an inferred trait is, on customers who told theirs and were held out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from controltower.models import calibration
from controltower.models.base import Outcome
from controltower.models.traits import ages, said, training
from controltower.models.traits.items import Histories
from controltower.models.traits.model import Prior, Trait

HELD_OUT = 4  # one customer in so many


class HeldOut(NamedTuple):
    """Customers' ids (n,), the minus log probability (n,) of what they told by model, what would serve first, and a row
    of figures each."""

    outcome: Outcome
    customers: np.ndarray
    loss: dict[str, np.ndarray]
    rows: list[dict[str, Any]]


def held_out(name: str, histories: Histories, told: np.ndarray, as_of: datetime) -> HeldOut:
    """What would serve for GENDER or AGE_BAND beside everybody's shares: learned from three customers of four, judged
    on the fourth. `told` and as_of: see training.train. With too few customers nobody is held out: no rows."""
    if len(told) < training.FEWEST:
        return HeldOut(training.train(name, histories, told, as_of), np.array([], np.str_), {}, [])
    fold = np.random.default_rng(7).permutation(len(told)) % HELD_OUT
    learned, judged = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    outcome = training.train(name, histories.of(learned), told[learned], as_of)
    theirs, years = histories.of(judged), told[judged]
    is_age = name == training.AGE_BAND
    classes = ages.BANDS if is_age else said.GENDERS
    label = ages.band_of(told) if is_age else told
    prior = Prior().fit(histories.of(learned), label[learned], classes)
    prior.shares = ages.within(told[learned]) if is_age else prior.shares
    models: dict[str, Trait] = {outcome.model.name: outcome.model, prior.name: prior}  # type: ignore[dict-item]
    loss, rows = {}, []
    for model, one in models.items():
        p = one.predict(theirs)
        loss[model] = -np.log(p[np.arange(len(p)), label[judged]])
        figures = _figures(one, theirs, p, label[judged], years if is_age else None)
        rows.append(
            {"trait": name, "model": model, "customers": len(p), "log_loss": float(loss[model].mean())} | figures
        )
    return HeldOut(outcome, theirs.customer_ids, loss, rows)


def _figures(
    model: Trait, theirs: Histories, p: np.ndarray, label: np.ndarray, years: np.ndarray | None
) -> dict[str, float | None]:
    top, right = p.max(axis=1), p.argmax(axis=1) == label
    says = (said.says_gender(p) if years is None else said.says_age(p, model.shares)) & model.tells(theirs)
    found: dict[str, float | None] = {
        "right": float(right.mean()), "calibration_error": calibration.error(top, right), "said": float(says.mean()),
        "right_where_said": float(right[says].mean()) if says.any() else None, "years_off_where_said": None,
    }  # fmt: skip
    if years is not None and says.any():
        middle, low, high = ages.summary(ages.by_year(p[says], model.shares))
        found["right_where_said"] = float(((low <= years[says]) & (years[says] <= high)).mean())
        found["years_off_where_said"] = float(np.abs(middle - years[says]).mean())
    return found
