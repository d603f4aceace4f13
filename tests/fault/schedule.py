"""What goes wrong in one schedule: drawn from its seed, so that it can be run again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from fault import shop
from fault.places import CONTROL, DISPATCH, NAPS, PLACES, RECONCILE, Place

HTTP = ("429", "503", "500", "late_500", "400", "drop", "reset", "slow", "hang")
DURING = ("restart", "dead writer", "no space", "withdrawals")
ELSEWHERE = {"sqlite": "restart", "postgresql": "no space"}  # what can't happen to our part of it
EVENTS = ("duplicated", "reordered", "some lost", "some late", "all lost")
# Hours after noon: when the second half of the campaigns is due; after every grace; outside of every window.
SECOND, LATER, NIGHT = 1, 3, 10
FIRST_HALF = 3  # campaigns
_NTH = (1, 1, 1, 1, 2, 3)
_STRIDE = 23  # from one place to the next seed's: neighbours are alike


@dataclass(frozen=True)
class Act:
    """A process: what it does, about which campaign, and where it is killed or put to sleep."""

    job: str
    about: str = ""
    kill: Place | None = None
    nap: Place | None = None


@dataclass
class Round:
    """What happens at the same time.

    `sleeper` comes first, until it sleeps; then the acts run to their ends, after its lease has run out (`overslept`)
    or before; then it wakes, or is killed (`dies`).
    """

    acts: list[Act]
    http: list[dict[str, Any]] = field(default_factory=list)
    during: list[str] = field(default_factory=list)
    hours: int = 0  # a step of the home's clock
    sleeper: Act | None = None
    overslept: bool = False
    dies: bool = False

    def planned(self) -> list[str]:
        """Its faults in words, whether or not they will be come to."""
        acts = [*self.acts, *([self.sleeper] if self.sleeper else [])]
        found = [f"kill {a.kill[0]} of {a.job} ({a.kill[1]})" for a in acts if a.kill]
        if self.sleeper and self.sleeper.nap:
            found.append(f"sleep {self.sleeper.nap[0]}" + ", lease over" * self.overslept + ", dies" * self.dies)
        found += [f"{f['kind']} x{f['count']}" for f in self.http] + self.during
        found += ["two dispatchers"] if sum(a.job == "dispatch" for a in acts) > 1 else []
        return found + ([f"clock {self.hours:+} h"] if self.clock_steps else [])

    @property
    def clock_steps(self) -> bool:
        return self.hours not in (0, SECOND)


@dataclass
class Schedule:
    """The rounds, in which order the campaigns are due, and what becomes of the provider's events."""

    seed: int
    database: str
    rounds: list[Round]
    order: list[str]
    events: list[str]
    pauses: bool  # of a provider in trouble

    def __str__(self) -> str:
        rounds = "; ".join(", ".join(r.planned()) or "-" for r in self.rounds)
        return f"{rounds}; events {', '.join(self.events)}" + "; no pauses" * (not self.pauses)


def draw(seed: int, database: str) -> Schedule:
    """Two to seven rounds. Every place of a kill is aimed at as often as any other, others come by chance."""
    rng = random.Random(f"{seed}/{database}")
    rounds, first, events = _aimed(rng, PLACES[seed * _STRIDE % len(PLACES)])
    order = rng.sample(list(shop.CAMPAIGNS), len(shop.CAMPAIGNS))
    order.sort(key=lambda campaign: campaign not in first)
    others = [Round([Act("dispatch")], hours=SECOND) for _ in range(rng.randint(1, 3))]
    for _ in range(rng.randint(3, 6)):
        _worsen(rng, rng.choice(others), database)
    if rng.random() < 0.3:  # not often: what is aimed at would be missed
        _worsen(rng, rng.choice(rounds), database)
    more = rng.sample(EVENTS[:4], rng.randint(1, 2)) + ["all lost"] * (rng.random() < 0.08)
    return Schedule(seed, database, rounds + others, order, sorted({*events, *more}), rng.random() < 0.5)


def _http(rng: random.Random, kind: str, count: int | None = None, provider: str | None = None) -> dict[str, Any]:
    seconds = {"slow": 0.05, "hang": 30.0}.get(kind, 0.0)
    most = (1, 2) if kind == "hang" else (1, 2, 5, 20)
    return {"kind": kind, "count": count or rng.choice(most), "seconds": seconds, "provider": provider}


