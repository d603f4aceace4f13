"""A folder in the contract's form: one file per table (`orders.csv`), or many (`orders-2026-06.csv`, `orders/*.csv`).

Where its files differ, a `source.yaml` in it, or the YAML of the named source whose `location` it is, says how
(mapping.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from controltower.data.contract import CONTRACT
from controltower.data.csv_file import compressed
from controltower.data.sources import queries
from controltower.data.sources.base import Input, Wanted
from controltower.data.sources.mapping import SourceFile, TableMapping, read
from controltower.data.staging import COMPRESSED, FORMATS
from controltower.errors import BadSource
from controltower.settings import INCLUDE

CONFIG = "source.yaml"


class FolderSource:
    """Reads the folder at `path`. `config` and `shop_file` are given where a named source says them."""

    def __init__(
        self, path: Path, name: str | None = None, shop_file: Path | None = None, config: SourceFile | None = None
    ) -> None:
        if not path.is_dir():
            raise BadSource(
                f"There is no folder {path}.",
                (config.about if config and config.about else "")
                or "Name an existing folder, or a source of `controltower source list`, such as online-retail.",
            )
        if config is None:
            config = read(path / CONFIG) if (path / CONFIG).is_file() else SourceFile()
            if config.kind != "folder" or config.location:
                raise BadSource(
                    f"{path / CONFIG} is of kind {config.kind} or names a location, but describes its own folder.",
                    "Keep such a file in HOME/sources, and name it.",
                )
        own = path / "shop.yaml"
        self.name = name or path.resolve().name
        self.path = path
        self.shop_file = shop_file or (own if own.is_file() else INCLUDE / "shops" / "folder.yaml")
        self.zone, self.known_at = config.timezone, config.known_at
        self.bad_rows_limit, self.encoding = config.bad_rows_limit, config.encoding
        self.delimiter: str = config.delimiter
        self._config = config
        self._used: set[Path] = set()

    def tables(self, wanted: Wanted) -> dict[str, Input]:
        chosen = self.chosen()
        found = {name: Input(files, self._mapping(name)) for name, files in chosen.items() if name in CONTRACT}
        asked = {name: mapping for name, mapping in self._config.tables.items() if mapping.query}
        if not found and not asked:
            raise BadSource(
                f"{self.path} holds no table of the contract.",
                f"Put files such as customers.csv or orders.parquet there ({', '.join(FORMATS)}), or name yours in"
                f" {CONFIG}.",
            )
        self._used = {file for files in chosen.values() for file in files}
        if asked:
            named = {name: chosen[f"files.{name}"] for name in self._config.files}
            found |= queries.run(asked, named, wanted, self.encoding, self.delimiter)
        return found

    def chosen(self) -> dict[str, list[Path]]:
        """The files of each table that has some, and under `files.<name>` those that queries read."""
        told = {name: self._files(m.file, name) for name, m in self._config.tables.items() if m.file}
        named = {f"files.{name}": self._files(pattern, f"files.{name}") for name, pattern in self._config.files.items()}
        taken = {file for files in [*told.values(), *named.values()] for file in files}
        by_name = {name: self._by_name(name, taken) for name in CONTRACT if name not in told}
        found = told | {name: files for name, files in by_name.items() if files and not self._mapping(name).query}
        return {name: found[name] for name in CONTRACT if name in found} | named

    def notes(self) -> list[str]:
        files = (f for f in sorted(self.path.glob("*")) if f.suffix.lower() in FORMATS and f not in self._used)
        return [f"{file.relative_to(self.path)} belongs to no table of the contract and was not read" for file in files]

    def _mapping(self, table: str) -> TableMapping:
        return self._config.tables.get(table, TableMapping())

    def _by_name(self, table: str, taken: set[Path]) -> list[Path]:
        """The files that have the table's name, but those that the YAML gives to others."""
        if packed := self._named(table, COMPRESSED, taken):
            raise compressed(packed[0])
        return self._named(table, FORMATS, taken)

    def _named(self, table: str, endings: Sequence[str], taken: set[Path]) -> list[Path]:
        patterns = [f"{table}{name}{ending}" for name in ("", "-*", ".*", "/*") for ending in endings]
        return sorted({f for p in patterns for f in self.path.glob(p) if f not in taken})

    def _files(self, pattern: str, what: str) -> list[Path]:
        files = sorted(f for f in self.path.glob(pattern) if f.is_file())
        if not files:
            raise BadSource(
                f"The source's YAML says that {what} is in {pattern}, but {self.path} has no such file.",
                "Correct the name, or take it out.",
            )
        return files
