"""Where a process can be stopped: before and after the commit of each transition of docs/ledger.md, and around a call.

A transition is noted where the ledger's function for it has done something, and counts with the commit that follows.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from controltower.delivery.providers import client
from controltower.ledger import holds, plans, unknowns, webhooks, work
from controltower.ledger.tables import campaign_runs, requests

# What the table of states and transitions has, by whose work it is.
DISPATCH = ("claim", "reclaim", "cut short", "drop", "defer", "open", "post", "halve", "sent", "retry", "rejected",
            "unknown", "done", "put off", "given back", "stopped")  # fmt: skip
CONTROL = ("plan", "supersede", "cancel", "approve", "reject", "pause", "resume")
FEEDBACK = ("store", "handle", "settle", "twice")
RECONCILE = ("give up", "reopen")
STEPS = (*DISPATCH, *CONTROL, *FEEDBACK, *RECONCILE)
PLACES = tuple(f"{when} {step}" for step in STEPS for when in ("before", "after"))
# Where a process can be put to sleep while others work: it holds no lock that they would wait for.
NAPS = ("after claim", "before post", "after post", "after open", "after sent", "after drop", "after retry")

Place = tuple[str, int]  # and at the how-many-eth time
Namer = Callable[[tuple[Any, ...], dict[str, Any], Any], Iterator[str]]


class Watch:
    """Counts the places that this process comes to, and ends it or puts it to sleep at one of them."""

    def __init__(self, engine: sa.Engine, kill: Place | None, nap: Place | None) -> None:
        self._ends: dict[str, tuple[int, signal.Signals]] = {}
        for given, how in ((kill, signal.SIGKILL), (nap, signal.SIGSTOP)):
            if given:
                self._ends[given[0]] = (given[1], how)
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._noted: list[str] = []
        self._halving = False
        self._follow_commits(engine)
        for module, name, names in (
            (work, "claim", self._claimed), (work, "drop", _always("drop")), (work, "defer", _always("defer")),
            (work, "open_requests", self._opened), (work, "close_requests", self._closed),
            (plans, "freeze", _always("plan")), (plans, "cancel_unsent", _stopped_run),
            (holds, "pause", _where("paused", "pause")), (holds, "resume", _where("resumed", "resume")),
            (holds, "set_hold", _always("approve")), (webhooks, "store", _always("store")),
            (webhooks, "close", _always("handle")), (unknowns, "settle", _if_any("settle")),
            (unknowns, "tell_apart", _if_any("twice")), (unknowns, "give_up", _given("give up", 1)),
            (unknowns, "reopen", _always("reopen")),
        ):  # fmt: skip
            self._note(module, name, names)
        self._note_recovery()
        self._note_release()
        self._follow_calls()

    def _come_to(self, place: str) -> None:
        if place not in self._ends:
            return
        with self._lock:
            self._seen[place] += 1
            number, how = self._ends[place]
            if self._seen[place] == number:
                os.kill(os.getpid(), how)

    def _follow_commits(self, engine: sa.Engine) -> None:
        dialect: Any = engine.dialect
        commit, rollback = dialect.do_commit, dialect.do_rollback

        def do_commit(connection: Any) -> None:
            done, self._noted = self._noted, []
            for step in done:
                self._come_to(f"before {step}")
            commit(connection)
            for step in done:
                self._come_to(f"after {step}")

        def do_rollback(connection: Any) -> None:
            self._noted = []
            rollback(connection)

        dialect.do_commit, dialect.do_rollback = do_commit, do_rollback

    def _follow_calls(self) -> None:
        post = client.Client.post

        def around(*arguments: Any) -> Any:
            self._come_to("before post")
            answer = post(*arguments)
            self._come_to("after post")
            return answer

        client.Client.post = around  # type: ignore[method-assign]

    def _note(self, module: Any, name: str, names: Namer) -> None:
        real = getattr(module, name)

        def noted(*given: Any, **more: Any) -> Any:
            result = real(*given, **more)
            self._noted += names(given, more, result)
            return result

        setattr(module, name, noted)

    def _claimed(self, _given: tuple[Any, ...], _more: dict[str, Any], result: Any) -> Iterator[str]:
        if result:
            yield "claim"
            if result[0].attempts > 1:
                yield "reclaim"

    def _opened(self, _given: tuple[Any, ...], _more: dict[str, Any], _result: Any) -> Iterator[str]:
        yield "open"
        if self._halving:
            yield "halve"

    def _closed(self, given: tuple[Any, ...], _more: dict[str, Any], _result: Any) -> Iterator[str]:
        self._halving = any(row["reason"] == "refused_together" for row in given[3])
        yield from {row["state"] for row in given[3]}

    def _note_recovery(self) -> None:
        real = work.recover

        def recover(connection: sa.Connection, batch: work.Batch, now: Any) -> work.Batch:
            mine = (requests.c.batch_id == batch.batch_id, requests.c.state == "open")
            if connection.execute(sa.select(sa.exists().where(*mine))).scalar_one():
                self._noted.append("cut short")
            return real(connection, batch, now)

        work.recover = recover

    def _note_release(self) -> None:
        real = work.release

        def release(connection: sa.Connection, batch: work.Batch, *given: Any, **more: Any) -> bool:
            done = real(connection, batch, *given, **more)
            state = sa.select(campaign_runs.c.state).where(campaign_runs.c.run_id == batch.run_id)
            if connection.execute(state).scalar_one() != "planned":
                self._noted.append("stopped")
            else:
                self._noted.append("done" if done else "put off" if more.get("retry_in") else "given back")
            return done

        work.release = release


def _always(step: str) -> Namer:
    return lambda _given, _more, _result: iter((step,))


def _where(outcome: str, step: str) -> Namer:
    return lambda _given, _more, result: iter((step,) if result == outcome else ())


def _if_any(step: str) -> Namer:
    return lambda _given, _more, result: iter((step,) if result else ())


def _given(step: str, at: int) -> Namer:
    return lambda given, _more, _result: iter((step,) if given[at] else ())


def _stopped_run(_given: tuple[Any, ...], more: dict[str, Any], _result: Any) -> Iterator[str]:
    yield "supersede" if more["superseded"] else "reject" if more.get("freed") else "cancel"
