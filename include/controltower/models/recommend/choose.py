"""Which recommender serves: trained on the past, tried on what customers bought next, ranked against all products."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
from scipy.stats import norm

from controltower.models.base import Outcome, State
from controltower.models.recommend import ranker
from controltower.models.recommend.algorithms import ALL, MEMBERS
from controltower.models.recommend.base import Recommender, Scorer, barred, chunks
from controltower.models.recommend.blend import FUSION, GROUPS, Blend
from controltower.models.recommend.cases import CHOOSE, JUDGE, LEARN, Cases, K, collect, judges
from controltower.models.recommend.interactions import Interactions, holds
from controltower.models.recommend.split import Split, split
from controltower.models.recommend.tasks import NEW, REPEAT, TASKS, Task

log = logging.getLogger("controltower")

KINDS: tuple[type[Recommender], ...] = (Blend, *ALL.values())
NEEDED = {task.baseline for task in TASKS}  # these are always fitted
FEWEST = 20  # customers who choose, and who judge: with fewer, chance decides
FEWEST_OF_SITE = 100  # of a site and group, who choose for themselves
MOST_SITES = 20  # the largest; the others are served as all together
LUCK = 0.05  # the most there may be of a chance that sites which are all alike don't look so
FEWEST_HITS = 100  # rows that teach the ranker; with fewer the fusion has to do
BUDGET = 900.0  # CPU-seconds that fitting the algorithms may take on the past; who comes later isn't tried
SEED = 7


@dataclass(frozen=True)
class Tried:
    """How the algorithms did on what customers ordered after the split, by NDCG@10.

    Some of the customers teach the ranker, others choose who serves each group, others judge the choice: the best of
    many looks better than it is on the customers that chose it.
    """

    by_group: dict[str, str] = field(default_factory=dict)  # who was chosen
    by_site: dict[str, dict[str, str]] = field(default_factory=dict)  # who else, of sites that differ, by group
    challenger: float = 0.0  # those, on the customers who judge
    baseline: float = 0.0
    choosing: int = 0  # customers
    judging: int = 0
    leaderboard: list[dict[str, object]] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        return min(self.choosing, self.judging) >= FEWEST

    @property
    def won(self) -> bool:
        return self.enough and self.challenger > self.baseline

    @property
    def chosen(self) -> set[str]:
        return {*self.by_group.values(), *(name for own in self.by_site.values() for name in own.values())}


def train(interactions: Interactions, allowed: np.ndarray, tasks: Sequence[Task] = TASKS) -> list[Outcome]:
    """A recommender for each task.

    For each group of who asks (cold, few, many entries) the algorithm, their fusion or the ranker over them with the
    best NDCG@10 on customers who choose, after the time split; for a site's group another, where that is clearly
    better. If these beat the task's baseline on customers who judge, they are trained again on everything and serve;
    else the baseline does.
    allowed: mask of the products that may be shown.
    """
    found = split(interactions)
    past, skipped = fit_all(found.history, tasks) if found else ({}, {})
    if why := ranker.missing():
        log.warning("no learned ranker: %s", why)
        skipped[ranker.NAME] = why
    outcomes, before = [], {}
    final: dict[str, Scorer] = {}
    for task in tasks:
        members = {n: m for n, m in past.items() if n in (task.members or MEMBERS)}
        asked = task.ask(interactions, found) if found else None
        cases = collect(asked, members, task, allowed, SEED) if asked else None
        tried, booster = _try(cases, task) if cases else (Tried(), {})
        final_booster = booster
        if cases and tried.won and ranker.NAME in tried.chosen:
            final_booster = ranker.learn(cases.pairs_of(LEARN, CHOOSE, JUDGE), SEED)
        cases = None  # else they stay while others are fitted, and the next task's come on top
        wanted = _wanted(tried, task, list(members))
        for name in wanted:
            if name not in final:
                final[name] = ALL[name]().fit(interactions)
        served = _serving(tried, wanted, final, final_booster)
        outcomes.append(_outcome(task, served, tried, interactions, found, list(members), skipped))
        log.info("%s: %s", task.name, outcomes[-1].why)
        if found and task.name in (REPEAT, NEW):
            before[task.repeat] = _serving(tried, wanted, past, booster)
    if tasks is TASKS:
        outcomes[0].details["repeat_helps"] = _repeat_helps(found, before, allowed) if found else True
    return outcomes


def fit_all(history: Interactions, tasks: Sequence[Task] = TASKS) -> tuple[dict[str, Scorer], dict[str, str]]:
    """Every algorithm of the tasks that can be fitted within the budget, and why the others weren't."""
    fitted: dict[str, Scorer] = {}
    skipped: dict[str, str] = {}
    spent = time.process_time()
    wanted = {name for task in tasks for name in (task.members or MEMBERS)}
    for name, kind in ALL.items():
        if name not in wanted:
            continue
        why = kind.missing()
        if not why and kind.most_products is not None and history.shape[1] > kind.most_products:
            why = f"{history.shape[1]} products, it takes {kind.most_products} at most"
        if not why and name not in NEEDED and time.process_time() - spent > BUDGET:
            why = f"the budget of {BUDGET:.0f} CPU-seconds was spent"
        if why and name in NEEDED:
            why += ": as a baseline it says nothing, and what is popular stands in"
        if why:
            skipped[name] = why
            log.info("%s: not tried: %s", name, why)
        if not why or name in NEEDED:
            start = time.process_time()
            fitted[name] = kind().fit(history)
            log.info("%s: fitted in %.1f CPU-seconds", name, time.process_time() - start)
    return fitted, skipped


