"""What is held about a person, and its end: `controltower privacy export` and `erase`.

An erasure is five steps, each whole or not at all, and each finds nothing more to do when it is run again: (1) the list
of who was erased, from then on no load brings them back; (2) the posted bodies that wait are read; (3) the ledger, with
the raw bodies; (4) the lake; (5) the ledger's merges. What leads to their rows is in the last two.

Others work meanwhile. Whoever plans or publishes asks the list at a moment when an erasure waits; a worker that is
about to send loses its batch, and reads anew to whom it is.
"""

from __future__ import annotations

import csv
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import ControlTowerError
from controltower.jobs.control import COMMAND_LINE
from controltower.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from controltower.data.persons import Traces

log = logging.getLogger(__name__)

_CALL = 0.2  # seconds until it is looked again whether a call to a provider has ended

KEPT = (
    "the keyed hash of the customer id, so that no load brings them back",
    "the keyed hash of each address that nobody else has, as a suppression",
    "messages, decisions and consents under a pseudonym, without proof, choices and details",
    "what stands on the provider's own suppression lists",
)  # fmt: skip
NOT_REACHED = (
    "the shop's own systems, from which the data came",
    "backups, and files that were exported before",
    "the provider's own records of mails and pushes",
    "trained models: they hold what several wrote and, without ids, what each took; until the next training",
)


def export_person(customer: str, out: Path) -> dict[str, Any]:
    """Write all that is held about a customer as JSON: `out` is a .json file, else a folder with a file a table.

    Returns {as_of, to, rows: {place: number}}. ControlTowerError where nothing is held, or they were erased.
    """
    conf = settings.load()
    now = clock.now(conf)
    found = {"customer": customer, "as_of": now.isoformat(), **_held(conf, customer, now)}
    places = {name: rows for name, rows in found.items() if isinstance(rows, dict)}
    if out.suffix == ".json":
        _write(out, found)
    else:
        for place, tables in places.items():
            for table, rows in tables.items():
                _write(out / place / f"{table}.json", rows)
    return {"as_of": found["as_of"], "to": str(out), "rows": _counts(places)}


def look_up_person(customer: str) -> dict[str, Any]:
    """What an erasure would be about: {ids (all of the person), rows: {place.table: number}}. Errors as for it."""
    from controltower.ledger.database import reading

    conf = settings.load()
    with reading(conf) as ledger:
        traces = _known(conf, ledger, customer, clock.now(conf))
        return {"ids": sorted(traces.customers), "rows": _counts(_all_rows(conf, ledger, traces))}


