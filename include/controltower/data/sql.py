"""Quoting for the SQL that the data room writes."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A column's or table's name."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text value."""
    return "'" + value.replace("'", "''") + "'"


def listed(values: list[str]) -> str:
    """A list of text values."""
    return "[" + ", ".join(map(literal, values)) + "]"


def raw(column: str) -> str:
    """The name under which a column's raw value is kept beside the one read from it."""
    return quoted(f"r_{column}")
