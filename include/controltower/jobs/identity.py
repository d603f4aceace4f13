"""Who is one person: resolving it, looking into it, and undoing a merge."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import NoData
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    from controltower.data.identity.resolver import Entry
    from controltower.data.lake import Lake

MOST = 50  # merges listed


def resolve_identity(conf: Settings, shop: Shop) -> dict[str, Any]:
    """Bring the lake's identity tables up to what was loaded, and the ledger up to them.

    Returns {customers (resolved anew), merged, parted}: ids that now belong to another person than before, and those
    that are persons of their own again. The caller sees to it that nobody loads meanwhile.
    """
    from controltower.data.identity import history
    from controltower.data.lake import Lake

    lake = Lake(conf)
    changed = history.update(lake, shop)
    _tell_ledger(conf, lake)
    return {"customers": changed.customers, "merged": changed.merged, "parted": changed.parted}


def list_identity(as_of: str | None = None) -> dict[str, Any]:
    """What links came to as of a moment (now). Returns {as_of, persons, merged_ids, merges (the newest MOST),
    not_merged, undone}.

    Keys are hashes, and shown by their first letters: enough to tell them apart.
    """
    from controltower.data.identity import history
    from controltower.data.identity.resolver import MERGED
    from controltower.data.lake import Lake

    conf = settings.load()
    lake = Lake(conf)
    moment = _moment(conf, as_of)
    held = [e for e in history.log(lake) if _holds(e.since, e.until, moment)]
    persons = [s.person for s in history.stays(lake) if _holds(s.since, s.until, moment)]
    merges = [_merge(e) for e in held if e.outcome == MERGED]
    return {
        "as_of": moment.isoformat(),
        "persons": len(set(persons)),
        "merged_ids": len(persons),
        "merges": merges[-MOST:],
        "not_merged": [_refusal(e) for e in held if e.outcome != MERGED][-MOST:],
        "undone": [
            {"merge": u.entry_id, "one": u.one, "other": u.other, "at": u.at.isoformat(), "by": u.by}
            for u in history.undone(lake)
            if u.at <= moment
        ],
    }


def show_identity(customer: str, as_of: str | None = None) -> dict[str, Any]:
    """Whose a customer id was as of a moment (now), by which links, and what became of them before and after.

    Returns {as_of, customer, person, ids, links: [{merge, outcome, key, one, other, since, until}]}. NoData for an id
    that is in no link: nothing it told is told by another.
    """
    from controltower.data.identity import history
    from controltower.data.lake import Lake

    conf = settings.load()
    lake = Lake(conf)
    moment = _moment(conf, as_of)
    persons = {s.customer: s.person for s in history.stays(lake) if _holds(s.since, s.until, moment)}
    person = persons.get(customer, customer)
    ids = sorted({person, *(c for c, whose in persons.items() if whose == person)})
    links = [e for e in history.log(lake) if {e.one, e.other} & {*ids, customer}]
    if not links:
        raise NoData(f"{customer} has no key in common with another customer.", "It is a person of its own.")
    return {
        "as_of": moment.isoformat(),
        "customer": customer,
        "person": person,
        "ids": ids,
        "links": [
            {"merge": e.entry_id, "outcome": e.outcome, **_key(e), "one": e.one, "other": e.other or "many",
             "since": e.since.isoformat(), "until": e.until.isoformat() if e.until else "still"}
            for e in links
        ],
    }  # fmt: skip


def undo_merge(merge: str, by: str) -> dict[str, Any]:
    """Part what a merge united: what was known until now doesn't unite the two again. Returns {merge, one, other, at,
    by}. BadSettings where no such merge holds."""
    from controltower.data.identity import history
    from controltower.data.lake import Lake
    from controltower.jobs.ingest import alone

    conf = settings.load()
    shop = settings.load_shop(conf)
    now = clock.now(conf)
    with alone(conf):
        lake = Lake(conf)
        undone = history.undo(lake, shop, merge, by, now)
        _tell_ledger(conf, lake)
    return {"merge": merge, "one": undone.one, "other": undone.other, "at": now.isoformat(), "by": by}


def _tell_ledger(conf: Settings, lake: Lake) -> None:
    from controltower.data.identity import history
    from controltower.ledger import persons
    from controltower.ledger.database import begin

    now = clock.now(conf)
    with begin(conf) as ledger:
        persons.follow(ledger, {s.customer: s.person for s in history.stays(lake) if s.until is None}, now)


def _moment(conf: Settings, as_of: str | None) -> datetime:
    return clock.parse(as_of, settings.load_shop(conf)) if as_of else clock.now(conf)


def _holds(since: datetime, until: datetime | None, moment: datetime) -> bool:
    return since <= moment and (until is None or moment < until)


def _key(entry: Entry) -> dict[str, str]:
    return {"kind": entry.kind, "key": entry.key[:8]}


def _merge(entry: Entry) -> dict[str, Any]:
    return {
        "merge": entry.entry_id, "person": entry.person, "gone": entry.gone, **_key(entry),
        "since": entry.since.isoformat(),
    }  # fmt: skip


def _refusal(entry: Entry) -> dict[str, Any]:
    return {
        "why": entry.outcome, **_key(entry), "one": entry.one, "other": entry.other or "many",
        "since": entry.since.isoformat(),
    }  # fmt: skip