def _try(cases: Cases, task: Task) -> tuple[Tried, State]:
    """Who is chosen, and the ranker that learned from the customers who neither choose nor judge."""
    choosing, judging = cases.part == CHOOSE, cases.part == JUDGE
    tried = Tried(choosing=int(choosing.sum()), judging=int(judging.sum()))
    if not tried.choosing or not tried.judging:
        return tried, {}
    gain, names = cases.gain, list(cases.names)
    booster: State = {}
    learning = cases.pairs_of(LEARN)
    hits = sum(len(np.unique(pairs.row[pairs.label])) for pairs in learning)
    if hits >= FEWEST_HITS and not ranker.missing():
        booster = ranker.learn(learning, SEED)
        predict = partial(ranker.predictor(booster).predict, num_threads=1)
        gain, names = np.vstack([gain, cases.gain_of(predict, CHOOSE, JUDGE)]), [*names, ranker.NAME]
    everywhere = int(gain[:, choosing].mean(axis=1).argmax())
    chosen = np.full(len(GROUPS), everywhere)
    if "popularity" in names:
        chosen[GROUPS.index("cold")] = names.index("popularity")  # there is no history that others could go by
    for group in range(len(GROUPS)):
        chosen[group] = _best_of(gain[:, choosing & (cases.group == group)], chosen[group])
    sites = _largest_sites(cases.site[choosing])
    differing = _differing(gain[:, choosing], chosen, cases.group[choosing], cases.site[choosing], sites)
    by_case = chosen[cases.group]
    by_site: dict[str, dict[str, str]] = {}
    for (site, group), best in differing.items():
        by_case[(cases.site == site) & (cases.group == group)] = best
        by_site[site] = by_site.get(site, {}) | {GROUPS[group]: names[best]}
    judged = gain[by_case[judging], np.flatnonzero(judging)]
    board = _leaderboard(gain, names, choosing | judging, cases.group)
    for site in sites:
        board += _leaderboard(gain, names, (choosing | judging) & (cases.site == site), cases.group, site)
    return replace(
        tried,
        by_group={g: names[chosen[i]] for i, g in enumerate(GROUPS)},
        by_site=by_site,
        challenger=float(judged.mean()),
        baseline=float(gain[names.index(task.baseline), judging].mean()),
        leaderboard=board,
    ), booster


def _best_of(gain: np.ndarray, usual: int, errors: float = 1.0) -> int:
    """The best algorithm of a group, if it is better there than the usual one by more than so many standard errors."""
    count = gain.shape[1]
    if count < FEWEST:
        return usual
    best = int(gain.mean(axis=1).argmax())
    more = gain[best] - gain[usual]
    return best if more.mean() > errors * more.std() / np.sqrt(count) else usual


def _largest_sites(site: np.ndarray) -> list[str]:
    """The sites with the most cases, by name; none where there is only one."""
    names, count = np.unique(site[site != ""], return_counts=True)
    return sorted(names[np.argsort(-count, kind="stable")[:MOST_SITES]].tolist()) if len(names) > 1 else []


def _differing(
    gain: np.ndarray, usual: np.ndarray, group: np.ndarray, site: np.ndarray, sites: list[str]
) -> dict[tuple[str, int], int]:
    """By site and group, the algorithm that is clearly better there than the group's usual one.

    The more are compared, the luckier the luckiest. So the standard errors asked for grow with the number of sites and
    groups (Bonferroni), from 1.6 to 3.1. That the best of many algorithms is taken is made up for by the usual one's
    having been the best of them on the same customers: of shops with sites all alike, one in 40 got one such choice.
    """
    cells = {(s, g): (site == s) & (group == g) for s in sites for g in range(len(GROUPS))}
    cells = {cell: mine for cell, mine in cells.items() if mine.sum() >= FEWEST_OF_SITE}
    errors = float(norm.isf(LUCK / max(1, len(cells))))
    best = {cell: _best_of(gain[:, mine], usual[cell[1]], errors) for cell, mine in cells.items()}
    return {cell: found for cell, found in best.items() if found != usual[cell[1]]}


