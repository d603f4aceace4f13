"""A process that does one job of ours, and dies or sleeps where it is told to."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from controltower import settings
from controltower.delivery.providers import client
from controltower.errors import ControlTowerError
from controltower.jobs import approvals, control, dispatch, feedback, reconcile
from controltower.ledger import database
from controltower.ledger.database import begin
from controltower.ledger.tables import batches, messages, outcomes
from controltower.settings import Settings
from sqlalchemy.exc import OperationalError
from support import webhooks

from fault import shop
from fault.forking import fork
from fault.places import Watch
from fault.schedule import Act

EXIT_TOLD = 3  # it ended by an error with its remedy, as where a provider is down
EXIT_DATABASE = 4  # its database, or the disk, failed it
IMPATIENT = 3.0  # seconds for an answer, where some stay away

Posts = Sequence[tuple[Mapping[str, str], bytes]]  # of a provider's events: headers and body


def start(act: Act, *, posts: Posts = (), space: int | None = None, impatient: bool = False) -> int:
    """Start the process. Returns its id.

    `space`: bytes that a file may have; writing beyond fails as it does on a full disk.
    """
    conf = settings.load()
    engine = database.opened(conf)
    engine.dispose()  # SQLite's locks don't survive a fork

    def work() -> int:
        Watch(engine, act.kill, act.nap)
        if impatient:
            client.ANSWER = IMPATIENT
        if space is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (space, space))
        try:
            _do(conf, act, posts)
        except ControlTowerError:
            return EXIT_TOLD
        except (OperationalError, OSError):
            return EXIT_DATABASE
        return 0

    return fork(work)


def _do(conf: Settings, act: Act, posts: Posts) -> None:
    jobs: dict[str, Any] = {
        "dispatch": dispatch.dispatch_messages, "reconcile": reconcile.reconcile,
        "feedback": lambda: take_in(conf, posts), "plan": lambda: shop.plan(conf, act.about),
        "supersede": lambda: edited(conf, act.about), "approve": lambda: decide(act.about, True),
        "reject": lambda: decide(act.about, False), "die writing": lambda: die_writing(conf),
        "cancel": lambda: control.cancel_campaign(act.about, shop.OCCASION),
        "pause": lambda: control.pause_campaign(act.about, shop.OCCASION),
        "resume": lambda: control.resume_campaign(act.about, shop.OCCASION),
    }  # fmt: skip
    jobs[act.job]()


def take_in(conf: Settings, posts: Posts) -> None:
    """As the public app and the task that reads what it stored."""
    for headers, body in posts:
        webhooks.receive(conf, "sendgrid", headers, body)
    feedback.ingest_feedback()


def edited(conf: Settings, campaign: str) -> None:
    """A new version takes the place of what is unsent."""
    shop.edit(conf, campaign)
    shop.plan(conf, campaign)


def decide(campaign: str, approve: bool) -> None:
    """A second person's word on a run that waits."""
    run = approvals.newest_run(campaign, shop.OCCASION)
    if approve:
        approvals.approve_campaign(run["run_id"], run["plan_hash"], "ann")
    else:
        approvals.reject_campaign(run["run_id"], "ann")


def die_writing(conf: Settings) -> None:
    """Hold the write lock, spoil what there is, and die before it is committed."""
    with begin(conf) as ledger:
        ledger.execute(outcomes.delete())
        ledger.execute(batches.update().values(attempts=0, not_before=0.0))
        ledger.execute(messages.update().where(messages.c.seq % 2 == 0).values(message_id=None))
        os.kill(os.getpid(), signal.SIGKILL)
