"""When a provider is left alone for a while, and how much is asked of it at once: functions of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controltower.delivery.providers.base import NO_CONNECTION, REFUSED_TOGETHER, UNAUTHORIZED, Result
from controltower.ledger.providers import FOREVER, Standing
from controltower.shop import ProviderRules

MOST: Final = 1000  # messages under way at once in a worker
FEWEST_COMPLAINTS: Final = 5  # fewer are chance: of 1,000 messages at 0.1 %, five come one time in 270
_DOUBLINGS: Final = 20


def messages_at_once(standing: Standing) -> int:
    """How many messages may be under way: one, to try, after a pause for failures."""
    return 1 if standing.pauses else standing.size or MOST


def tells(results: Sequence[Result], standing: Standing) -> bool:
    """Whether results can change how a provider stands: else nobody need lock it."""
    unsteady = standing.failures or standing.pauses or standing.size
    return bool(unsteady) or any(r.retry_in or r.stop or r.state == "unknown" or _failed(r) for r in results)


def after(standing: Standing, results: Sequence[Result], messages: int, rules: ProviderRules) -> Standing:
    """How a provider stands after a round of calls for so many messages. A pause never ends by this.

    Credentials that were refused: paused until they are others. What the provider asked for, be it with a success, is
    done. A lost answer halves what is under way at once, which doubles again with each round that is answered.
    """
    refused = next((r for r in results if r.reason == UNAUTHORIZED), None)
    if refused:
        return _paused(standing, FOREVER, refused.stop)
    failed, paused = [r for r in results if _failed(r)], standing.waits > 0
    answered = any(works(r) for r in results)
    unknown = next((r for r in results if r.state == "unknown"), None)
    if answered:
        standing = standing._replace(failures=0, pauses=0)
    for r in results:
        if r.retry_in:
            standing = _paused(standing, min(r.retry_in, rules.longest_pause), _why(r))
    if unknown:
        standing = standing._replace(size=max(min(standing.size or MOST, messages) // 2, 1))
        standing = _paused(standing, rules.pause_after_unknown, _why(unknown))
    elif answered and standing.size:
        standing = standing._replace(size=standing.size * 2 if standing.size * 2 < MOST else None)
    barred = next((r for r in results if r.stop and not _failed(r)), None)
    failures = standing.failures + (0 if answered else len(failed))
    if not paused and (barred or (failed and not answered and (standing.pauses or failures >= rules.failures))):
        pause = min(rules.pause * 2 ** min(standing.pauses, _DOUBLINGS), rules.longest_pause)
        standing = _paused(standing, pause, _why(barred or failed[-1]))
        return standing._replace(failures=0, pauses=standing.pauses + 1)
    return standing._replace(failures=failures)


def complained_of(complaints: int, messages: int, rules: ProviderRules) -> bool:
    """Whether a larger share than allowed of the messages was reported as spam."""
    enough = messages >= rules.complaints_of and complaints >= FEWEST_COMPLAINTS
    return enough and complaints > messages * rules.complaints


def works(r: Result) -> bool:
    """Whether the provider works: what became of the call lies with its messages."""
    return r.state in ("sent", "rejected") or r.of_address or r.reason == REFUSED_TOGETHER


def _failed(r: Result) -> bool:
    """No connection, no answer, or a server's error that gives no time to come back."""
    if works(r) or r.retry_in:
        return False
    return r.stop is None or (r.reason or "").startswith(NO_CONNECTION)


def _why(r: Result) -> str:
    return r.stop or r.reason or "rate_limited"


def _paused(standing: Standing, seconds: float, why: str | None) -> Standing:
    return standing._replace(waits=seconds, why=why) if seconds > standing.waits else standing
