"""Load a shop's data into the lake and the ledger's consents."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import BadSettings
from controltower.jobs import anomalies, sources
from controltower.jobs.identity import resolve_identity
from controltower.settings import Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.data.erased import Erased
    from controltower.data.lake import Lake
    from controltower.data.manifest import Part
    from controltower.data.sources.base import Source


def ingest_data(source: str | None = None, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    """Load what became known in [start, end): dates or times in the shop's zone. `source`: a name that
    `controltower source list` shows, a folder or a URL prefix; by default CONTROLTOWER_SOURCE.

    Without `start` all that was known before `end` (by default now): a new home's first load. Running an interval again
    replaces its rows. Returns {source, interval, start, as_of, tables: {name: {files, read, loaded, duplicates,
    quarantined, outside, erased, broken, notes}}, consents, identity (as resolve_identity tells), anomalies, notes};
    `as_of`, and the end of the interval by its name, is the end of what was loaded, or now if that is earlier (a
    history with facts that are still to come). `anomalies` stop campaigns, see jobs/anomalies.py. Raises BadSource,
    and then nothing was loaded.
    """
    from controltower.data.gate import Interval
    from controltower.data.lake import Lake
    from controltower.data.load import load
    from controltower.ledger import consents

    conf = settings.load()
    name = source or conf.source
    if not name:
        raise BadSettings(
            "No source is given.",
            "Say --source simulated, null-shop, online-retail, another of `controltower source list`, or a folder.",
        )
    with alone(conf):
        found = sources.opened(conf, name)
        shop, is_new = _shop(conf, found)
        now = clock.now(conf)
        until = (clock.parse(end, shop) if end else now).replace(microsecond=0)
        since = clock.parse(start, shop) if start else None
        if since and since >= until:
            raise BadSettings(f"The interval from {start} to {end or 'now'} is empty.", "Let it end after it starts.")
        interval = Interval(
            key=_key(conf, found.name, since, min(until, now)),
            start=since,
            end=until,
            zone=found.zone or shop.timezone,
            known_at=found.known_at or ("file" if since else "happened"),
            now=now,
        )
        new_home = not Lake(conf).manifest().version
        recorded: list[int] = []

        def record(rows: pa.Table) -> None:
            recorded.append(consents.append(conf, rows))

        tables, brought, oldest = load(conf, found, interval, erased_people(conf), record)
        if is_new:
            _keep_shop(conf, found)
        resolved = resolve_identity(conf, shop)
        odd = anomalies.look_over_load(conf, found.name, interval, brought)
    notes = [*found.notes(), *made_before(conf, oldest)]
    if since and new_home:
        notes.append("this home holds no history before this interval: ingest once without a start")
    return {
        "source": found.name,
        "interval": interval.key,
        "start": since.isoformat() if since else None,
        "as_of": min(until, now).isoformat(),
        "tables": tables,
        "consents": sum(recorded),
        "identity": resolved,
        "anomalies": [anomalies.tell(shop, o) for o in odd],
        "notes": notes,
    }


def _key(conf: Settings, source: str, since: datetime | None, end: datetime) -> str:
    """What an interval is called in the lake; with the source, where another one has loaded the same before.

    What is still to come can't be told from what is missing: a load ends when it is made, at the latest. Where the
    ledger can't be opened, the lake stays as it is.
    """
    from controltower.data.lake import interval_key
    from controltower.ledger import loads
    from controltower.ledger.database import reading

    key = f"{interval_key(since) if since else '..'}/{interval_key(end)}"
    with reading(conf) as ledger:
        return f"{key}#{source}" if loads.by_another(ledger, key, source) else key


def made_before(conf: Settings, oldest: datetime | None) -> list[str]:
    """A note where features were made without what is loaded only now, though it was known by then."""
    from controltower.data.lake import Lake

    missed = Lake(conf).made_before("features", oldest)
    if not missed:
        return []
    return [
        f"features of {len(missed):,} moments, {missed[0]} to {missed[-1]}, were made without some of these rows:"
        " `controltower features --as-of` makes one anew"
    ]


@contextmanager
def alone(conf: Settings, at: str = "ingest") -> Iterator[None]:
    """One process at a time in a home: two loads would not see each other's rows, and have the same event twice."""
    try:
        conf.home.mkdir(parents=True, exist_ok=True)
        lock = (conf.home / f"{at}.lock").open("a")
    except OSError as e:
        raise BadSettings(
            f"The home {conf.home} can't be used: {e.strerror}.", "Let CONTROLTOWER_HOME name a folder of your own."
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def erased_people(conf: Settings) -> Erased:
    """Whom no load may bring back."""
    from controltower.data.erased import Erased
    from controltower.ledger import erasures
    from controltower.ledger.database import reading

    with reading(conf) as ledger:
        customers, visitors = (erasures.recorded(ledger, kind) for kind in ("customer", "visitor"))
    return Erased(conf.signing_key() if customers else b"", frozenset(customers), visitors)


def publish(lake: Lake, interval: str, tables: Mapping[str, tuple[Part, ...]]) -> None:
    """Publish what a job made of the lake or the ledger: by persons, and without those who were erased meanwhile.

    An erasure that begins now waits, and finds the rows.
    """
    from controltower.data.persons import Persons

    with alone(lake.settings):
        lake.commit(interval, Persons(lake).without_erased(tables, erased_people(lake.settings)))


def _shop(conf: Settings, source: Source) -> tuple[Shop, bool]:
    """The home's shop, or the one that its first source brings."""
    if conf.shop or conf.shop_file.is_file():
        return settings.load_shop(conf), False
    return settings.parse_shop(source.shop_file), True


def _keep_shop(conf: Settings, source: Source) -> None:
    fresh = conf.shop_file.with_name(f".{conf.shop_file.name}-{uuid.uuid4().hex}")
    fresh.write_bytes(source.shop_file.read_bytes())
    fresh.replace(conf.shop_file)
