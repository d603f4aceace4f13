"""Pauses one occasion of a campaign in mid-send, or lets it go on: the button for second thoughts.

Trigger it with the campaign, the occasion and what to do. No call to a provider begins once the task has succeeded; its
result counts the messages that have left, those under way, which can't be recalled, and those that wait. What is late
when it goes on ends as expired. `controltower campaign pause NAME --occasion DAY` and the Tower page do the same.

**If it fails**, nothing was changed, and the log says why. To stop all sending at once, pause dispatch_messages.
"""

from _defaults import DAG, days, run
from _form import occasion_form
from airflow.sdk import Param, dag, task
from controltower.jobs import control

ACTIONS = {"pause": control.pause_campaign, "resume": control.resume_campaign}
ACTION = Param("pause", type="string", enum=list(ACTIONS), title="Action", description="Resume lets it go on.")


@dag(
    **DAG,
    schedule=None,
    params={**occasion_form(), "action": ACTION},
    allowed_run_types=["manual"],
    tags=["tier-1", "campaign"],
    doc_md=__doc__,
)
def pause_campaign() -> None:
    @task(pool="stopping")
    def change(*, params=None, dag_run=None) -> dict:
        (day,) = days({}, dag_run, params["occasion"])
        return run(ACTIONS[params["action"]], params["campaign"], day, dag_run.triggering_user_name or "Airflow")

    change()


pause_campaign()