def _aimed(rng: random.Random, place: str) -> tuple[list[Round], list[str], list[str]]:
    """Rounds in which somebody comes to the place; which campaigns are first for that, and the fate of the events."""
    step = place.split(" ", 1)[1]
    kill = (place, 1)
    dispatch, killed = Round([Act("dispatch")]), Round([Act("dispatch", kill=kill)])
    lost = Round([Act("dispatch")], [_http(rng, "drop", 12)])
    resendable = rng.sample(("letters", "nudges"), 2)
    if step in CONTROL:
        return _ordered(rng, step, kill)
    if step in ("store", "handle"):
        return [dispatch, Round([Act("feedback", kill=(place, rng.choice(_NTH)))])], [], []
    if step == "settle":
        return [lost, Round([Act("feedback", kill=kill)])], [rng.choice(("mails", "letters"))], []
    if step in RECONCILE:
        first = resendable if step == "reopen" else ["mails", "pushes"]
        return [lost, Round([Act("reconcile", kill=kill)], hours=LATER)], first, ["some lost"]
    if step == "twice":
        again = Round([Act("reconcile")], hours=LATER)
        sent_again = Round([Act("dispatch")], hours=LATER)
        return [lost, again, sent_again, Round([Act("feedback", kill=kill)])], ["letters"], ["some lost"]
    assert step in DISPATCH
    if step in ("reclaim", "cut short"):
        return [Round([Act("dispatch", kill=("after open", rng.choice(_NTH)))]), killed], [], []
    if step in ("given back", "stopped"):
        nap = "after claim" if step == "given back" else rng.choice(("after claim", "before post", "after open"))
        order = "pause" if step == "given back" else rng.choice(("cancel", "supersede"))
        return [Round([Act(order, "mails")], sleeper=Act("dispatch", kill=kill, nap=(nap, 1)))], ["mails"], []
    first = []
    if step == "drop":
        killed.during.append("withdrawals")
    elif step == "defer":
        killed.hours = NIGHT
    elif step in ("retry", "put off"):
        killed.http.append(_http(rng, rng.choice(("429", "503")), 20))
    elif step == "rejected":
        killed.http.append(_http(rng, "400", 6, "fcm"))
    elif step == "halve":
        killed.http.append(_http(rng, "400", rng.choice((1, 2, 4)), "sendgrid"))
        first = ["mails"]
    elif step == "unknown":
        killed.http.append(_http(rng, rng.choice(("500", "late_500", "drop", "reset")), 5))
    else:
        killed.acts = [Act("dispatch", kill=(place, rng.choice(_NTH)))]
    return [killed], first, []


def _ordered(rng: random.Random, order: str, kill: Place) -> tuple[list[Round], list[str], list[str]]:
    """Somebody who gives an order is killed, while nobody dispatches, or somebody does, or is about to."""
    about = {"plan": "late", "approve": "large", "reject": "large"}.get(order) or rng.choice(("mails", "pushes"))
    act = Act(order, about, kill)
    before = [Round([Act("pause", about)])] if order == "resume" else []
    sleeper = Act("dispatch", nap=(rng.choice(NAPS[:4]), 1)) if rng.random() < 0.5 else None
    others = [] if sleeper else [Act("dispatch")] * rng.randint(0, 1)
    return [*before, Round([act, *others], sleeper=sleeper)], [about], []


def _worsen(rng: random.Random, at: Round, database: str) -> None:
    """One more fault."""
    kind = rng.choice(("kill", "http", "http", "sleep", "two", "other", "clock"))
    dispatchers = [n for n, act in enumerate(at.acts) if act.job == "dispatch" and not act.kill]
    if kind == "kill" and dispatchers:
        place = rng.choice([p for p in PLACES if p.split(" ", 1)[1] in DISPATCH])
        at.acts[dispatchers[0]] = Act("dispatch", kill=(place, rng.choice(_NTH)))
    elif kind == "sleep" and at.sleeper is None:
        at.sleeper = Act("dispatch", nap=(rng.choice(NAPS), rng.choice(_NTH)))
        at.overslept, at.dies = rng.random() < 0.7, rng.random() < 0.3
    elif kind == "two":
        at.acts.append(Act("dispatch"))
    elif kind == "clock" and at.hours in (0, SECOND):
        at.hours = rng.choice((-30, -9, -1, 2, 4, NIGHT))
    elif kind == "other":
        what = rng.choice([d for d in DURING if d != ELSEWHERE[database]])
        at.during += [] if what in at.during else [what]
    else:
        at.http.append(_http(rng, rng.choice(HTTP)))
