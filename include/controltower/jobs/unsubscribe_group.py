"""Keeping SendGrid's unsubscribe group in step with our consents and suppressions."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from controltower import clock, settings

if TYPE_CHECKING:
    from controltower.data.lake import Reading

log = logging.getLogger(__name__)

CHUNK: Final = 5_000  # customers that are looked at together


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
    group_id = settings.load_shop(conf).sendgrid.asm_group_id
    if group_id is None:
        return {"skipped": "shop.yaml names no sendgrid.asm_group_id"}
    if conf.email_provider != "sendgrid":
        return {"skipped": f"mails leave through {conf.email_provider}"}
    return _sync(conf, group_id)


def _sync(conf: settings.Settings, group_id: int) -> dict[str, Any]:
    from controltower.data.lake import Lake
    from controltower.delivery.unsubscribe_group import Group, Span, decide
    from controltower.ledger import consents, suppressions
    from controltower.ledger.database import begin

    key = conf.signing_key()
    counts = dict.fromkeys(("in_group", "withdrawn", "suppressed", "added", "removed", "unfit"), 0)
    group = Group(conf, group_id)
    try:
        now = clock.now(conf)
        there = {suppressions.address_hash(key, a): (a, since) for a, since in group.members().items()}
        counts["in_group"] = len(there)
        strangers = set(there)
        adding: list[str] = []
        removing: list[str] = []
        with Lake(conf).read(now) as lake:
            for owners in _by_address(lake):
                hashes = {a: suppressions.address_hash(key, a) for a in owners}
                fit = {a: one for a in owners if (one := _mailed(a))}
                as_mailed = {a: suppressions.address_hash(key, one) for a, one in fit.items()}
                strangers.difference_update(as_mailed.values())
                customers = [c for some in owners.values() for c in some]
                with begin(conf) as ledger:
                    said = consents.standing(ledger, customers, now)
                    objected = suppressions.held(ledger, "customer", "email", "marketing", now, customers)
                    spans = suppressions.spans(ledger, "address", "email", "marketing", hashes.values())
                    for address, some in owners.items():
                        member, since = there.get(as_mailed.get(address, ""), ("", None))
                        step = decide(
                            {c: said.get((c, "email", "marketing")) for c in some}, objected.intersection(some),
                            [Span(*s) for s in spans.get(hashes[address], ())], since, now,
                        )  # fmt: skip
                        if step.withdraw:
                            counts["withdrawn"] += consents.withdraw(
                                ledger, step.withdraw, "email", "marketing", now, source="provider_unsubscribe"
                            )
                        if step.remove:
                            removing.append(member)
                        if step.add and address in fit:
                            adding.append(fit[address])
                        elif step.add:
                            counts["unfit"] += 1
        with begin(conf) as ledger:
            known = suppressions.held(ledger, "address", "email", "marketing", now, strangers)
            for hashed in sorted(strangers - known):
                counts["suppressed"] += suppressions.add(
                    ledger, "address", hashed, channel="email", purpose="marketing", reason="unsubscribed",
                    source="sendgrid", now=now,
                )  # fmt: skip
        group.add(adding)
        counts["added"] = len(adding)
        for address in removing:
            group.remove(address)
            counts["removed"] += 1
    finally:
        group.close()
    log.info("unsubscribe group %d: %s", group_id, ", ".join(f"{n} {name}" for name, n in counts.items()))
    return counts | {"as_of": now.isoformat()}


def _mailed(address: str) -> str | None:
    """An address as mail goes to it, so as SendGrid knows it; None where none can."""
    from controltower.delivery.providers.base import Unfit, mail_address

    try:
        return mail_address(address)
    except Unfit:
        return None


def _by_address(lake: Reading) -> Iterator[dict[str, list[str]]]:
    """The customers of each address, some thousand at a time; those of one address always together."""
    table = lake.table("customers")
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
