"""What goes wrong in one schedule: drawn from its seed, so that it can be run again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

# The places of a worker at which it can be killed: before and after each transaction, and around the call between.
STEPS = ("claim", "drop", "defer", "open_requests", "post", "close_requests", "release")
KILLS = tuple(f"{when} {step}" for step in STEPS for when in ("before", "after"))
HTTP = ("429", "503", "500", "drop", "reset", "slow")
OTHER = ("database restart", "no space", "clock back", "clock forward", "two dispatchers", "pause", "withdrawals")
ELSEWHERE = {"sqlite": "database restart", "postgresql": "no space"}  # what can't happen to our part of it
EVENTS = ("duplicated", "reordered", "some lost", "all lost")


@dataclass
class Round:
    """One go at what is due: the workers, each with what kills it, and what happens around them."""

    kills: list[tuple[str, int] | None]  # a worker each: the place and the how-many-eth time; none: it lives
    http: list[dict[str, Any]] = field(default_factory=list)
    during: list[str] = field(default_factory=list)


@dataclass
class Schedule:
    """The rounds with their faults, and what becomes of the provider's events."""

    seed: int
    database: str
    rounds: list[Round]
    events: list[str]
    told: set[str] = field(default_factory=set)  # the messages whose events came back in the end

    @property
    def faults(self) -> list[str]:
        found = [f"kill {kill[0]}" for r in self.rounds for kill in r.kills if kill]
        found += [str(fault["kind"]) for r in self.rounds for fault in r.http]
        return found + [what for r in self.rounds for what in r.during] + [f"events {e}" for e in self.events]


def draw(seed: int, database: str) -> Schedule:
    """Three to nine faults in one to four rounds. Every place of a kill comes up as often as any other."""
    rng = random.Random(f"{seed}/{database}")
    rounds = [Round([None]) for _ in range(rng.randint(1, 4))]
    first = rounds[0]
    first.kills[0] = (KILLS[seed % len(KILLS)], rng.choice((1, 1, 2, 3)))
    for _ in range(rng.randint(2, 8)):
        at = rng.choice(rounds)
        kind = rng.choice(("kill", "http", "http", "other"))
        if kind == "kill":
            at.kills[rng.randrange(len(at.kills))] = (rng.choice(KILLS), rng.choice((1, 2, 4)))
        elif kind == "http":
            http = rng.choice(HTTP)
            at.http.append({"kind": http, "count": rng.choice((1, 2, 5, 20)), "seconds": 0.05 if http == "slow" else 0})
        else:
            what = rng.choice(OTHER)
            if what == "two dispatchers":
                at.kills.append(rng.choice((None, (rng.choice(KILLS), 1))))
            if what not in at.during and what != ELSEWHERE[database]:
                at.during.append(what)
    events = rng.sample(EVENTS[:3], rng.randint(0, 2)) + (["all lost"] if rng.random() < 0.1 else [])
    schedule = Schedule(seed, database, rounds, events)
    while len(schedule.faults) < 3:
        first.http.append({"kind": rng.choice(HTTP), "count": 2, "seconds": 0})
    return schedule
