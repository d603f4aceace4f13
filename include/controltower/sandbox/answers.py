"""The simulated customers answer what the sandbox caught, over HTTP and only to the public app.

SendGrid's events are signed and posted to its webhook, links are opened (what lies behind them is not), and who leaves
posts to the address in List-Unsubscribe. What each customer does is decided once, by `simulation.answers`; where the
home's shop is not simulated there are no customers, and the sandbox only tells that it took and delivered the mails.

An act is done at its time or, by a later call, afterwards: an event then still carries its own time, as SendGrid's do,
but a click or an unsubscription counts at the moment it reaches the public app. Calls close to each other, in the
home's time, keep them true; where the clock jumps over a night, the night's clicks come at its end.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from controltower import clock
from controltower.errors import ControlTowerError, NoData, ProviderDown
from controltower.sandbox import credentials, webhook
from controltower.sandbox.acts import Act, Acts
from controltower.sandbox.credentials import Credentials
from controltower.sandbox.decisions import CLICK, EVENT, LEAVE, ROWS, decide
from controltower.settings import Settings
from controltower.simulation import purchases
from controltower.simulation.truth import Truth

log = logging.getLogger(__name__)

AT_ONCE = 500  # messages decided about, and events posted, together
_BROWSER = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
_ONE_CLICK = {"List-Unsubscribe": "One-Click"}  # RFC 8058


def answer_messages(settings: Settings, until: datetime | None = None) -> dict[str, Any]:
    """Do everything that was to be done by `until` (by default, and at most, now); a later call goes on from there.

    Returns {until, messages (decided about now), events: {name: n}, clicks, unsubscribed, dead_links, orders,
    cancelled, to_come}. Raises NoData where no sandbox ran in this home, ProviderDown where the public app can't be
    reached or refuses: what it has not taken is still to be done.
    """
    folder = settings.home / "sandbox"
    store = folder / "inbox.db"
    if not store.is_file():
        raise NoData(f"No sandbox has run in {settings.home}.", "Run `controltower sandbox`, and send to it.")
    now = clock.now(settings)
    until = min(until, now) if until else now
    with _alone(folder), closing(Acts(store)) as acts:
        with httpx.Client(timeout=20, trust_env=False, headers={"User-Agent": _BROWSER}) as http:
            app = _PublicApp(http, settings.public_url.rstrip("/"), credentials.kept(folder))
            app.check()
            messages = _plan(settings, acts)
            done = app.answer(acts, until)
        orders, cancelled = _happen(settings.home, acts, until)
        left = acts.left()
    clicks = {name: done.pop(name, 0) for name in ("clicks", "unsubscribed", "dead_links")}
    return {"until": until.isoformat(), "messages": messages, "events": dict(done), **clicks, "orders": orders,
            "cancelled": cancelled, "to_come": left}  # fmt: skip


def follow(settings: Settings, tell: Callable[[dict[str, Any]], None], pause: float = 1.0) -> None:
    """Answer again and again until interrupted; `tell` hears of each time on which something was done.

    What can be mended is logged, once, and tried again: the sandbox or the public app may start later.
    """
    trouble = ""
    while True:
        try:
            report = answer_messages(settings)
        except ControlTowerError as e:
            if str(e) != trouble:
                trouble = str(e)
                log.warning("%s", trouble)
        else:
            trouble = ""
            if any(report[name] for name in report.keys() - {"until", "to_come"}):
                tell(report)
        time.sleep(pause)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time in a home: two would open every link twice."""
    with (folder / "answers.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _plan(settings: Settings, acts: Acts) -> int:
    """Decide about every message that came since the last time; returns how many."""
    truth: Truth | None = None
    planned = 0
    while caught := acts.unplanned(AT_ONCE):
        truth = truth or Truth.of_home(settings.home)
        seen: set[str] = set()
        found = []
        for one in caught:
            again = one.message_id is not None and (one.message_id in seen or acts.is_planned(one.message_id))
            found.append(decide(truth, settings.public_url.rstrip("/"), one, again))
            if one.message_id:
                seen.add(one.message_id)
        purchases.keep(settings.home, {purchases.MESSAGES: [d.true for d in found if d.true]})
        acts.plan(caught, [act for d in found for act in d.acts])
        planned += len(caught)
        log.info("%d messages have reached their customers", planned)
    return planned


def _happen(home: Path, acts: Acts, until: datetime) -> tuple[int, int]:
    """Write what the shop's own systems saw into its data: the number of orders, and of cancelled ones."""
    due = acts.due(ROWS, until)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in purchases.TABLES}
    for _, act in due:
        for table, given in purchases.from_json(act.detail).items():
            rows[table] += given
    purchases.keep(home, rows)
    acts.done(key for key, _ in due)
    by_status = Counter(row["status"] for row in rows["orders"])
    return by_status["placed"], by_status["cancelled"]


