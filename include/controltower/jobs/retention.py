"""Keeping what grows no longer than the shop says: `controltower privacy retention`, and daily beside the load."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from controltower import clock, settings
from controltower.jobs.ingest import alone

log = logging.getLogger(__name__)


def keep_to_retention(*, dry_run: bool = False) -> dict[str, Any]:
    """Remove what is older than `retention_days` of the shop file; `dry_run`: only tell what would be.

    Returns {as_of, dry_run, kept: [{what, days ("for good"), removed (rows; bodies; files)}]}. Readers that began
    before see what they saw.
    """
    from controltower.data import retention
    from controltower.data.lake import Lake
    from controltower.ledger import erasures
    from controltower.ledger.database import begin, check_key
    from controltower.shop import kept_days

    conf = settings.load()
    now = clock.now(conf)
    days = kept_days(settings.load_shop(conf).retention_days if conf.shop or conf.shop_file.is_file() else {})
    lake = Lake(conf)
    elsewhere = {*erasures.BODIES, "exports"}
    with nullcontext() if dry_run else alone(conf):
        gone = retention.outdated(lake, {name: most for name, most in days.items() if name not in elsewhere}, now)
        if not dry_run:
            retention.drop(lake, gone)
    if not dry_run:
        lake.sweep()
    removed = {table: sum(p.rows for parts in loads.values() for p in parts) for table, loads in gone.items()}
    check_key(conf)
    for table in erasures.BODIES:
        if (most := days[table]) is not None:
            with begin(conf) as ledger:
                removed[table] = erasures.old_bodies(ledger, table, now - timedelta(days=most), empty=not dry_run)
    if (most := days["exports"]) is not None:
        old = _older(conf.home / "exports", most)
        removed["exports"] = len(old)
        for file in () if dry_run else old:
            file.unlink(missing_ok=True)
    log.info("retention%s: %s", ", a dry run" if dry_run else "", {name: n for name, n in removed.items() if n})
    kept = [
        {"what": name, "days": "for good" if most is None else most, "removed": removed.get(name, 0)}
        for name, most in days.items()
    ]
    return {"as_of": now.isoformat(), "dry_run": dry_run, "kept": kept}


def _older(folder: Path, days: int) -> list[Path]:
    """Files older than so many days, by the wall clock, as files are dated by it."""
    before = clock.wall() - days * 86_400
    return sorted(file for file in folder.glob("*") if file.is_file() and file.stat().st_mtime < before)
