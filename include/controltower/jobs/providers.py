"""How the providers fare, pausing one that is complained of, and letting one be called again."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import ControlTowerError
from controltower.jobs.control import COMMAND_LINE

if TYPE_CHECKING:
    from controltower.ledger.providers import Standing

log = logging.getLogger(__name__)


def list_providers() -> dict[str, Any]:
    """Those of which something was noted: {"as_of", "providers": [{name, state, why, most_at_once, ...}]}.

    `state` is open, trying (one call tells whether it works again), "paused for N s", or "paused until resumed".
    """
    from controltower.ledger import providers
    from controltower.ledger.database import reading

    conf = settings.load()
    with reading(conf) as ledger:
        found = providers.standings(ledger).values()
    return {"as_of": clock.now(conf).isoformat(), "providers": [_shown(s) for s in found]}


def resume_provider(name: str, by: str = COMMAND_LINE) -> dict[str, Any]:
    """Let a provider be called again, as if it had never failed; complaints count from now on.

    Gives {"name", "was", "why"} as it stood. ControlTowerError where nothing was ever noted of it.
    """
    from controltower.delivery.providers.registry import NAMES
    from controltower.ledger import providers
    from controltower.ledger.database import begin

    conf = settings.load()
    with begin(conf) as ledger:
        if name not in providers.standings(ledger):
            raise ControlTowerError(
                f"No provider {name!r} was ever paused: nothing needs to be resumed."
                if name in NAMES
                else f"There is no provider {name!r}.",
                f"Known are {', '.join(NAMES)}; `controltower provider list` shows how they fare.",
            )
        before = providers.resume(ledger, name, by, clock.now(conf))
    log.info("%s resumed by %s", name, by)
    return {"name": name, "was": _state(before), "why": before.why}


def pause_complained_of(name: str) -> bool:
    """Pause a provider of whose messages too many were reported as spam, until somebody resumes it."""
    from controltower.delivery.circuit import complained_of
    from controltower.ledger import providers
    from controltower.ledger.database import begin
    from controltower.shop import ProviderRules

    conf = settings.load()
    shop = settings.shop_if_any(conf)
    rules = shop.rules_of(name) if shop else ProviderRules()
    with begin(conf) as ledger:
        standing = providers.lock(ledger, name)
        since = clock.now(conf) - timedelta(days=rules.complaints_days)
        complaints, messages = providers.complaints(ledger, name, max(since, standing.resumed_at or since))
        too_many = complained_of(complaints, messages, rules)
        if too_many:
            why = f"{complaints} of {messages} messages were reported as spam, more than {rules.complaints:.2%}"
            providers.write(ledger, standing._replace(waits=providers.FOREVER, why=why, refused=None))
            log.error("%s is paused until somebody resumes it: %s", name, why)
    return too_many


def _shown(standing: Standing) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": standing.name, "state": _state(standing), "why": standing.why or "-"}
    shown["most_at_once"] = standing.size or "any"
    return shown | ({"resumed_by": standing.resumed_by} if standing.resumed_by else {})


def _state(standing: Standing) -> str:
    from controltower.ledger.providers import FOREVER

    if standing.waits == FOREVER:
        return "paused until resumed"
    return f"paused for {standing.waits:.0f} s" if standing.waits else "trying" if standing.pauses else "open"
