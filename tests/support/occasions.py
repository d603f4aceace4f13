"""A script: ask dags/_defaults.py which days a campaign's run is for, in Airflow's own process. Arguments: JSON."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from types import SimpleNamespace


def main(case: dict) -> list[str | None]:
    from _defaults import days

    events = {"scores": [SimpleNamespace(extra={"as_of": moments}) for moments in case.get("events", [])]}
    run = SimpleNamespace(
        run_type=case["run_type"],
        run_after=datetime.fromisoformat(case.get("run_after", "2026-06-20T12:00:00+00:00")),
        data_interval_end=datetime.fromisoformat(case["interval_end"]) if "interval_end" in case else None,
    )
    return list(days(events, run, case.get("given")))


if __name__ == "__main__":
    sys.stdout.write(json.dumps([main(case) for case in json.loads(sys.argv[1])]))
