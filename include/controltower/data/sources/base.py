"""What a source is: something that hands over files in the contract's form, or that a mapping brings into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

KnownAt = Literal["happened", "file"]


@dataclass(frozen=True)
class Input:
    """A table's files, oldest first. `columns`: their name -> the contract's, where they differ."""

    files: list[Path]
    columns: Mapping[str, str] = field(default_factory=dict)


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

    def tables(self, folder: Path, until: datetime) -> dict[str, Input]:
        """The tables at hand. `folder` is scratch space; nothing that happened at `until` or later is needed.

        Raises BadSource where there is nothing to read.
        """

    def notes(self) -> list[str]:
        """What the user should know of what was read: files passed over, data made up."""
