"""How good the hours would have been that are chosen by what was known as of a past date."""

from __future__ import annotations

from controltower.models.base import Outcome
from controltower.models.send_time.evidence import Hours
from controltower.models.send_time.model import EveryonesWeek, OwnWeek
from controltower.models.send_time.training import FEWEST, Verdict, compare, drawn, hits, past_of


def judge(outcome: Outcome, known: Hours, since: Hours, days: int) -> Verdict | int:
    """Own hours, with the settings that a training on `known` chose, against everyone's best hour, by what the same
    customers did in the `days` since; their number where too few were active before and after."""
    rows = drawn(len(known.customer_ids))
    past = past_of(days, known.of_customers(rows), since.of_customers(rows))
    if len(past.judging) < FEWEST:
        return len(past.judging)
    own = OwnWeek(OwnWeek.Config.model_validate(outcome.details["settings"]))
    ours, everyone = (hits(model.fit(past.known), past, past.judging).came for model in (own, EveryonesWeek()))
    return compare(ours, everyone, past.judging)
