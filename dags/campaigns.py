"""Makes one DAG per campaign spec in include/campaigns, each with its own form, owner, schedule and history.

A run freezes a plan in the ledger: who, which variant, which channel, when. dispatch_messages sends it. Triggering an
occasion again, or clearing the task, finds that plan and sends nothing twice; an occasion of a past day only rehearses.
A plan of many messages waits until a second person approves it; `approve` and `release` are skipped for the others.
Plans are made one at a time, so that each counts the messages of the others in its frequency caps.
A spec that can't be read becomes a DAG tagged `broken` that shows the error.

**If it fails** in `plan`, nothing was planned: the plan is one transaction. In `approve` or `release` the plan is held
and nothing of it leaves. The log says what to mend.
"""

from _approval import AskSecondPerson, release
from _defaults import DAG, SCORES, days, run, timed
from _form import form
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException
from controltower import settings
from controltower.campaigns.specs import BrokenSpec, Spec, load_specs
from controltower.jobs import campaigns

RUN_TYPES = ["manual", "scheduled", "asset_triggered", "operator_triggered"]  # no backfill: past days send nothing
SEVERAL = DAG | {"max_active_runs": 16, "allowed_run_types": RUN_TYPES}  # one that waits keeps no other waiting


def usable(spec: Spec) -> None:
    schedule = {"schedule": SCORES} if spec.schedule == "after_scores" else timed(spec.schedule)
    about = f"**{spec.title}**: {spec.description}\n\n{__doc__}"

    @dag(f"campaign_{spec.name}", **SEVERAL, **schedule, params=form(spec), tags=["tier-1", "campaign"], doc_md=about)
    def campaign() -> None:
        @task(pool="planning", owner=spec.owner)
        def plan(*, params=None, dag_run=None, triggering_asset_events=None) -> list[dict]:
            asked = dict(params) if dag_run.run_type == "manual" else {}
            occasions = days(triggering_asset_events, dag_run, asked.pop("occasion", None))
            more = (asked, dag_run.run_id, asked.pop("replan", False), dag_run.triggering_user_name)
            return [run(campaigns.plan_campaign, spec.name, day, *more) for day in occasions]

        decided = AskSecondPerson(task_id="approve", planned=plan(), pool="planning", owner=spec.owner).output
        task(pool="planning", owner=spec.owner)(release)(decided)

    campaign()


def broken(spec: BrokenSpec) -> None:
    tags = ["tier-1", "campaign", "broken"]

    @dag(f"campaign_{spec.name}", **DAG, schedule=None, tags=tags, doc_md=f"**{spec.error}**\n\n{__doc__}")
    def campaign() -> None:
        @task
        def show_error() -> None:
            raise AirflowFailException(spec.error)

        show_error()

    campaign()


for found in load_specs(settings.load().campaigns):
    (usable if isinstance(found, Spec) else broken)(found)
