"""Load a shop's data into the lake and the ledger's consents."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import BadSettings
from controltower.jobs.identity import resolve_identity
from controltower.settings import INCLUDE, Settings
from controltower.shop import Shop

if TYPE_CHECKING:
    import pyarrow as pa

    from controltower.data.sources.base import Input, KnownAt, Source


def ingest_data(source: str | None = None, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    """Load what became known in [start, end): dates or times in the shop's zone. `source`: `simulated`,
    `online-retail` or a folder; by default CONTROLTOWER_SOURCE.

    Without `start` all that was known before `end` (by default now): a new home's first load. Running an interval again
    replaces its rows. Returns {source, interval, start, as_of, tables: {name: {files, read, loaded, duplicates,
    quarantined, outside, broken, notes}}, consents, identity (as resolve_identity tells), notes}; `as_of`, and the end
    of the interval by its name, is the end of what was loaded, or now if that is earlier (a history with facts that are
    still to come). Raises BadSource, and then nothing was loaded.
    """
    from controltower.data.gate import Interval
    from controltower.data.lake import Lake, interval_key
    from controltower.data.load import load
    from controltower.ledger import consents

    conf = settings.load()
    name = source or conf.source
    if not name:
        raise BadSettings("No source is given.", "Say --source simulated, null-shop, online-retail or a folder.")
    with alone(conf):
        found = _NAMED[name](conf) if name in _NAMED else _folder(name)
        shop, is_new = _shop(conf, found)
        now = clock.now(conf)
        until = (clock.parse(end, shop) if end else now).replace(microsecond=0)
        since = clock.parse(start, shop) if start else None
        if since and since >= until:
            raise BadSettings(f"The interval from {start} to {end or 'now'} is empty.", "Let it end after it starts.")
        interval = Interval(
            # What is still to come can't be told from what is missing: a load ends when it is made, at the latest.
            key=f"{interval_key(since) if since else '..'}/{interval_key(min(until, now))}",
            start=since,
            end=until,
            zone=found.zone or shop.timezone,
            known_at=found.known_at or ("file" if since else "happened"),
            now=now,
        )
        new_home = not Lake(conf).intervals("quarantine")
        recorded: list[int] = []

        def record(rows: pa.Table) -> None:
            recorded.append(consents.append(conf, rows))

        tables = load(conf, found, interval, record)
        if is_new:
            _keep_shop(conf, found)
        resolved = resolve_identity(conf, shop)
    notes = found.notes()
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
        "notes": notes,
    }


@contextmanager
def alone(conf: Settings) -> Iterator[None]:
    """One ingest at a time in a home: two would not see each other's rows, and load the same event twice."""
    try:
        conf.home.mkdir(parents=True, exist_ok=True)
        lock = (conf.home / "ingest.lock").open("a")
    except OSError as e:
        raise BadSettings(
            f"The home {conf.home} can't be used: {e.strerror}.", "Let CONTROLTOWER_HOME name a folder of your own."
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _shop(conf: Settings, source: Source) -> tuple[Shop, bool]:
    """The home's shop, or the one that its first source brings."""
    if conf.shop or conf.shop_file.is_file():
        return settings.load_shop(conf), False
    return settings.parse_shop(source.shop_file), True


def _keep_shop(conf: Settings, source: Source) -> None:
    fresh = conf.shop_file.with_name(f".{conf.shop_file.name}-{uuid.uuid4().hex}")
    fresh.write_bytes(source.shop_file.read_bytes())
    fresh.replace(conf.shop_file)


class _SimulatedShop:
    """The simulated shop as a source: made once per end, in HOME/simulated, and read like any folder.

    With it what its customers did because of messages, as far as they have answered (`controltower simulate-answers`).
    """

    name = "simulated"
    shop_file = INCLUDE / "shops" / "simulated.yaml"
    zone: str | None = None
    known_at: KnownAt | None = None
    bad_rows_limit = 0.05
    encoding = "utf-8"
    effect = 1.0  # of messages on buying

    def __init__(self, conf: Settings) -> None:
        self._home = conf.home
        self._customers = conf.simulated_customers
        self._seed = conf.simulated_seed

    def tables(self, folder: Path, until: datetime) -> dict[str, Input]:
        from controltower.data.sources.base import Input
        from controltower.data.sources.folder import FolderSource
        from controltower.simulation import purchases

        made = FolderSource(self._made(until)).tables(folder, until)
        return {
            table: Input(self._known(table, [*given.files, *purchases.files(self._home, table)], folder, until))
            for table, given in made.items()
        }

    def notes(self) -> list[str]:
        return ["the whole shop is simulated"]

    def _known(self, table: str, files: list[Path], folder: Path, until: datetime) -> list[Path]:
        """What a shop knew by then, in `folder`: on an earlier day than it was made for, its last rows are to come."""
        import pyarrow.parquet as pq

        from controltower.data.contract import CONTRACT

        served = []
        for number, file in enumerate(files):
            rows = pq.read_table(file, filters=[(CONTRACT[table].known, "<=", until)])
            served.append(folder / f"{table}-{number}.parquet")
            pq.write_table(rows, served[-1], compression="lz4")
        return served

    def _made(self, until: datetime) -> Path:
        """A shop made for this end or a later one holds all of it; else a new one, which goes on with the last."""
        from controltower.simulation import shop, truth
        from controltower.simulation.parameters import Parameters

        root = self._home / truth.ROOT
        stamp = until.astimezone(UTC).strftime("%Y-%m-%dT%H%M%SZ")
        root.mkdir(exist_ok=True)
        made = truth.made_shops(root)
        size: dict[str, Any] = {"customers": self._customers} if self._customers else {}
        parameters = Parameters.load(answers={"effect": self.effect}, **size)
        kept = {"effect": 1.0} | truth.read_note(made[-1]) if made else {}
        wanted = {"effect": self.effect, "customers": parameters.customers, "seed": self._seed}
        if any(kept.get(name, value) != value for name, value in wanted.items()):
            raise BadSettings(
                f"This home holds another simulated shop than {self.name}.",
                "Choose another home with CONTROLTOWER_HOME, or the CONTROLTOWER_SIMULATED_* it was made with.",
            )
        if made and made[-1].name >= stamp:
            return made[-1]
        for left in root.glob(".new-*"):
            shutil.rmtree(left)
        fresh = root / f".new-{uuid.uuid4().hex}"
        if made:
            shutil.copytree(made[-1] / truth.TRUTH, fresh / truth.TRUTH)  # it keeps the opening day
        shop.generate(fresh, until=until, parameters=parameters, seed=self._seed)
        fresh.rename(root / stamp)
        for old in made:
            shutil.rmtree(old)
        return root / stamp


class _NullShop(_SimulatedShop):
    """The same shop and the same customers, only that no message makes anybody buy: what a measurement must find."""

    name = "null-shop"
    shop_file = INCLUDE / "shops" / "null-shop.yaml"
    effect = 0.0


def _online_retail(conf: Settings) -> Source:
    from controltower.data.sources.online_retail import OnlineRetail

    return OnlineRetail(conf)


def _folder(name: str) -> Source:
    from controltower.data.sources.folder import FolderSource

    return FolderSource(Path(name))


_NAMED: dict[str, Callable[[Settings], Source]] = {
    "simulated": _SimulatedShop,
    "null-shop": _NullShop,
    "online-retail": _online_retail,
}
