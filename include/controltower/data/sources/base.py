"""What a source is: something that hands over files in the contract's form, or that a mapping brings into it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from controltower.data.sources.mapping import TableMapping

KnownAt = Literal["happened", "file"]


@dataclass(frozen=True)
class Input:
    """A table's files, oldest first, and how their columns become the contract's, where they differ."""

    files: list[Path]
    mapping: TableMapping | None = None


@dataclass(frozen=True)
class Wanted:
    """What a load needs: the rows known from `since` (None: from the beginning) until `until`; `zone`: of naive times.

    `folder` is scratch space. `most_rows`: so many rows of each table are enough, any that are quick to get. `now`: by
    the home's clock.
    """

    folder: Path
    until: datetime
    since: datetime | None = None
    zone: str = "UTC"
    most_rows: int | None = None
    now: datetime | None = None


class Source(Protocol):
    """A shop's data. `zone` is the one in which naive times are read, None: the shop's.

    `known_at` says when a row counts as known that has no received_at or updated_at: when it happened, or at its file's
    time. None: when it happened in a load of all history, at the file's time in the load of an interval.
    """

    name: str
    shop_file: Path
    zone: str | None
    known_at: KnownAt | None
    bad_rows_limit: float
    encoding: str
    delimiter: str

    def tables(self, wanted: Wanted) -> dict[str, Input]:
        """The tables at hand; they may hold more rows than are wanted. Raises BadSource where nothing can be read."""

    def notes(self) -> list[str]:
        """What the user should know of what was read: files passed over, data made up."""
