"""Which home a demo works on, and the moment at which its day starts."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
from controltower import clock, settings
from controltower.data.sources.base import Wanted
from controltower.data.sources.folder import FolderSource
from controltower.data.sources.mapping import TableMapping
from controltower.errors import BadSettings, BadSource
from controltower.sandbox import credentials
from controltower.settings import INCLUDE, parse_shop
from controltower.shop import Shop

from demo.tower import APPROVER

DAYS = {"simulated": "2026-06-15", "null-shop": "2026-06-15", "online-retail": "2011-11-09"}
ENDS = {"online-retail": "2011-12-10"}  # its last order is of the day before: all customers are loaded
HOUR = "T06:30"
# What the user has set for a shop in earnest; an empty setting is an unset one, also in the shell of `shell.sh`.
OF_THE_HOME = (
    "CONTROLTOWER_DATABASE_URL", "CONTROLTOWER_EMAIL_PROVIDER", "CONTROLTOWER_NOW", "CONTROLTOWER_SECRET_KEY",
    "CONTROLTOWER_SMTP_URL", "CONTROLTOWER_SPEED",
)  # fmt: skip
MOST_QUIET_DAYS = timedelta(days=60)
READERS = {
    ".csv": "read_csv('{}', all_varchar=true)",
    ".jsonl": "read_json('{}')",
    ".ndjson": "read_json('{}')",
    ".parquet": "read_parquet('{}')",
}


@dataclass(frozen=True)
class Plan:
    """A demo's source, its home, and when its first day starts in the shop's zone.

    Facts of before the date `ends` are loaded. What comes after the start is loaded then, but not known yet.
    """

    source: str
    home: Path
    starts: datetime
    ends: str

    def use(self, sandbox_url: str, public_url: str) -> None:
        """Make this process, and so its children, work on the home and send to its sandbox only."""
        made = credentials.make(self.home / "sandbox", sandbox_url)
        os.environ |= dict.fromkeys(OF_THE_HOME, "") | {
            "CONTROLTOWER_HOME": str(self.home),
            "CONTROLTOWER_SOURCE": self.source,
            "CONTROLTOWER_SENDGRID_URL": sandbox_url,
            "CONTROLTOWER_SENDGRID_API_KEY": made.api_key,
            "CONTROLTOWER_FCM_URL": sandbox_url,
            "CONTROLTOWER_FCM_CREDENTIALS": str(made.service_account_path),
            "CONTROLTOWER_SENDGRID_WEBHOOK_KEYS": made.webhook_public_key,
            "CONTROLTOWER_PUBLIC_URL": public_url,
            "CONTROLTOWER_APPROVERS": APPROVER,
        }


def plan(source: str, homes: Path) -> Plan:
    """The plan of a source: one of DAYS or a folder. BadSettings where there is no such thing."""
    given = settings.load()
    name, folder = source, None
    if source not in DAYS:
        folder = Path(source).expanduser().resolve()
        if not folder.is_dir():
            raise BadSettings(f"There is no folder {source}.", f"SOURCE is {', '.join(DAYS)}, or a folder.")
        slug = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "shop"
        name = f"{slug}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"
    if folder is None:
        shop = parse_shop(INCLUDE / "shops" / f"{source}.yaml")
        day = DAYS[source]
    else:
        contract = FolderSource(folder)
        shop = parse_shop(contract.shop_file)
        newest = _newest(contract, shop).astimezone(shop.zone)
        day = (newest.date() + timedelta(days=1)).isoformat()
    starts = (given.now or clock.parse(day + HOUR, shop)).astimezone(shop.zone)
    ends = ENDS.get(source, starts.date().isoformat())
    return Plan(str(folder or source), homes / name, starts, ends)


def _newest(source: FolderSource, shop: Shop) -> datetime:
    """The newest event or order of a contract folder; a lone day far after all others is a mistake in the data."""
    newest: dict[date, str] = {}
    tables = source.tables(Wanted(source.path, datetime.max.replace(tzinfo=UTC)))
    for table, column in (("events", "occurred_at"), ("orders", "ordered_at")):
        for file in tables[table].files if table in tables else []:
            mapping = tables[table].mapping or TableMapping()
            theirs = {ours: name for name, ours in mapping.columns.items()}.get(column, column)
            text = f'trim("{theirs}"::VARCHAR)'
            reader = READERS[file.suffix].format(str(file).replace("'", "''"))
            query = f"SELECT try_cast(left({text}, 10) AS DATE) AS day, max({text}) FROM {reader} GROUP BY 1"
            try:
                found = duckdb.connect().execute(query).fetchall()
            except duckdb.Error as e:
                raise BadSource(f"{file} can't be read: {str(e).splitlines()[0]}") from None
            newest |= {day: max(moment, newest.get(day, "")) for day, moment in found if day}
    days = sorted(newest, reverse=True)
    if not days:
        raise BadSource(f"{source.path} holds no events and no orders, so the demo has no day to show.")
    while len(days) > 1 and days[0] - days[1] > MOST_QUIET_DAYS:
        del days[0]
    return clock.parse(newest[days[0]], shop)