def erase_person(
    customer: str, by: str = COMMAND_LINE, *, at_once: bool = False, ids: Collection[str] | None = None
) -> dict[str, Any]:
    """Erase a customer everywhere in this home, and write a certificate without personal data to HOME/erasures.

    `ids`: those that the person has, or nothing is done (None: whichever they are). `at_once` also deletes the lake's
    replaced files: jobs that read them meanwhile fail, and are run again. Returns {certificate (the file's name),
    files_until_the_grace_ends, **the certificate}. Run again it does what is left. ControlTowerError where nothing is
    held and nobody of that id was erased, or where the person has other ids.
    """
    from controltower.data.erased import hashed, pseudonym
    from controltower.data.lake import Lake
    from controltower.data.persons import Persons
    from controltower.jobs.events import ingest_events
    from controltower.jobs.feedback import ingest_feedback
    from controltower.jobs.ingest import alone
    from controltower.ledger import erasures
    from controltower.ledger.database import begin, check_key, reading
    from controltower.models.recommend import published

    conf = settings.load()
    check_key(conf)
    key, now = conf.signing_key(), clock.now(conf)
    persons = Persons(Lake(conf))
    with alone(conf):  # else a load could unite them with somebody
        with reading(conf) as ledger:
            traces = _known(conf, ledger, customer, now)
        _check_ids(traces, traces.customers if ids is None else ids)
        with begin(conf) as ledger:
            for kind, some in (("customer", traces.customers), ("visitor", traces.visitors)):
                erasures.record(ledger, kind, {hashed(key, kind, one) for one in some}, now, by)
    ingest_events()
    ingest_feedback()
    tables: dict[str, Counter[str]] = {"ledger": Counter(), "lake": Counter()}
    with alone(conf):
        with reading(conf) as ledger:
            known, traces = traces.customers, _traces(conf, ledger, customer, now)
            _check_ids(traces, known)
            naming = {table: [b for b, _ in _bodies(ledger, table, traces)] for table in erasures.BODIES}
        names = {one: pseudonym(key, one) for one in sorted(traces.customers)}
        with _called_back(conf, traces) as ledger:
            for table, bodies in naming.items():
                tables["ledger"][table] += erasures.empty(ledger, table, bodies)
            for one, name in names.items():
                tables["ledger"] += erasures.pseudonymise(
                    ledger, one, name, traces.devices, f"{name}-device", {*names, *names.values()}
                )
            suppressed = _suppress(ledger, key, traces, now)
        tables["lake"] = persons.erase(traces)
        tables["serving"] = Counter(lists=published.erase(conf.home / "serving", traces.customers, traces.visitors))
        left = persons.left_over(traces, delete=at_once)
        with begin(conf) as ledger:
            tables["ledger"]["merges"] += erasures.pseudonymise_merges(ledger, names)
    customer_hash = hashed(key, "customer", customer)
    certificate = {
        "customer_hash": customer_hash,
        "erased_at": now.isoformat(),
        "erased_by": by,
        "ids_of_the_person": len(traces.customers),
        "rows": {place: {t: n for t, n in sorted(some.items()) if n} for place, some in tables.items()},
        "addresses_suppressed": suppressed,
        "addresses_of_others_too": len(traces.shared),
        "files_until_the_grace_ends": left,
        "exports_that_name_them": _exports(conf, traces.customers),
        "kept": list(KEPT),
        "not_reached": list(NOT_REACHED),
    }
    file = f"{customer_hash[:16]}-{now:%Y%m%dT%H%M%S}.json"
    _write(conf.home / "erasures" / file, certificate)
    log.info("a person was erased by %s: %s", by, file)
    return {"certificate": f"erasures/{file}", **certificate}


def _check_ids(traces: Traces, expected: Collection[str]) -> None:
    if traces.customers != set(expected):
        raise ControlTowerError("Other ids than before are this person now.", "Look at them, and run it again.")


@contextmanager
def _called_back(conf: Settings, traces: Traces) -> Iterator[sa.Connection]:
    """A transaction in which no worker holds a message to them, and nobody plans one."""
    from controltower.ledger import erasures
    from controltower.ledger.database import begin

    while True:
        with begin(conf) as ledger:
            if erasures.call_back(ledger, traces.customers):
                yield ledger
                return
        time.sleep(_CALL)


def _suppress(ledger: sa.Connection, key: bytes, traces: Traces, now: datetime) -> int:
    from controltower.ledger import erasures, suppressions

    return sum(
        suppressions.add(
            ledger, "address", suppressions.address_hash(key, email), reason=erasures.REASON, source="erasure", now=now
        )
        for email in sorted(traces.emails - traces.shared)
    )


def check_not_erased(conf: Settings, ledger: sa.Connection, customer: str) -> None:
    """ControlTowerError, with the day, for somebody who was erased, or whose erasure began."""
    at = _erased_at(conf, ledger, customer)
    if at is not None:
        if _is_held(conf, ledger, _traces(conf, ledger, customer, clock.now(conf))):
            raise ControlTowerError(
                f"Their erasure began on {at:%Y-%m-%d}, and didn't end.",
                "Run `controltower privacy erase` for them again.",
            )
        raise ControlTowerError(f"They were erased on {at:%Y-%m-%d}.", "HOME/erasures has the certificate.")


def _erased_at(conf: Settings, ledger: sa.Connection, customer: str) -> datetime | None:
    from controltower.data.erased import hashed
    from controltower.ledger import erasures

    recorded = erasures.recorded(ledger, "customer")
    return recorded.get(hashed(conf.signing_key(), "customer", customer)) if recorded else None


