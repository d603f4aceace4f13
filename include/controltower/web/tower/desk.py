"""What the routes share: the home, who visits, and how a run is found, guarded and changed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import HTTPException, Request

from controltower.errors import ControlTowerError
from controltower.ledger import runs
from controltower.ledger.runs import Run
from controltower.settings import Settings
from controltower.web.auth import User
from controltower.web.tower import seals, words
from controltower.web.tower.page import Page
from controltower.web.tower.standing import Counted, count

PATIENCE = 20.0  # seconds to wait for somebody else's preview or report


class Busy(ControlTowerError):
    """The API server makes another preview or report just now."""


class Guard(Protocol):
    """Who asks, and what they may: web/auth.py."""

    async def find_user(self, request: Request) -> User | None: ...
    def may_read(self, user: User, campaigns: Iterable[str]) -> set[str]: ...
    def may_run(self, user: User, campaigns: Iterable[str]) -> set[str]: ...


@dataclass(frozen=True)
class Visit:
    """Somebody who is logged in looks at a page."""

    request: Request
    user: User
    page: Page


async def visit(request: Request) -> Visit:
    """The dependency of every route: 401 for nobody."""
    user = await request.app.state.desk.guard.find_user(request)
    if user is None:
        raise HTTPException(401)
    return Visit(request, user, Page.of(request))


class Desk:
    """A home with its guard."""

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self.settings = settings
        self.guard = guard
        self._busy = threading.Lock()

    def allow(self, visit: Visit, campaign: str) -> None:
        if campaign not in self.guard.may_read(visit.user, [campaign]):
            raise HTTPException(403)

    def run(self, visit: Visit, run_id: int) -> Counted:
        """A run that the visitor may see; whether there is another is nobody's business."""
        from controltower.ledger.database import reading

        with reading(self.settings) as ledger:
            run = runs.find(ledger, run_id)
            if run is None or run.campaign not in self.guard.may_read(visit.user, [run.campaign]):
                raise HTTPException(404)
            return count(ledger, [run])[0]

    def tokens(self, visit: Visit, found: Iterable[Counted]) -> dict[int, str]:
        """A form token for each run that the visitor may change and that can still change."""
        live = [c.run for c in found if c.standing in ("scheduled", "sending", "paused", "waits_for_approval")]
        allowed = self.guard.may_run(visit.user, {r.campaign for r in live})
        key = self.settings.kept_key() if allowed else None
        if key is None:  # missing: the page says so
            return {}
        return {r.run_id: seals.seal(key, visit.user.id, f"run:{r.run_id}") for r in live if r.campaign in allowed}

    def told(self, visit: Visit, token: str) -> str | None:
        """What a form did, for the page that is shown after it."""
        if not token:
            return None
        kept = seals.opened(self.settings.signing_key(), visit.user.id, "told", token, seals.NOTICE_AGE)
        if kept is None:
            return None
        notice = json.loads(kept)
        counts = {k: f"{n:,}" for k, n in notice["counts"].items()}
        return f"{notice['run']}: {visit.page.t('told.' + notice['outcome'], **counts)}"

    def report(self, visit: Visit, run: Run) -> tuple[dict[str, Any] | None, str]:
        """What a run was worth, or a sentence why that can't be told now: the page has more to show than that."""
        from controltower.jobs.measurement import report_campaign

        try:
            with self.one_at_a_time():
                return report_campaign(run.campaign, run_id=run.run_id), ""
        except Busy:
            return None, visit.page.t("run.no_report", why=visit.page.t("run.busy"))
        except ControlTowerError as e:
            why = words.trouble(f"{type(e).__name__}: {e}", visit.page.t)
            return None, visit.page.t("run.no_report", why=why)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Previews and reports read the lake and may take seconds and memory: the API server makes one at once."""
        if not self._busy.acquire(timeout=PATIENCE):
            raise Busy("Other previews and reports are being made.", "Try again in a minute.")
        try:
            yield
        finally:
            self._busy.release()