@dataclass(frozen=True)
class _PublicApp:
    """The public app at `url`, as SendGrid and the customers' browsers reach it."""

    http: httpx.Client
    url: str
    credentials: Credentials

    def check(self) -> None:
        """ProviderDown where it doesn't answer; asked first, since by its address customers tell its links."""
        self._reach("GET", f"{self.url}/health")

    def answer(self, acts: Acts, until: datetime) -> Counter[str]:
        """Everything that is due, event by event in the order of time; counts by SendGrid's names and ours."""
        done: Counter[str] = Counter()
        events = acts.due(EVENT, until)
        for start in range(0, len(events), AT_ONCE):
            batch = events[start : start + AT_ONCE]
            self._post([act.detail for _, act in batch])
            acts.done(key for key, _ in batch)
            done.update(act.detail["event"] for _, act in batch)
            if len(events) > AT_ONCE:
                log.info("%d of %d events are told", start + len(batch), len(events))
        for kind, do in ((CLICK, self._click), (LEAVE, self._leave)):
            for key, act in acts.due(kind, until):
                done[do(act)] += 1
                acts.done([key])
        return done

    def _post(self, events: list[dict[str, Any]]) -> None:
        body, headers = webhook.signed(self.credentials.webhook_key(), events)
        answer = self._reach("POST", f"{self.url}/webhooks/sendgrid", content=body, headers=headers)
        if answer.status_code in (401, 403):
            raise ProviderDown(
                f"The public app at {self.url} refuses the sandbox's signed events ({answer.status_code}).",
                f"Start it with CONTROLTOWER_SENDGRID_WEBHOOK_KEYS={self.credentials.webhook_public_key}",
            )
        if not answer.is_success:
            raise ProviderDown(
                f"The public app at {self.url} answered signed events with {answer.status_code}.",
                "Check CONTROLTOWER_PUBLIC_URL, and that it serves this home.",
            )

    def _click(self, act: Act) -> str:
        """Open a link as a browser does, but don't go where it leads."""
        if not self._is_ours(act):
            return "dead_links"
        answer = self._reach("GET", act.detail["url"])
        return "clicks" if answer.is_redirect and "location" in answer.headers else "dead_links"

    def _leave(self, act: Act) -> str:
        """By the mailbox's button, or on the page that the mail links to."""
        if not self._is_ours(act):
            return "dead_links"
        url = act.detail["url"]
        if act.detail["by"] == "page":
            self._reach("GET", url)
            answer = self._reach("POST", url, data={})
        else:
            answer = self._reach("POST", url, data=_ONE_CLICK)
        return "unsubscribed" if answer.is_success else "dead_links"

    def _is_ours(self, act: Act) -> bool:
        """The public app may have moved since the message was sent: then its links are dead."""
        return str(act.detail["url"]).startswith(f"{self.url}/")

    def _reach(self, method: str, url: str, **content: Any) -> httpx.Response:
        try:
            answer = self.http.request(method, url, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise ProviderDown(
                f"The public app at {self.url} can't be reached ({type(e).__name__}).",
                "Start it with `controltower serve`, or correct CONTROLTOWER_PUBLIC_URL.",
            ) from None
        if answer.is_server_error:
            raise ProviderDown(
                f"The public app at {self.url} failed with {answer.status_code}.", "Look at its log, then try again."
            )
        return answer
