"""A whole campaign as users run it, planning and ledger included, beside SendGrid's own client in a loop.

`controltower campaign plan` and `controltower dispatch` run as processes of their own against a PostgreSQL of their
own; their CPU and the database server's are counted, from start to end. Both ways send over TLS to the same acceptor,
whose work isn't counted. Each mail shows six of 2,000 products; customers and their consents are known beforehand.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from controltower.ledger.database import forget, reading
from controltower.ledger.tables import messages
from controltower.settings import Settings

from bench import _campaign
from bench._acceptor import Acceptor, accepting
from bench._campaign import Cost
from bench._naive import Naive

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import postgres

SIZES, PAIRS = (100_000, 200_000, 1_000_000), 5
_MB = 1e6


@dataclass(frozen=True)
class Run:
    """A campaign from its plan to its last mail."""

    messages: int
    plan: Cost
    sending: list[Cost]  # of each dispatcher

    @property
    def micros(self) -> float:
        return (self.plan.cpu + sum(c.cpu for c in self.sending)) / self.messages * 1e6


def run() -> Iterator[dict[str, Any]]:
    """Medians; the naive loop is run again beside each of our runs."""
    per_mail = {}
    for size in SIZES:
        with _shop(size) as shop:
            pairs = [(shop.run(), shop.naive.micros()) for _ in range(PAIRS)]
            two = [shop.run(dispatchers=2) for _ in range(3)] if size == 200_000 else []
        runs = [ours for ours, _ in pairs]
        per_mail[size] = statistics.median(r.micros for r in runs)
        times = statistics.median(naive / ours.micros for ours, naive in pairs)
        about = f"campaign to {size:,}, PostgreSQL"
        yield _row(f"{about}: CPU a mail, all in all", per_mail[size], "µs", per_mail[size] * times)
        for what, costs in (("planning", [r.plan for r in runs]), ("sending", [r.sending[0] for r in runs])):
            for where in ("client", "server"):
                spent = statistics.median(getattr(c, where) / r.messages for c, r in zip(costs, runs, strict=True))
                yield _row(f"{about}: of that {what}, {where}", spent * 1e6, "µs")
        yield _row(f"{about}: a dispatcher's memory", max(r.sending[0].memory for r in runs) / _MB, "MB")
        if two:
            one = statistics.median(r.sending[0].wall for r in runs)
            both = statistics.median(max(c.wall for c in r.sending) for r in two)
            yield _row(f"{about}: two dispatchers, by the clock (naive: one)", both, "s", one)
    yield _row("cost a mail, 1,000,000 beside 100,000", per_mail[SIZES[-1]] / per_mail[SIZES[0]], "x")
    with _shop(SIZES[-1], sqlite=True) as shop:
        found = shop.run()
    yield _row(f"campaign to {SIZES[-1]:,}, SQLite: CPU a mail, all in all", found.micros, "µs")
    yield _row(f"campaign to {SIZES[-1]:,}, SQLite: planned, by the clock", found.plan.wall, "s")
    yield _row(f"campaign to {SIZES[-1]:,}, SQLite: sent, by the clock", found.sending[0].wall, "s")


def _row(name: str, value: float, unit: str, naive: float | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "naive": naive}


@dataclass
class Shop:
    """A home that can send its campaign again and again, each time from a fresh ledger."""

    home: Path
    acceptor: Acceptor
    naive: Naive
    server: postgres.Postgres | None

    def run(self, dispatchers: int = 1) -> Run:
        with self._ledger() as database:
            environment = {"CONTROLTOWER_SENDGRID_API_KEY": "SG.bench", "CONTROLTOWER_SENDGRID_URL": self.acceptor.url}
            environment |= {"CONTROLTOWER_DATABASE_URL": database} if database else {}
            pid = self.server.pid if self.server else None
            before = self.acceptor.taken()
            _campaign.set_time(self.home, _campaign.PLANNED)
            (plan,) = _campaign.run(self.home, environment, pid, ["campaign", "plan", _campaign.CAMPAIGN])
            _campaign.set_time(self.home, _campaign.ALL_DUE)
            sending = _campaign.run(self.home, environment, pid, *[["dispatch"]] * dispatchers)
            with reading(Settings(home=self.home, database_url=database)) as ledger:
                planned = ledger.execute(sa.select(sa.func.count()).select_from(messages)).scalar_one()
            forget()
            if self.acceptor.taken() - before != planned:
                raise RuntimeError(f"{planned} messages were planned, {self.acceptor.taken() - before} came")
            return Run(planned, plan, sending)

    @contextmanager
    def _ledger(self) -> Iterator[str | None]:
        if self.server is None:
            yield None
        else:
            with self.server.database(template="seed") as database:
                yield database


@contextmanager
def _shop(customers: int, sqlite: bool = False) -> Iterator[Shop]:
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres.running() as server,
        server.database(name="seed") as seed,
        accepting(Path(folder)) as acceptor,
    ):
        home = Path(folder)
        _campaign.write_shop(home, customers)
        _campaign.write_customers(home, None if sqlite else seed, customers)
        conf = Settings(home=home, sendgrid_url=acceptor.url)
        yield Shop(home, acceptor, Naive(conf), None if sqlite else server)
