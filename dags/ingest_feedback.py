"""Reads what SendGrid posted of our mail, every 15 minutes: deliveries, openings, bounces, complaints, unsubscribes.

The public app stores each signed body; here it becomes delivery events. A dead address is suppressed, who complained or
unsubscribed gets no more marketing mail. Then messages whose answer was lost are settled: by what came back, else, once
their grace is over, by their campaign's policy. Then the lake is told, for features and send hours; last, SendGrid's
unsubscribe group, if the shop names one, is brought in step with our consents and suppressions. Each body is one
transaction, and an event counts once: run it again at will.

**If it fails**, nothing is lost: bodies wait until it succeeds. But who complained or bounced may be written to
meanwhile: if it stays broken for hours, pause dispatch_messages. The log names what is amiss, mostly the ledger's
database. Broken bodies don't fail it: the report counts them (`broken`), and they stay in `webhook_bodies` for 30 days,
with what was wrong. If nothing ever comes in, run `controltower doctor`, and see SendGrid's Event Webhook settings.
"""

from _defaults import DAG, FEEDBACK, run
from airflow.sdk import CronTriggerTimetable, dag, task
from controltower.jobs import engagement, feedback, reconcile, unsubscribe_group


@dag(
    **DAG,
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    allowed_run_types=["scheduled", "manual"],  # what waits now has no past to backfill
    tags=["tier-1", "feedback"],
    doc_md=__doc__,
)
def ingest_feedback() -> None:
    @task(pool="feedback")
    def read() -> dict:
        return run(feedback.ingest_feedback)

    @task(pool="feedback")
    def settle() -> dict:
        return run(reconcile.reconcile)

    @task(pool="lake", outlets=[FEEDBACK])
    def publish(*, outlet_events=None) -> dict:
        report = run(engagement.publish_engagement)
        outlet_events[FEEDBACK].extra = {"as_of": [report["as_of"]]}
        return report

    @task(pool="feedback")
    def sync() -> dict:
        return run(unsubscribe_group.sync_asm_group)

    read() >> settle() >> publish() >> sync()


ingest_feedback()
