"""The simulated shops as sources. They stand here because no room may import the simulation."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower.errors import BadSettings
from controltower.settings import INCLUDE, Settings

if TYPE_CHECKING:
    from controltower.data.sources.base import Input, KnownAt, Wanted


class SimulatedShop:
    """The simulated shop as a source: made once per end, in HOME/simulated, and read like any folder.

    With it what its customers did because of messages, as far as they have answered (`controltower simulate-answers`).
    """

    name = "simulated"
    shop_file = INCLUDE / "shops" / "simulated.yaml"
    zone: str | None = None
    known_at: KnownAt | None = None
    bad_rows_limit = 0.05
    encoding = "utf-8"
    delimiter = ","
    effect = 1.0  # of messages on buying

    def __init__(self, conf: Settings) -> None:
        self._home = conf.home
        self._customers = conf.simulated_customers
        self._seed = conf.simulated_seed

    def tables(self, wanted: Wanted) -> dict[str, Input]:
        from controltower.data.sources.base import Input
        from controltower.data.sources.folder import FolderSource
        from controltower.simulation import purchases

        made = FolderSource(self._made(wanted.until)).tables(wanted)
        return {
            table: Input(self._known(table, [*given.files, *purchases.files(self._home, table)], wanted))
            for table, given in made.items()
        }

    def notes(self) -> list[str]:
        return ["the whole shop is simulated"]

    def _known(self, table: str, files: list[Path], wanted: Wanted) -> list[Path]:
        """What a shop knew by then, in scratch space: before the day it was made for, its last rows are to come."""
        import pyarrow.parquet as pq

        from controltower.data.contract import CONTRACT

        served = []
        for number, file in enumerate(files):
            rows = pq.read_table(file, filters=[(CONTRACT[table].known, "<=", wanted.until)])
            served.append(wanted.folder / f"{table}-{number}.parquet")
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


class NullShop(SimulatedShop):
    """The same shop and the same customers, only that no message makes anybody buy: what a measurement must find."""

    name = "null-shop"
    shop_file = INCLUDE / "shops" / "null-shop.yaml"
    effect = 0.0
