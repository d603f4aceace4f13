"""Rows that broke a rule: what is there, as a file to mend them in, and loading them again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from controltower import clock, settings
from controltower.errors import BadSource
from controltower.jobs.ingest import alone, erased_people, made_before

_SHOWN = ("table", "key", "rule", "column", "value", "file", "line")


def list_quarantine(
    table: str | None = None, rule: str | None = None, load: str | None = None, at_most: int = 50
) -> dict[str, Any]:
    """What waits in quarantine: of a table, a rule, a load (its interval), or all.

    Returns {waiting, replayed, counts, rows}: rows by table, rule, column, file and load; the first `at_most` of them,
    with key, line and the value that broke the rule, masked where it is personal.
    """
    from controltower.data import quarantine, replay
    from controltower.data.lake import Lake

    if table is not None:
        _check(table)
    lake = Lake(settings.load())
    done = replay.done(lake)
    found = [
        row
        for row in quarantine.read(lake).drop(["row"]).to_pylist()
        if table in (None, row["table"]) and rule in (None, row["rule"]) and load in (None, row["interval"])
    ]
    waits = [row for row in found if row["id"] not in done]
    by = ("table", "rule", "column", "file", "interval")
    counts = Counter(tuple(row[name] for name in by) for row in waits)
    return {
        "waiting": len(waits),
        "replayed": len(found) - len(waits),
        "counts": [dict(zip(by, kind, strict=True)) | {"rows": n} for kind, n in counts.most_common()],
        "rows": [{name: row[name] for name in _SHOWN} for row in waits[:at_most]],
    }


def export_quarantine(table: str, out: Path) -> dict[str, Any]:
    """Write a table's rows to a CSV file to mend them in: what each gave, personal data too. Its owner's alone."""
    from controltower.data import replay
    from controltower.data.lake import Lake
    from controltower.jobs import exports

    _check(table)
    if out.suffix != ".csv":
        raise BadSource(f"{out.name} can't be replayed.", "Use a name that ends in .csv.")
    rows = replay.waiting(Lake(settings.load()), table)
    exports.write(rows, out)
    out.chmod(0o600)
    return {"table": table, "rows": rows.num_rows, "file": out.name}


def replay_quarantine(table: str, file: Path | None = None, encoding: str = "utf-8") -> dict[str, Any]:
    """Load the mended rows of a file, or without one all that pass as they are: orders came, a rule was mended.

    Returns {table, given, replayed, loaded, to_come, before, unknown, broken, rows, consents, notes}: see
    data/replay.py.
    """
    from controltower.data import replay
    from controltower.data.lake import Lake
    from controltower.data.scratch import scratch
    from controltower.ledger import consents

    _check(table)
    conf = settings.load()
    recorded: list[int] = []
    with alone(conf), scratch(conf) as folder:
        mended = replay.read_file(file, table, encoding, folder) if file else replay.waiting(Lake(conf), table)
        result = replay.replay(
            conf,
            table,
            mended,
            clock.now(conf),
            erased_people(conf),
            lambda rows: recorded.append(consents.append(conf, rows)),
        )
    report = result._asdict()
    notes = made_before(conf, report.pop("since"))
    return {"table": table, **report, "consents": sum(recorded), "notes": notes}


def _check(table: str) -> None:
    from controltower.data.contract import CONTRACT

    if table not in CONTRACT:
        raise BadSource(f"{table!r} is no table of the contract.", f"They are: {', '.join(CONTRACT)}.")
