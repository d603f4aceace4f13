"""The days of the demo: from loading to planning, sending until nothing waits, and a look back at what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controltower import clock
from controltower.ledger import reports
from controltower.ledger.database import reading
from controltower.settings import load_shop

from demo.conductor import Conductor, short
from demo.home import Plan
from demo.processes import CONTROLTOWER, DemoFailed

CHAIN = ("build_profiles", "train_models", "score_customers")
LAST_MINUTE = 55  # of an hour: what is due in it is sent together, and still within the hour
MOST_DISPATCHES = 200


@dataclass
class Day:
    """One day of one home, counted from 0."""

    airflow: Conductor
    plan: Plan
    number: int

    def live(self) -> int:
        """The first day loads all that was known before; a later one what the day before brought.

        Returns how many customers were known when it was planned.
        """
        known = self._plan(load(self.airflow, self.plan, self.number))
        self._send()
        morning = self.plan.starts + timedelta(days=self.number)
        listen(self.airflow, morning.replace(hour=23, minute=30))  # what is known by midnight counts for the next day
        listen(self.airflow, morning + timedelta(days=1))
        return known

    def _plan(self, run_id: str) -> int:
        """From the load to the frozen plans; each stage is a run that Airflow's scheduler does."""
        airflow = self.airflow
        found = {}
        for dag in CHAIN:
            run_id = airflow.triggered(dag, run_id)
            found[dag] = airflow.follow(dag, run_id)
        planned = {dag: airflow.triggered(dag, run_id) for dag in airflow.campaigns()}
        for dag, campaign_run in planned.items():
            airflow.follow(dag, campaign_run)
        return int(found["build_profiles"][0]["customers"])

    def _send(self) -> None:
        """Dispatch until nothing waits: the clock goes to the end of each hour in which messages are due."""
        here, progress = self.airflow.settings, self.airflow.progress
        zone = load_shop(here).zone
        progress.say("the shop's clock now goes from hour to hour in which messages are due")
        sent = 0
        for _ in range(MOST_DISPATCHES):
            with reading(here) as ledger:
                pending, next_due = reports.waiting(ledger)
                held = reports.held(ledger)
            if not pending:
                progress.say(
                    "".join(f"{n:,} messages are held back: {hold}" for hold, n in held.items()) or "all is sent"
                )
                return
            assert next_due is not None
            clock.set_clock(here, max(clock.now(here), next_due, next_due.replace(minute=LAST_MINUTE)))
            _, report = self.airflow.do("dispatch_messages", quiet=True)
            requests = sum(report["requests"].values())
            if requests and not sent and not self.number:
                progress.say("the first messages are in the inbox")
            sent += requests
            by_schedule = "" if report["batches"] else "; the run of Airflow's own schedule was quicker"
            progress.say(
                f"dispatch_messages at {clock.now(here).astimezone(zone):%a %H:%M} in the shop: "
                f"{short(report)}{by_schedule}"
            )
        raise DemoFailed(f"Messages still wait after {MOST_DISPATCHES} dispatch runs.")


def listen(airflow: Conductor, until: datetime) -> None:
    """Let it be `until`, unless it is later already; customers have answered meanwhile, and their answers are read."""
    here = airflow.settings
    if clock.now(here) < until:
        clock.set_clock(here, until)
    airflow.progress.say(f"the shop's clock shows {clock.now(here).astimezone(load_shop(here).zone):%Y-%m-%d %H:%M %Z}")
    airflow.processes.run("answers", [*CONTROLTOWER, "simulate-answers"])
    airflow.do("ingest_feedback")


def load(airflow: Conductor, plan: Plan, number: int) -> str:
    """Load what is new; returns the run's id."""
    form = {"source": plan.source, "end": plan.ends}
    if number:
        form |= interval(plan, number)
    return airflow.do("ingest_data", **form)[0]


def interval(plan: Plan, number: int) -> dict[str, str]:
    """What a later day's load is of: the day before."""
    first = plan.starts.date()
    return {
        "start": (first + timedelta(days=number - 1)).isoformat(),
        "end": (first + timedelta(days=number)).isoformat(),
    }


def look_back(airflow: Conductor, plan: Plan, days: int) -> None:
    """The morning after the last day: what came back, the last day's orders, and what the campaigns were worth.

    That day isn't planned, so Airflow isn't told of the load: also where build_profiles is paused meanwhile, its next
    run, whatever triggers it, would be for that load too, and the campaigns would plan the day.
    """
    last = interval(plan, days)
    command = ["ingest", "--source", plan.source, "--start", last["start"], "--end", last["end"]]
    airflow.processes.run("last-load", [*CONTROLTOWER, *command])
    airflow.do("measure_campaigns", as_of=last["end"])