def _leaderboard(
    gain: np.ndarray, names: list[str], keep: np.ndarray, group: np.ndarray, site: str = ""
) -> list[dict[str, object]]:
    """NDCG@10 of each algorithm by group, with the interval that holds it in 19 of 20 draws; the best first.

    Of a site's groups, those that are large enough to be compared.
    """
    board = []
    for label, mine in (("all", keep), *((g, keep & (group == i)) for i, g in enumerate(GROUPS))):
        count = int(mine.sum())
        if count < (FEWEST_OF_SITE if site else 1):
            continue
        mean, error = gain[:, mine].mean(axis=1), 1.96 * gain[:, mine].std(axis=1) / np.sqrt(count)
        for i in np.argsort(-mean, kind="stable"):
            row: dict[str, object] = {"site": site, "group": label, "algorithm": names[i], "customers": count}
            row["ndcg@10"] = round(float(mean[i]), 5)
            low, high = max(0.0, float(mean[i] - error[i])), float(mean[i] + error[i])
            board.append(row | {"low": round(low, 5), "high": round(high, 5)})
    return board


def _wanted(tried: Tried, task: Task, tested: list[str]) -> tuple[str, ...]:
    """The members that who serves needs."""
    if not tried.won:
        return (task.baseline,)
    chosen = tried.chosen
    if chosen & {FUSION, ranker.NAME}:
        return tuple(tested)
    return tuple(name for name in tested if name in chosen)


def _serving(tried: Tried, wanted: tuple[str, ...], members: Mapping[str, Scorer], booster: State) -> Recommender:
    """The winner, or the baseline where there is none. members: fitted on the same interactions."""
    if len(wanted) == 1:
        return members[wanted[0]]
    learned = booster if ranker.NAME in tried.chosen else {}
    config = {"members": wanted, **tried.by_group, "by_site": tried.by_site}
    return Blend.of(Blend.Config.model_validate(config), dict(members), learned)


def _repeat_helps(found: Split, before: Mapping[bool, Recommender], allowed: np.ndarray) -> bool:
    """Whether lists with products bought before hit more of all that customers bought than lists without.

    before: who serves with repeats and who without, as trained on the past of the split.
    """
    truth = found.truth(True, allowed)
    rows = judges(found, truth)
    hits = {}
    for repeat, model in before.items():
        total = 0.0
        for _, chunk in chunks(rows):
            ranking = model.rank(found.history, chunk, K, barred(found.history, chunk, repeat, allowed))
            hit = holds(truth, chunk[ranking.customer], ranking.product)
            total += float((hit / np.log2(ranking.rank + 1)).sum())
        hits[repeat] = total
    return hits[True] >= hits[False]


def _outcome(
    task: Task, served: Recommender, tried: Tried, interactions: Interactions, found: Split | None,
    fitted: list[str],
    skipped: dict[str, str],
) -> Outcome:  # fmt: skip
    chosen = sorted(tried.chosen)
    return Outcome(
        name=task.name,
        model=served,
        challenger=chosen[0] if len(chosen) == 1 else Blend.name,
        published=tried.won,
        why=_why(tried, task.baseline),
        metric="ndcg@10",
        metrics={"ndcg@10": round(tried.challenger, 5)} if chosen else {},
        baseline=task.baseline,
        baseline_metrics={"ndcg@10": round(tried.baseline, 5)} if chosen else {},
        window=_window(interactions),
        rows={
            "customers": interactions.shape[0],
            "products": interactions.shape[1],
            "interactions": len(interactions),
            "customers_capped": interactions.capped,
            "customers_choosing": tried.choosing,
            "customers_judging": tried.judging,
        },
        details={
            "split": datetime.fromtimestamp(found.start, UTC).isoformat() if found else None,
            "tried": fitted,
            "by_group": tried.by_group,
            "by_site": tried.by_site,
            "leaderboard": tried.leaderboard,
            "not_tried": skipped,
        },
    )


def _why(tried: Tried, baseline: str) -> str:
    if not tried.enough:
        count = tried.choosing + tried.judging
        return f"Only {count} cases came after the time split, too few to choose and to judge: {baseline} serves."
    on = f"on {tried.judging} cases after the time split"
    compared = f"NDCG@10 {tried.challenger:.4f} against {tried.baseline:.4f}"
    if tried.won:
        return f"Chosen on {tried.choosing} others, it beat {baseline} {on}: {compared}."
    if tried.chosen == {baseline}:
        return f"Of all that were tried, {baseline} was the best for {tried.choosing} cases after the time split."
    return f"What {tried.choosing} others chose lost to {baseline} {on}, so that serves: {compared}."


def _window(interactions: Interactions) -> tuple[datetime, datetime] | None:
    if not len(interactions):
        return None
    first, last = int(interactions.second.min()), int(interactions.second.max())
    return datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
