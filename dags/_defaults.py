"""What our DAG files share: the assets that link them, retries, the daily timetable, and how a job is run.

It lies beside the DAG files because nothing in `controltower` may import Airflow, and starts with an underscore because
`.airflowignore` keeps Airflow from looking for DAGs in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, CronDataIntervalTimetable, Param
from airflow.sdk.exceptions import AirflowFailException
from controltower import clock, settings
from controltower.campaigns.occasions import occasions
from controltower.errors import ControlTowerError, ProviderDown, TryAgain

log = logging.getLogger(__name__)

# Each event of these carries {"as_of": [moments]} in its extra.
FACTS = Asset("controltower_facts")
PROFILES = Asset("controltower_profiles")
MODELS = Asset("controltower_models")
SCORES = Asset("controltower_scores")
FEEDBACK = Asset("controltower_feedback")

AS_OF = Param(
    None,
    type=["string", "null"],
    title="As of",
    description="A date or time; facts received later aren't read. Empty: now.",
)


def tell(context: Mapping[str, Any]) -> None:
    """The failure callback: ids and counts, no data."""
    ti = context["ti"]
    log.error("%s.%s failed in run %s, try %d; see docs/airflow.md", ti.dag_id, ti.task_id, ti.run_id, ti.try_number)


TASKS = {
    "owner": "data",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=1),
    "on_failure_callback": tell,
}
START = datetime(2000, 1, 1, tzinfo=UTC)
DAG = {"start_date": START, "catchup": False, "max_active_runs": 1, "default_args": TASKS}


def timed(cron: str) -> dict[str, Any]:
    """The schedule of a DAG that runs on a cron line in the shop's zone, with data intervals.

    Airflow's schedule follows the wall clock. A home whose clock is set isn't on it: there such a DAG runs when
    triggered or backfilled only, which is what an end date in the past means to Airflow.
    """
    here = settings.load()
    shop = settings.shop_if_any(here)
    return {
        "schedule": CronDataIntervalTimetable(cron, timezone=shop.timezone if shop else "UTC"),
        "end_date": START if clock.is_set(here) else None,
    }


def as_ofs(events: Mapping[Any, Any], otherwise: Any) -> list[Any]:
    """The moments to work for, oldest first: of all asset events that triggered this run, else `otherwise`.

    Airflow gives several events to one run when they come faster than the runs do, as in a backfill.
    """
    moments = {moment for asset in events for event in events[asset] for moment in event.extra["as_of"]}
    return sorted(moments) or [otherwise]


def days(events: Mapping[Any, Any], dag_run: Any, given: str | None) -> Sequence[str | None]:
    """The occasions that a campaign's run is for: the form's day, else those of what triggered it."""
    here = settings.load()
    by_hand = dag_run.run_type == "manual"
    asked = dag_run.run_after if by_hand else dag_run.data_interval_end or dag_run.run_after
    moments = as_ofs(events, asked.isoformat())
    return occasions(given, moments, settings.load_shop(here), by_hand=by_hand, clock_is_set=clock.is_set(here))


def run(job: Callable[..., dict[str, Any]], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Do a job and give its report. What a person must mend isn't tried again; what passes by itself is.

    What it writes is for its owner's eyes only: a home holds addresses.
    """
    os.umask(0o077)
    try:
        return job(*args, **kwargs)
    except (ProviderDown, TryAgain):
        raise
    except ControlTowerError as e:
        raise AirflowFailException(str(e)) from None
