"""The second person's part in a campaign's DAG: the question, and what its answer comes to.

A plan of more messages than the threshold is frozen with a hold. Airflow asks those named in CONTROLTOWER_APPROVERS,
without whoever triggered the run, and lets nobody else answer. The task waits in `awaiting_input` and takes no slot.

Which run is asked about is read from what `plan` returned, an XCom, which users may write: the question is made from
the ledger, where a run waits or doesn't. From then on Airflow's own record counts: what was asked is kept with the
waiting task, and who answered comes from Airflow. The same task writes the answer to the ledger, where who may decide
is checked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from _defaults import run
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from controltower.jobs import approvals

PATIENCE = timedelta(hours=24)


class AskSecondPerson(ApprovalOperator):
    """Asks about the run that `planned` (what the plan task returned) says is held; skips where none is.

    Returns the run's report with the outcome of the decision. NotAllowed fails the task: cleared, it asks again.
    """

    template_fields = ("subject", "body", "planned")

    def __init__(self, *, planned: Any, **more: Any) -> None:
        super().__init__(subject="", response_timeout=PATIENCE, **more)
        self.planned = planned

    def execute(self, context: Any) -> None:
        held = [report["run_id"] for report in self.planned if report.get("hold") == "approval"]  # today's, if any
        user, here = context["dag_run"].triggering_user_name, conf.get("api", "base_url", fallback="")
        asked = run(approvals.question, held[0], user, here) if held else None
        if not asked:
            raise AirflowSkipException("No run waits for approval.")
        self.subject, self.body = asked["subject"], asked["body"]
        self.assigned_users = [{"id": name, "name": name} for name in asked["approvers"]]
        try:
            super().execute(context)
        except TaskAwaitingInput as waiting:
            waiting.kwargs = {"run_id": held[0], "plan_hash": asked["plan_hash"]}  # kept until the answer comes
            raise

    def execute_complete(self, context: Any, event: Any, run_id: int = 0, plan_hash: str = "") -> dict[str, Any]:
        answer = HITLOperator.execute_complete(self, context, event)  # without the skipping of the class between
        by = (answer["responded_by_user"] or {}).get("name", "")
        if answer["chosen_options"] == [self.APPROVE]:
            return run(approvals.approve_campaign, run_id, plan_hash, by)
        return run(approvals.reject_campaign, run_id, by)

    def process_trigger_event_error(self, event: dict[str, Any]) -> None:
        if event["error_type"] == "timeout":  # not tried again: that would be another day
            raise AirflowFailException(
                f"Nobody answered in {PATIENCE.total_seconds() / 3600:.0f} hours: nothing of it is sent. Until its "
                "messages expire, clear this task to ask again, or use `controltower campaign approve`."
            )
        super().process_trigger_event_error(event)


def release(decided: Mapping[str, Any]) -> dict[str, Any]:
    """Shows what the decision came to: green where the run leaves, skipped where it was rejected, failed where void."""
    if decided["outcome"] == "rejected":
        raise AirflowSkipException(decided["note"])
    if decided["outcome"] not in ("approved", "approved_before"):
        raise AirflowFailException(f"Run {decided['run_id']}: {decided['note']}.")
    return dict(decided)
