"""A folder in the contract's form: one file per table (`orders.csv`), or many (`orders-2026-06.csv`, `orders/*.csv`).

An optional `source.yaml` in it tells what the files don't:

    timezone: Asia/Seoul          # naive times are read in it; by default the shop's
    encoding: cp949               # of CSV and JSON Lines; by default utf-8
    known_at: file                # rows without received_at or updated_at: `happened` or `file` (see base.py)
    bad_rows_limit: 0.05          # a table with a larger share of bad rows is refused
    tables:
      orders:
        file: export/sales-*.csv  # by default the table's name, as above
        columns: { Ordernr: order_id, Datum: ordered_at }
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from controltower.data.contract import CONTRACT
from controltower.data.sources.base import Input, KnownAt
from controltower.data.staging import FORMATS
from controltower.errors import BadSource, first_mistake, yaml_mistake
from controltower.settings import INCLUDE

CONFIG = "source.yaml"


class TableMapping(BaseModel):
    """Where a table's files are, and their column names -> the contract's."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = None
    columns: dict[str, str] = {}


class FolderConfig(BaseModel):
    """source.yaml."""

    model_config = ConfigDict(extra="forbid")

    timezone: str | None = None
    encoding: str = "utf-8"
    known_at: KnownAt | None = None
    bad_rows_limit: float = Field(default=0.05, ge=0, le=1)
    tables: dict[str, TableMapping] = {}

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Seoul")
        return value

    @field_validator("tables")
    @classmethod
    def _in_contract(cls, tables: dict[str, TableMapping]) -> dict[str, TableMapping]:
        for name, table in tables.items():
            if name not in CONTRACT:
                raise ValueError(f"{name!r} is no table of the contract: {', '.join(CONTRACT)}")
            unknown = set(table.columns.values()) - {c.name for c in CONTRACT[name].columns}
            if unknown:
                raise ValueError(f"{name} has no column {sorted(unknown)[0]!r}")
        return tables


class FolderSource:
    """Reads the folder at `path`; `name` and `shop_file` are given where the folder was made by us."""

    def __init__(self, path: Path, name: str | None = None, shop_file: Path | None = None) -> None:
        if not path.is_dir():
            raise BadSource(
                f"There is no folder {path}.", "Name an existing folder, `simulated`, `null-shop` or `online-retail`."
            )
        config = _config(path / CONFIG)
        own = path / "shop.yaml"
        self.name = name or path.resolve().name
        self.path = path
        self.shop_file = shop_file or (own if own.is_file() else INCLUDE / "shops" / "folder.yaml")
        self.zone, self.known_at = config.timezone, config.known_at
        self.bad_rows_limit, self.encoding = config.bad_rows_limit, config.encoding
        self._mappings = config.tables
        self._used: set[Path] = set()

    def tables(self, folder: Path, until: datetime) -> dict[str, Input]:  # noqa: ARG002 - the gate takes what it needs
        found = {name: self._input(name) for name in CONTRACT}
        found = {name: given for name, given in found.items() if given.files}
        if not found:
            raise BadSource(
                f"{self.path} holds no table of the contract.",
                f"Put files such as customers.csv or orders.parquet there ({', '.join(FORMATS)}), or name yours in"
                f" {CONFIG}.",
            )
        self._used = {file for given in found.values() for file in given.files}
        return found

    def notes(self) -> list[str]:
        files = (f for f in sorted(self.path.glob("*")) if f.suffix in FORMATS and f not in self._used)
        return [f"{file.relative_to(self.path)} belongs to no table of the contract and was not read" for file in files]

    def _input(self, table: str) -> Input:
        mapping = self._mappings.get(table, TableMapping())
        if mapping.file:
            files = sorted(self.path.glob(mapping.file))
            if not files:
                raise BadSource(
                    f"{CONFIG} says that {table} is in {mapping.file}, but {self.path} has no such file.",
                    "Correct the name, or take it out.",
                )
            return Input(files, mapping.columns)
        patterns = [f"{table}{suffix}" for suffix in FORMATS]
        patterns += [f"{table}-*{suffix}" for suffix in FORMATS] + [f"{table}/*{suffix}" for suffix in FORMATS]
        return Input(sorted(f for p in patterns for f in self.path.glob(p)), mapping.columns)


def _config(path: Path) -> FolderConfig:
    if not path.is_file():
        return FolderConfig()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return FolderConfig.model_validate(raw)
    except ValidationError as e:
        where, mistake = first_mistake(e)
        raise BadSource(
            f"{path}: {where or 'the file'}: {mistake}.",
            "Correct it. It may have timezone, encoding, known_at, bad_rows_limit and tables.",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise BadSource(f"{path} is not valid YAML: {yaml_mistake(e)}.", "Correct it.") from None
