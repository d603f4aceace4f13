"""Sending what is due: claim one batch after the other, and wait where limits and pauses want it."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime

from controltower import clock
from controltower.campaigns import specs
from controltower.campaigns.composing import Composer
from controltower.data.lake import Reading
from controltower.delivery.gate import Gate
from controltower.delivery.people import People
from controltower.delivery.policy import unfit_to_send
from controltower.delivery.providers.base import Provider
from controltower.delivery.providers.registry import CHANNELS, name_of, provider_of
from controltower.delivery.sending import FIRST_PAUSE, LONGEST_PAUSE, Means, Report, Sending, Stop, end
from controltower.errors import BadSettings, BadSpec, ProviderDown
from controltower.garbage import seldom_collected
from controltower.ledger import reports, runs, work
from controltower.ledger.database import begin, reading
from controltower.settings import Settings
from controltower.shop import Shop

log = logging.getLogger(__name__)

_THREADS = 64  # at most so many calls under way


class Dispatcher:
    """Sends what is due until nothing is, or each channel is in trouble. It waits up to `stay` seconds for limits."""

    def __init__(self, settings: Settings, shop: Shop, lake: Reading) -> None:
        self.settings = settings
        self.shop = shop
        self.report = Report()
        self._people = People(settings, shop, lake)
        self._providers: dict[str, Provider] = {}
        self._composers: dict[int, Composer] = {}
        self._gate = Gate(settings, shop)
        self._room_at: dict[str, float] = {}  # by channel: when it can go on, by the monotonic clock
        self._sleep = time.sleep

    @seldom_collected()
    def run(self, stay: float = 0.0) -> Report:
        until = time.monotonic() + stay
        with ThreadPoolExecutor(_THREADS) as pool:
            means = Means(self.settings, self.shop, self._people, self._gate, pool, self.report)
            try:
                self._reopen()
                while True:
                    if claimed := self._claim():
                        self._dispatch(means, *claimed)
                    elif not self._wait_for_room(until):
                        break
            finally:
                for provider in self._providers.values():
                    provider.close()
        self._tell()
        return self.report

    def _reopen(self) -> None:
        """Call providers again that refused our credentials, where those are others now."""
        with reading(self.settings) as ledger:
            self._gate.look(ledger)
        for channel in CHANNELS:
            if self._gate.standing(name_of(self.settings, channel)).refused:
                with suppress(BadSettings):
                    self._gate.reopen(self._provider(channel), self._now())

    def _claim(self) -> tuple[work.Batch, str] | None:
        with begin(self.settings) as ledger:
            self._gate.look(ledger)
            return work.claim(ledger, self._now(), [c for c in CHANNELS if self._is_open(c)])

    def _is_open(self, channel: str) -> bool:
        paused = self._gate.standing(name_of(self.settings, channel)).waits
        return not (paused or channel in self.report.trouble or channel in self._room_at)

    def _wait_for_room(self, until: float) -> bool:
        """Wait until there is room for more, if that is soon enough."""
        soonest = min((*self._room_at.values(), *self.report.turns), default=math.inf)
        if soonest > until:
            return False
        self._sleep(max(soonest - time.monotonic(), 0.0))
        self._room_at = {channel: at for channel, at in self._room_at.items() if at > soonest}
        self.report.turns = [at for at in self.report.turns if at > soonest]
        return True

    def _tell(self) -> None:
        """Report what is still held up: by limits of ours, which is no trouble, or since a provider is paused."""
        if held_up := sum(self.report.held_up.values()):
            self.report.deferred["rate_limit"] = held_up
        with reading(self.settings) as ledger:
            self._gate.look(ledger)
            for channel in CHANNELS:
                name = name_of(self.settings, channel)
                if self._gate.standing(name).waits and reports.is_waiting(ledger, channel, self._now()):
                    self.report.trouble.setdefault(channel, self._gate.told(name))

    def _dispatch(self, means: Means, batch: work.Batch, token: str) -> None:
        self.report.batches += 1
        stopped = Stop(0.0)
        try:
            try:
                self._sending(means, batch, token)
            except Stop as stop:
                stopped = stop
            with begin(self.settings) as ledger:
                done = work.release(ledger, batch, token, self._now(), retry_in=stopped.retry_in)
            if stopped.room_in:
                self._room_at[batch.channel] = time.monotonic() + stopped.room_in
        except work.LeaseLost:
            log.warning("batch %d was taken over by another worker", batch.batch_id)
            return
        except BaseException:  # interrupted: the next worker need not wait for the lease to run out
            with suppress(work.LeaseLost), begin(self.settings) as ledger:
                work.release(ledger, batch, token, self._now())
            raise
        log.info(
            "batch %d of %d messages: %s", batch.batch_id, len(batch.messages), "done" if done else "to be resumed"
        )

    def _sending(self, means: Means, batch: work.Batch, token: str) -> None:
        """Send what can be sent of a batch. Stop: the rest waits."""
        if self._now() > batch.expires_at:  # asks for neither template nor credentials, so that all messages end
            end(means, batch, token, [(m.seq, "not_sent", "expired") for m in batch.unsettled])
            return
        try:
            provider = self._provider(batch.channel)
            composer = self._composer(batch.run_id)
        except BadSettings as e:
            self.report.trouble[batch.channel] = str(e)
            raise Stop(FIRST_PAUSE) from None
        except BadSpec as e:
            self.report.trouble[f"run {batch.run_id}"] = str(e)
            raise Stop(LONGEST_PAUSE) from None
        Sending(means, batch, token, provider, composer).run()

    def _provider(self, channel: str) -> Provider:
        if channel not in self._providers:
            provider = provider_of(self.settings, channel)
            if unfit := unfit_to_send(self.settings, self.shop, provider):
                raise BadSettings(unfit, "`controltower doctor` tells all that is amiss.")
            self._providers[channel] = provider
        return self._providers[channel]

    def _composer(self, run_id: int) -> Composer:
        composer = self._composers.get(run_id)
        if composer is None or composer.key != self.settings.signing_key():  # `new-key` came between two batches
            with reading(self.settings) as ledger:
                run = runs.known(ledger, run_id)
            composer = Composer.of(self.settings, self.shop, specs.validate(dict(run.spec), f"run {run_id}"))
            if changed := composer.changed_since(run):
                raise BadSpec(
                    f"{changed} has changed since run {run_id} was planned.",
                    f"Plan {run.campaign} again: a new version takes the place of what is unsent. If its day is over,"
                    f" `controltower campaign cancel {run.campaign} --occasion {run.occurrence}` first.",
                )
            self._composers[run_id] = composer
        return composer

    def _now(self) -> datetime:
        return clock.now(self.settings)


def raise_trouble(report: Report) -> None:
    """One error for the channels that couldn't be served."""
    if report.trouble:
        what = "; ".join(f"{channel}: {why}" for channel, why in report.trouble.items())
        raise ProviderDown(
            f"Not everything that is due could be sent: {what}", "The rest is sent by the next dispatch."
        )