def _traces(conf: Settings, ledger: sa.Connection, customer: str, now: datetime) -> Traces:
    """By what the person is found: in the lake, and by the messages that the ledger has of them, under any name."""
    from controltower.data.erased import pseudonym
    from controltower.data.lake import Lake
    from controltower.data.persons import Persons
    from controltower.ledger import customers, erasures

    found = Persons(Lake(conf)).find(customers.ids_of(ledger, customer, now))
    names = {*found.customers, *(pseudonym(conf.signing_key(), one) for one in found.customers)}
    return replace(found, messages=found.messages | erasures.message_ids(ledger, names))


def _known(conf: Settings, ledger: sa.Connection, customer: str, now: datetime) -> Traces:
    """The same; ControlTowerError where nothing is held and nobody of that id was erased."""
    traces = _traces(conf, ledger, customer, now)
    if not _is_held(conf, ledger, traces) and _erased_at(conf, ledger, customer) is None:
        raise ControlTowerError("Nothing is held about such a customer.", "Check the id.")
    return traces


def _is_held(conf: Settings, ledger: sa.Connection, traces: Traces) -> bool:
    from controltower.data.lake import Lake
    from controltower.data.persons import Persons
    from controltower.ledger import erasures

    named = erasures.rows_of(ledger, traces.customers, {"customer": traces.customers})
    return bool(named) or any(True for _ in Persons(Lake(conf)).rows(traces))


def _held(conf: Settings, customer: str, now: datetime) -> dict[str, dict[str, list[Any]]]:
    from controltower.ledger.database import reading

    with reading(conf) as ledger:
        check_not_erased(conf, ledger, customer)
        return _all_rows(conf, ledger, _known(conf, ledger, customer, now))


def _all_rows(conf: Settings, ledger: sa.Connection, traces: Traces) -> dict[str, dict[str, list[Any]]]:
    """Every row of theirs by place (lake, ledger, posted) and table."""
    from controltower.data.lake import Lake
    from controltower.data.persons import Persons
    from controltower.ledger import erasures
    from controltower.ledger.suppressions import address_hash

    key = conf.signing_key()
    values = {
        "customer": traces.customers,
        "device": traces.devices,
        "address": {address_hash(key, address) for address in traces.emails | traces.others},
    }
    bodies = {table: [e for _, some in _bodies(ledger, table, traces) for e in some] for table in erasures.BODIES}
    return {
        "lake": dict(Persons(Lake(conf)).rows(traces)),
        "ledger": erasures.rows_of(ledger, traces.customers, values),
        "posted": {table: elements for table, elements in bodies.items() if elements},
    }


def _counts(found: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, int]:
    return {f"{place}.{table}": len(rows) for place, tables in found.items() for table, rows in tables.items()}


def _bodies(ledger: sa.Connection, table: str, traces: Traces) -> list[tuple[int, list[Any]]]:
    """The raw bodies that name the person, with the elements that do."""
    from controltower.feedback.naming import elements_naming
    from controltower.ledger import erasures

    ids = traces.customers | traces.visitors | traces.devices | traces.messages
    addresses = traces.emails | traces.others
    found = ((body_id, elements_naming(body, ids, addresses)) for body_id, body in erasures.bodies(ledger, table))
    return [(body_id, elements) for body_id, elements in found if elements]


def _exports(conf: Settings, customers: frozenset[str]) -> list[str]:
    """The files in HOME/exports with a cell that is one of the ids: whoever has them must delete them."""
    found = []
    for file in sorted((conf.home / "exports").glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            if any(customers.intersection(row) for row in csv.reader(lines)):
                found.append(file.name)
    return found


def _write(out: Path, value: Any) -> None:
    """A private file, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = out.with_name(f".{out.name}")
    fresh.touch(mode=0o600)
    as_text: Callable[[Any], str] = lambda found: found.hex() if isinstance(found, bytes) else str(found)  # noqa: E731
    fresh.write_text(json.dumps(value, ensure_ascii=False, indent=1, default=as_text), encoding="utf-8")
    fresh.replace(out)
