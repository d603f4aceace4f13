"""What keeps an address, a push token, a customer or a device from being written to, and lifting it.

An address comes in and never goes out: what is reported is kinds, reasons and times.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from controltower import clock, settings
from controltower.errors import ControlTowerError
from controltower.jobs.control import COMMAND_LINE

if TYPE_CHECKING:
    from controltower.ledger.suppressions import Suppression

log = logging.getLogger(__name__)

OBJECTION: Final = "objection"  # Art. 21 GDPR: the person's own to take back


def count_suppressions() -> dict[str, Any]:
    """All that hold now, as {"as_of", "suppressions": [{kind, channel, reason, number}]}."""
    from controltower.ledger import suppressions
    from controltower.ledger.database import reading

    conf = settings.load()
    now = clock.now(conf)
    with reading(conf) as ledger:
        rows = suppressions.counts(ledger, now)
    found = [{"kind": k, "channel": c or "all", "reason": r, "number": n} for k, c, r, n in rows]
    return {"as_of": now.isoformat(), "suppressions": found}


def list_suppressions(*, customer: str | None = None, address: str | None = None) -> dict[str, Any]:
    """What holds now for an address (or push token), or for a customer with their address, devices and tokens of now.

    Gives {"as_of", "suppressions": [{kind, channel, purpose, reason, source, since, until where it ends by itself}],
    "lifted": [the same, with until and lifted_by]}, the oldest first.
    """
    from controltower.ledger import suppressions
    from controltower.ledger.database import reading

    conf = settings.load()
    now = clock.now(conf)
    values = _values(conf, customer, address)
    with reading(conf) as ledger:
        found, ended = suppressions.of(ledger, values, now), suppressions.lifted(ledger, values)
    shown = {"suppressions": [_shown(s) for s in found], "lifted": [_shown(s) for s in ended]}
    return {"as_of": now.isoformat()} | shown


def lift_suppressions(
    reason: str, by: str = COMMAND_LINE, *, customer: str | None = None, address: str | None = None
) -> dict[str, Any]:
    """Let what is suppressed for this reason hold until now, and keep who lifted it; the rows stay.

    Gives {"as_of", "lifted": [as they were listed]}.

    No consent changes: who complained has withdrawn it too, and gives it again on the preference page. An objection
    can't be lifted here. Raises ControlTowerError for that, and where nothing is suppressed for the reason.
    """
    from controltower.ledger import suppressions
    from controltower.ledger.database import begin

    if reason == OBJECTION:
        raise ControlTowerError(
            "An objection can't be lifted by anybody else.", "The person takes it back on their preference page."
        )
    conf = settings.load()
    now = clock.now(conf)
    values = _values(conf, customer, address)
    with begin(conf) as ledger:
        lifted = [s for s in suppressions.of(ledger, values, now) if s.reason == reason]
        for kind, some in values.items():
            suppressions.end(ledger, kind, some, reason, now, by)
    if not lifted:
        raise ControlTowerError(
            "Nothing is suppressed for that reason.", "`controltower suppressions list` shows what is, and why."
        )
    log.info("%d suppressions lifted by %s", len(lifted), by)
    return {"as_of": now.isoformat(), "lifted": [_shown(s) for s in lifted]}


def _values(conf: settings.Settings, customer: str | None, address: str | None) -> dict[str, list[str]]:
    """What suppressions may name, by kind."""
    from controltower.data.lake import Lake
    from controltower.ledger import merges
    from controltower.ledger.database import check_key, reading
    from controltower.ledger.suppressions import address_hash
    from controltower.profiles.contacts import contact_of

    check_key(conf)
    key = conf.signing_key()
    if address is not None:
        return {"address": [address_hash(key, address)]}
    if customer is None:
        raise ValueError("a customer or an address is needed")
    with Lake(conf).read(clock.now(conf)) as lake:
        contact = contact_of(lake, settings.load_shop(conf), customer)
    if contact is None:
        raise ControlTowerError("The shop has no such customer.", "Check the id, or give the address: --address.")
    with reading(conf) as ledger:
        ids = merges.families(ledger, [customer]).of(customer)
    reached = [contact.email] if contact.email else []
    reached += [device.push_token for device in contact.devices]
    return {
        "customer": sorted(ids),
        "device": [device.device_id for device in contact.devices],
        "address": [address_hash(key, a) for a in reached],
    }


def _shown(s: Suppression) -> dict[str, Any]:
    shown = {
        "kind": s.kind,
        "channel": s.channel or "all",
        "purpose": s.purpose or "all",
        "reason": s.reason,
        "source": s.source,
        "since": s.created_at.isoformat(),
    }
    shown |= {"until": s.until.isoformat()} if s.until else {}
    return shown | ({"lifted_by": s.lifted_by} if s.lifted_by else {})
