"""A script: the part of a second person in a campaign's DAG, played without Airflow's processes. Arguments: JSON cases.

Real: the operator of dags/_approval.py, the jobs and their homes. Played here: the task runner, which parks the task
with its kwargs and wakes it in another process, and the supervisor, to which the question is sent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from airflow.sdk.execution_time import task_runner


def play(case: dict[str, Any]) -> dict[str, Any]:
    from _approval import AskSecondPerson, release

    os.environ.update(case["environment"])
    told: list[Any] = []
    task_runner.SUPERVISOR_COMMS = SimpleNamespace(send=lambda msg: told.append(msg))
    context = {
        "dag_run": SimpleNamespace(triggering_user_name=case["user"]),
        "task_instance": SimpleNamespace(id=uuid4()),
    }
    asking = AskSecondPerson(task_id="approve", planned=case["planned"])
    try:
        return {"asked": ended(lambda: asking.execute(context))}
    except TaskAwaitingInput as waiting:
        parked, method = json.loads(json.dumps(waiting.kwargs)), waiting.method_name
    (question,) = told
    if case["edit"]:
        with Path(case["edit"]).open("a") as template:
            template.write("edited\n")
    woken = AskSecondPerson(task_id="approve", planned=[])  # it is another process that wakes up
    answered = ended(lambda: woken.resume_execution(method, parked | {"event": event(case["answer"])}, context))
    return {
        "question": question.model_dump(mode="json"),
        "parked": parked,
        "answered": answered,
        "released": ended(lambda: release(answered["returned"])) if "returned" in answered else None,
    }


def event(answer: dict[str, str] | None) -> dict[str, Any]:
    """What Airflow wakes the task with: HITLDetail.as_resume_event_payload, or the scheduler's time-out."""
    if answer is None:
        return {"error": "The response timeout has passed without a response.", "error_type": "timeout"}
    return {
        "chosen_options": [answer["option"]],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": answer["by"], "name": answer["by"]},
        "timedout": False,
    }


def ended(step: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"returned": step()}
    except AirflowSkipException as e:
        return {"skipped": str(e)}
    except AirflowFailException as e:
        return {"failed": str(e)}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps([play(case) for case in json.loads(sys.argv[1])]))
