"""What goes wrong in one schedule: drawn from its seed, so that it can be run again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from fault.places import CONTROL, DISPATCH, FEEDBACK, NAPS, PLACES, RECONCILE, Place

HTTP = ("429", "503", "500", "400", "drop", "reset", "slow", "hang")
DURING = ("restart", "dead writer", "no space", "withdrawals")
ELSEWHERE = {"sqlite": "restart", "postgresql": "no space"}  # what can't happen to our part of it
EVENTS = ("duplicated", "reordered", "some lost", "some late", "all lost")
NIGHT, LATER = 10, 3  # hours after noon: outside of every window; after every grace
_NTH = (1, 1, 1, 1, 2, 3)


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
        return found + ([f"clock {self.hours:+} h"] if self.hours else [])


@dataclass
class Schedule:
    """The rounds, and what becomes of the provider's events."""

    seed: int
    database: str
    rounds: list[Round]
    events: list[str]

    def __str__(self) -> str:
        return "; ".join(", ".join(r.planned()) or "-" for r in self.rounds) + f"; events {', '.join(self.events)}"


def draw(seed: int, database: str) -> Schedule:
    """One to five rounds. Every place of a kill is aimed at as often as any other, others come by chance."""
    rng = random.Random(f"{seed}/{database}")
    place = PLACES[seed % len(PLACES)]
    rounds, events = _aimed(rng, (place, rng.choice(_NTH)), database)
    for _ in range(rng.randint(0, 2)):
        rounds.insert(rng.randrange(len(rounds) + 1), Round([Act("dispatch")]))
    for _ in range(rng.randint(2, 5)):
        _worsen(rng, rng.choice(rounds), database)
    more = rng.sample(EVENTS[:4], rng.randint(1, 2)) + ["all lost"] * (rng.random() < 0.08)
    return Schedule(seed, database, rounds, sorted({*events, *more}))


def _http(rng: random.Random, kind: str, count: int | None = None, provider: str | None = None) -> dict[str, Any]:
    seconds = {"slow": 0.05, "hang": 30.0}.get(kind, 0.0)
    most = (1, 2) if kind == "hang" else (1, 2, 5, 20)
    return {"kind": kind, "count": count or rng.choice(most), "seconds": seconds, "provider": provider}


def _aimed(rng: random.Random, kill: Place, database: str) -> tuple[list[Round], list[str]]:
    """Rounds in which somebody comes to the place, and what must become of the events."""
    step = kill[0].split(" ", 1)[1]
    dispatch, killed = Round([Act("dispatch")]), Round([Act("dispatch", kill=kill)])
    lost = Round([Act("dispatch")], [_http(rng, "drop", 4)])
    if step in CONTROL:
        about = {"plan": "late", "approve": "large", "reject": "large"}.get(step) or rng.choice(("mails", "pushes"))
        acts = [Act(step, about, kill)]
        if step == "resume":
            return [Round([Act("pause", about)]), Round([*acts, Act("dispatch")])], []
        sleeper = Act("dispatch", nap=(rng.choice(NAPS[:4]), rng.choice(_NTH))) if rng.random() < 0.5 else None
        return [Round([*acts, *[Act("dispatch")] * (sleeper is None)], sleeper=sleeper)], []
    if step in ("store", "handle"):
        return [dispatch, Round([Act("feedback", kill=kill)])], []
    if step == "settle":
        return [lost, Round([Act("feedback", kill=(kill[0], 1))])], []
    if step in RECONCILE:
        return [lost, Round([Act("reconcile", kill=(kill[0], 1))], hours=LATER)], ["some lost"]
    if step == "twice":
        lost.http = [_http(rng, "drop", 12, "sendgrid")]
        again = Round([Act("reconcile")], hours=LATER)
        return [lost, again, dispatch, Round([Act("feedback", kill=(kill[0], 1))])], ["some late"]
    assert step in DISPATCH
    if step in ("reclaim", "cut short"):
        first = Round([Act("dispatch", kill=("after open", kill[1]))])
        return [first, Round([Act("dispatch", kill=(kill[0], 1))])], []
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
    elif step == "unknown":
        killed.http.append(_http(rng, rng.choice(("500", "drop", "reset")), 5))
    elif step in ("given back", "stopped"):
        sleeper = Act("dispatch", nap=(rng.choice(("after claim", "before post", "after open")), 1), kill=(kill[0], 1))
        what = "pause" if step == "given back" else rng.choice(("cancel", "supersede"))
        return [Round([Act(what, "mails")], sleeper=sleeper)], []
    return [killed], []


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
    elif kind == "clock" and not at.hours:
        at.hours = rng.choice((-30, -9, -1, 1, 2, NIGHT))
    elif kind == "other":
        what = rng.choice([d for d in DURING if d != ELSEWHERE[database]])
        at.during += [] if what in at.during else [what]
    else:
        at.http.append(_http(rng, rng.choice(HTTP)))
