"""Keeping SendGrid's unsubscribe group in step with our consents and suppressions."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from controltower import clock, settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.data.lake import Reading
    from controltower.delivery.unsubscribe_group import Group

log = logging.getLogger(__name__)

CHUNK: Final = 5_000  # customers that are looked at together
_ABOUT: Final = ("email", "marketing")  # the channel and purpose of the group


def sync_asm_group() -> dict[str, Any]:
    """Bring the group `sendgrid.asm_group_id` and the ledger to one word, in both directions.

    Who unsubscribed there has withdrawn their consent here; an address there that no customer has is suppressed. Who
    withdrew, objected or is suppressed here is added there; who consented again since is taken off. A second run
    changes nothing, and one that broke off is simply run again.

    Returns counts: in_group, withdrawn, suppressed, added, removed, unfit (addresses that no mail can go to), and
    as_of; or {"skipped": why}. BadSettings where the key or the group is refused; ProviderDown where SendGrid can't be
    reached or asks to wait.
    """
    conf = settings.load()
    if not conf.shop_file.is_file():  # a new home, before anything is loaded
        return {"skipped": f"there is no shop file at {conf.shop_file}"}
    group_id = settings.load_shop(conf).sendgrid.asm_group_id
    if group_id is None:
        return {"skipped": "shop.yaml names no sendgrid.asm_group_id"}
    if conf.email_provider != "sendgrid":
        return {"skipped": f"mails leave through {conf.email_provider}"}
    return _sync(conf, group_id)


def _sync(conf: settings.Settings, group_id: int) -> dict[str, Any]:
    from controltower.data.lake import Lake
    from controltower.delivery.unsubscribe_group import Group
    from controltower.ledger.database import begin

    now = clock.now(conf)
    with closing(Group(conf, group_id)) as group:
        held = _Comparison(conf.signing_key(), group.members(), now)
        with Lake(conf).read(now) as lake:
            for owners in _by_address(lake):
                with begin(conf) as ledger:
                    held.compare(ledger, owners)
        with begin(conf) as ledger:
            held.suppress_strangers(ledger)
        held.tell(group)
    log.info("unsubscribe group %d: %s", group_id, ", ".join(f"{n} {name}" for name, n in held.counts.items()))
    return held.counts | {"as_of": now.isoformat()}


class _Comparison:
    """The group's members held against the ledger: the ledger learns at once, the group at the end."""

    def __init__(self, key: bytes, members: Mapping[str, datetime], now: datetime) -> None:
        self._key, self._now = key, now
        self._there = {self._hash(address): (address, since) for address, since in members.items()}
        self._strangers = set(self._there)  # members that are no customer's, as far as was looked
        self._adding: list[str] = []
        self._removing: list[str] = []
        self.counts = dict.fromkeys(("in_group", "withdrawn", "suppressed", "added", "removed", "unfit"), 0)
        self.counts["in_group"] = len(self._there)

    def compare(self, ledger: sa.Connection, owners: Mapping[str, Sequence[str]]) -> None:
        """Look at some addresses with the customers of each, and write down who withdrew at SendGrid."""
        from controltower.delivery.unsubscribe_group import Span, decide
        from controltower.ledger import consents, suppressions

        fit = {address: one for address in owners if (one := _mailed(address))}
        as_mailed = {address: self._hash(one) for address, one in fit.items()}
        self._strangers.difference_update(as_mailed.values())
        hashes = {address: self._hash(address) for address in owners}
        customers = [c for some in owners.values() for c in some]
        said = consents.standing(ledger, customers, self._now)
        objected = suppressions.held(ledger, "customer", *_ABOUT, self._now, customers)
        spans = suppressions.spans(ledger, "address", *_ABOUT, hashes.values())
        for address, some in owners.items():
            member, since = self._there.get(as_mailed.get(address, ""), ("", None))
            step = decide(
                {c: said.get((c, *_ABOUT)) for c in some}, objected.intersection(some),
                [Span(*s) for s in spans.get(hashes[address], ())], since, self._now,
            )  # fmt: skip
            if step.withdraw:
                self.counts["withdrawn"] += consents.withdraw(
                    ledger, step.withdraw, *_ABOUT, self._now, source="provider_unsubscribe"
                )
            if step.remove:
                self._removing.append(member)
            if step.add and address in fit:
                self._adding.append(fit[address])
            elif step.add:
                self.counts["unfit"] += 1

    def suppress_strangers(self, ledger: sa.Connection) -> None:
        """Suppress the members that no customer has: one may get such an address later."""
        from controltower.ledger import suppressions

        channel, purpose = _ABOUT
        known = suppressions.held(ledger, "address", channel, purpose, self._now, self._strangers)
        for hashed in sorted(self._strangers - known):
            self.counts["suppressed"] += suppressions.add(
                ledger, "address", hashed, channel=channel, purpose=purpose, reason="unsubscribed", source="sendgrid",
                now=self._now,
            )  # fmt: skip

    def tell(self, group: Group) -> None:
        """Bring the group to what the ledger says."""
        group.add(self._adding)
        self.counts["added"] = len(self._adding)
        for address in self._removing:
            group.remove(address)
            self.counts["removed"] += 1

    def _hash(self, address: str) -> str:
        from controltower.ledger.suppressions import address_hash

        return address_hash(self._key, address)


def _mailed(address: str) -> str | None:
    """An address as mail goes to it, so as SendGrid knows it; None where none can."""
    from controltower.delivery.providers.base import Unfit, mail_address

    try:
        return mail_address(address)
    except Unfit:
        return None


def _by_address(lake: Reading) -> Iterator[dict[str, list[str]]]:
    """The customers of each address, some thousand at a time; those of one address always together."""
    table = lake.as_given("customers")
    address = table.email.strip().lower()
    found = table.filter(table.email.notnull()).select("customer_id", address=address).order_by("address")
    owners: dict[str, list[str]] = defaultdict(list)
    for batch in lake.arrow(found).to_batches(max_chunksize=CHUNK):
        for customer, one in zip(batch["customer_id"].to_pylist(), batch["address"].to_pylist(), strict=True):
            if len(owners) >= CHUNK and one not in owners:
                yield owners
                owners = defaultdict(list)
            owners[one].append(customer)
    yield owners
