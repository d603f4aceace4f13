"""How a source's columns become the contract's: one YAML form for a folder's `source.yaml` and for a named source.

kind: folder                  # or sql; see KINDS in named.py
about: our shop's nightly export
location: s3://bucket/export  # of a folder: a path (in the home, where it is relative) or a URL prefix
connection: shop_db           # an Airflow connection's id, or the variable AIRFLOW_CONN_SHOP_DB
timezone: Asia/Seoul          # naive times are read in it; by default the shop's
encoding: cp949               # of CSV and JSON Lines; by default utf-8
delimiter: ";"                # of CSV; by default a comma
known_at: file                # rows without received_at or updated_at: `happened` or `file` (see base.py)
bad_rows_limit: 0.05          # a table with a larger share of bad rows is refused
tables:
  orders:
    file: export/sales-*.csv  # by default the table's name
    columns: { Ordernr: order_id, Datum: ordered_at }        # theirs: ours
    expressions: { currency: "'KRW'", shipping: ship_cents / 100.0 }  # ours: SQL over theirs (expressions.py)
    where: Test = 'no'        # rows that are taken
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from controltower.data.contract import CONTRACT
from controltower.data.expressions import BadExpression, Expression, nearest, parse
from controltower.data.sources.base import KnownAt
from controltower.errors import BadSource, first_mistake, yaml_mistake

FOLDER_KEYS = frozenset({"location", "files", "encoding", "delimiter"})
SQL_KEYS = frozenset({"url", "overlap_minutes"})


class TableMapping(BaseModel):
    """Where a table's rows are, and how their columns become the contract's."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = Field(
        default=None, description="of a folder: the files, as a pattern; default: the table's name"
    )
    table: str | None = Field(default=None, description="of a database: the table, with its schema where it has one")
    query: str | None = Field(
        default=None, description="of a database: a SELECT in its words; of a folder: one in DuckDB's over `files`"
    )
    cursor: str | None = Field(
        default=None, description="of a database: the column of times by which an interval's rows are found"
    )
    columns: dict[str, str] = Field(default={}, description="theirs: ours")
    expressions: dict[str, str] = Field(default={}, description="ours: scalar SQL over theirs")
    where: str | None = Field(default=None, description="scalar SQL over theirs: the rows that are taken")
    leave_out: list[str] = Field(default=[], description="their columns that aren't kept in attributes")

    @field_validator("expressions")
    @classmethod
    def _run(cls, expressions: dict[str, str]) -> dict[str, str]:
        for ours, text in expressions.items():
            try:
                parse(text)
            except BadExpression as e:
                raise ValueError(f"{ours}: {e}") from None
        return expressions

    @field_validator("where")
    @classmethod
    def _runs(cls, where: str | None) -> str | None:
        if where:
            try:
                parse(where)
            except BadExpression as e:
                raise ValueError(str(e)) from None
        return where

    @model_validator(mode="after")
    def _one_place(self) -> TableMapping:
        both = sorted(set(self.columns.values()) & set(self.expressions))
        if both:
            raise ValueError(f"{both[0]} has both a column and an expression")
        given = [name for name in ("file", "table", "query") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one of them")
        return self

    def parsed(self) -> dict[str, Expression]:
        return {ours: parse(text) for ours, text in self.expressions.items()}


class SourceFile(BaseModel):
    """A named source's YAML, or a folder's source.yaml."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(default="folder", description="`folder`, or `sql`")
    about: str = Field(default="", description="what it is and where to get it, for whoever lists the sources")
    shop: str | None = Field(default=None, description="the shop file that a new home starts with, beside this file")
    location: str | None = Field(
        default=None, description="of a folder: a path, or a prefix such as s3://bucket/export"
    )
    url: str | None = Field(default=None, description="of a database: SQLAlchemy's URL, without a password")
    connection: str | None = Field(default=None, description="an Airflow connection's id: where the credentials are")
    timezone: str | None = Field(default=None, description="of naive times; by default the shop's")
    encoding: str = Field(default="utf-8", description="of CSV and JSON Lines")
    delimiter: Literal[",", ";", "\t", "|"] = Field(default=",", description="of CSV")
    known_at: KnownAt | None = Field(
        default=None, description="when rows without received_at or updated_at were known: `happened` or `file`"
    )
    bad_rows_limit: float = Field(
        default=0.05, ge=0, le=1, description="a table with a larger share of them is refused"
    )
    overlap_minutes: float = Field(
        default=60, ge=0, description="of a database: how far before the interval it looks, for rows committed late"
    )
    files: dict[str, str] = Field(default={}, description="of a folder: names for files that queries read, as patterns")
    tables: dict[str, TableMapping] = {}

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Seoul")
        return value

    @field_validator("url")
    @classmethod
    def _without_password(cls, value: str | None) -> str | None:
        try:
            if value and make_url(value).password:
                raise ValueError("no password may stand here: name an Airflow connection in `connection`")
        except ArgumentError:
            raise ValueError("no URL such as postgresql+psycopg://host/database") from None
        return value

    @field_validator("tables")
    @classmethod
    def _in_contract(cls, tables: dict[str, TableMapping]) -> dict[str, TableMapping]:
        for name, table in tables.items():
            if name not in CONTRACT:
                hint = nearest(name, list(CONTRACT)) or f": {', '.join(CONTRACT)}"
                raise ValueError(f"{name!r} is no table of the contract{hint}")
            known = [c.name for c in CONTRACT[name].columns]
            for ours in [*table.columns.values(), *table.expressions]:
                if ours not in known:
                    raise ValueError(f"{name} has no column {ours!r}{nearest(ours, known)}")
        return tables

    @model_validator(mode="after")
    def _of_its_kind(self) -> SourceFile:
        wrong = {"folder": SQL_KEYS, "sql": FOLDER_KEYS}.get(self.kind, frozenset())
        for name in sorted(wrong & self.model_fields_set):
            raise ValueError(f"{name} says nothing to a source of kind {self.kind}")
        places = {"folder": ("table", "cursor"), "sql": ("file",)}.get(self.kind, ())
        for name, table in self.tables.items():
            for key in places:
                if getattr(table, key):
                    raise ValueError(f"tables.{name}.{key} says nothing to a source of kind {self.kind}")
        return self


def read(path: Path) -> SourceFile:
    """A source's YAML. Raises BadSource naming the file, the key and the remedy."""
    try:
        return validated(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise BadSource(f"{path} is not valid YAML: {yaml_mistake(e)}.", "Correct it.") from None


def validated(given: Any, path: str) -> SourceFile:
    try:
        return SourceFile.model_validate(given)
    except ValidationError as e:
        first = e.errors()[0]
        where, what = first_mistake(e)
        if first["type"] == "extra_forbidden":
            model = TableMapping if first["loc"][0] == "tables" else SourceFile
            names = list(model.model_fields)
            what = f"unknown key{nearest(str(first['loc'][-1]), names)}. It may have {', '.join(names)}"
        raise BadSource(f"{path}: {f'{where}: ' if where else ''}{what}.", "Correct it (docs/data.md).") from None
