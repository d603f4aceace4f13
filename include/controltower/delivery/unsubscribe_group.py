"""SendGrid's unsubscribe group of the shop: who stands in it, and what brings it and the ledger to one word.

https://www.twilio.com/docs/sendgrid/api-reference/suppressions-suppressions. What SendGrid is given to add to a group
that it doesn't have goes on its global list, so the group is looked up first. Addresses are never logged or quoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import quote

from controltower.delivery.providers.base import Answer, encoded
from controltower.delivery.providers.client import Client
from controltower.delivery.providers.sendgrid import account
from controltower.errors import BadSettings, ProviderDown
from controltower.ledger.consents import Standing
from controltower.settings import Settings

MOST: Final = 1000  # addresses in a call
LARGEST_ANSWER: Final = 500_000_000  # bytes: the list comes whole, about 100 bytes an address
CLOCKS_DIFFER: Final = timedelta(minutes=5)


class Group:
    """One group over SendGrid's API. Each call raises BadSettings or ProviderDown where it fails, with the remedy."""

    def __init__(self, settings: Settings, group_id: int) -> None:
        base, key = account(settings)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._client = Client(f"{base}/v3/asm", LARGEST_ANSWER)
        self._id = group_id

    def members(self) -> dict[str, datetime]:
        """Each address in the group, and since when."""
        self._call("GET", f"/groups/{self._id}", 200)
        found = self._call("GET", "/suppressions", 200)
        try:
            return {
                row["email"]: datetime.fromtimestamp(row["created_at"], UTC)
                for row in found.json()
                if row["group_id"] == self._id
            }
        except (ValueError, KeyError, TypeError, OverflowError):
            raise ProviderDown(
                "SendGrid's list of suppressions can't be read.", "Check CONTROLTOWER_SENDGRID_URL."
            ) from None

    def add(self, addresses: Sequence[str]) -> None:
        for start in range(0, len(addresses), MOST):
            body = encoded({"recipient_emails": addresses[start : start + MOST]})
            self._call("POST", f"/groups/{self._id}/suppressions", 201, body)

    def remove(self, address: str) -> None:
        self._call("DELETE", f"/groups/{self._id}/suppressions/{quote(address, safe='@')}", 204)

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, expected: int, body: bytes = b"") -> Answer:
        answer = self._client.call(method, path, body, self._headers)
        if not isinstance(answer, Answer):
            raise ProviderDown(answer.stop or "SendGrid's answer was lost.", "The next run does what is left.")
        if answer.status == expected:
            return answer
        if answer.status in (401, 403):
            raise BadSettings(
                f"SendGrid doesn't let our API key at unsubscribe groups ({answer.status}).",
                "Give the key the permission Suppressions (full access) in SendGrid's console.",
            )
        if answer.status == 404:
            raise BadSettings(
                f"SendGrid has no unsubscribe group {self._id} (404).", "Mend sendgrid.asm_group_id in shop.yaml."
            )
        if answer.status == 429:
            raise ProviderDown("SendGrid asks for fewer calls (429).", "The next run does what is left.")
        raise ProviderDown(f"SendGrid answered {answer.status}.", "The next run tries again.")


class Span(NamedTuple):
    """From when until when an address was suppressed for marketing mail; no end: for ever."""

    start: datetime
    until: datetime | None


@dataclass(frozen=True)
class Step:
    """What is to be done for one address."""

    add: bool = False
    remove: bool = False
    withdraw: tuple[str, ...] = ()  # customers


def decide(
    words: Mapping[str, Standing | None],
    objected: Set[str],
    spans: Sequence[Span],
    since: datetime | None,
    now: datetime,
) -> Step:
    """The step for an address: its customers' last words on marketing mail, who of them objected, when the address was
    suppressed, and since when it stands in the group (None: it doesn't).

    Who stands there counts as having unsubscribed there, unless a suppression of ours explains it, or the consent is
    younger. An address that several share is added only when none of them may be written to.
    """
    stopped = [s for s in spans if s.until is None or s.until > now]
    may = [w for c, w in words.items() if w and w.holds and c not in objected]
    if since is None:
        refused = any(w and not w.granted for w in words.values()) or bool(objected)
        return Step(add=bool(stopped) or (refused and not may))
    ours = [s for s in spans if s.start <= since + CLOCKS_DIFFER and (s.until is None or s.until > since)]
    stale = () if ours else tuple(c for c, w in words.items() if w is None or (w.granted and w.since <= since))
    remove = not stopped and (bool(may) if ours else any(w.since > since for w in may))
    return Step(remove=remove, withdraw=stale)
