"""A mapping's expressions: scalar SQL over the columns of a shop's file, in DuckDB's words.

DuckDB itself parses them, so what is checked is what runs. A column, a constant, an operator, a CASE, a cast and a
function of its arguments alone may stand in one; what reads a table, a file, a setting or the clock may not.

A text column (all are, in CSV and JSON Lines) is taken as a number in arithmetic and where it is compared with one.
Where an expression fails on a row (a cast of "abc"), the first of its columns stands in as it came, and breaks the
rule of our column's type: it goes to quarantine, and isn't lost.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

import duckdb

_BEFORE = "SELECT (\n"
_ARITHMETIC = frozenset({"+", "-", "*", "/", "//", "%", "**", "^"})
_KINDS = frozenset({"CONSTANT", "COLUMN_REF", "FUNCTION", "COMPARISON", "CONJUNCTION", "CASE", "CAST", "OPERATOR",
                    "BETWEEN", "TYPE"})  # fmt: skip
_MACROS = frozenset("nullif split_part date_add if array_to_string fdiv fmod days_in_month json".split())
_CONSTANT_WORDS = frozenset({"coalesce", "try"})

Node = dict[str, Any]


class BadExpression(ValueError):
    """What is wrong with an expression, with its place."""


@dataclass(frozen=True)
class Expression:
    """One that may run. `columns`: those of the file that it names, in order."""

    text: str
    columns: tuple[str, ...]
    tree: Node

    def sql(self, stored: Mapping[str, tuple[str, str]]) -> str:
        """The SQL, with each column replaced. `stored`: the file's column -> its SQL and DuckDB type."""
        tree = copy.deepcopy(self.tree)
        item = tree["node"]["select_list"]
        texts = {name for name, (_, kind) in stored.items() if kind == "VARCHAR"}
        with duckdb.connect() as con:
            put = {name: _parsed(con, f"SELECT {stored[name][0]}") for name in self.columns}
            as_number = {name: _parsed(con, f"SELECT CAST({stored[name][0]} AS DOUBLE)") for name in self.columns}
            item[0] = _replaced(item[0], put, {name: as_number[name] for name in texts if name in as_number})
            whole = json.dumps({"error": False, "statements": [tree]})
            made = con.execute("SELECT json_deserialize_sql(?)", [whole]).fetchall()[0][0]
        return str(made).removeprefix("SELECT ")


def parse(text: str) -> Expression:
    """Check an expression. Raises BadExpression saying where and what."""
    if not text.strip():
        raise BadExpression("it is empty")
    with duckdb.connect() as con:
        found = json.loads(con.execute("SELECT json_serialize_sql(?)", [f"{_BEFORE}{text}\n)"]).fetchall()[0][0])
    if found["error"]:
        at = int(found.get("position") or len(_BEFORE))
        raise BadExpression(f"{_place(text, at)}: {found['error_message']}")
    statements = found["statements"]
    node = statements[0]["node"]
    items = node.get("select_list", [])
    plain = node["type"] == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY" and not node["where_clause"]
    if len(statements) != 1 or len(items) != 1 or not plain or node["cte_map"]["map"] or node["modifiers"]:
        raise BadExpression(f"{text!r} is more than one scalar expression")
    columns: dict[str, None] = {}
    for inner in _nodes(items[0]):
        _check(text, inner)
        if inner["class"] == "COLUMN_REF":
            columns[inner["column_names"][0]] = None
    return Expression(text, tuple(columns), statements[0])


def guarded(sql: str, inputs: list[str]) -> str:
    """SQL of an expression's value as text; where it fails on a row the first of its inputs, as it came."""
    made = f"TRY(coalesce(CAST({sql} AS VARCHAR), chr(0)))"
    instead = f"CAST(coalesce({', '.join(inputs)}) AS VARCHAR)" if inputs else "NULL"
    return f"coalesce(nullif({made}, chr(0)), CASE WHEN {made} IS NULL THEN {instead} END)"


def nearest(name: str, names: list[str]) -> str:
    """A hint for a name that isn't there: ", did you mean 'x'?", or nothing."""
    lower = {n.lower(): n for n in names}
    close = get_close_matches(name.lower(), list(lower), n=1)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""


def _check(text: str, node: Node) -> None:
    place = _place(text, int(node.get("query_location") or 0))
    if node["class"] == "SUBQUERY":
        raise BadExpression(f"{place}: a query can't stand in an expression")
    if node["class"] == "WINDOW":
        raise BadExpression(f"{place}: a value of other rows can't stand in an expression; use `query:`")
    if node["class"] == "LAMBDA":
        raise BadExpression(f"{place}: no lambda can stand here; of JSON take json_extract_string(column, '$.name')")
    if node["class"] not in _KINDS:
        raise BadExpression(f"{place}: {node['class'].lower()} can't stand in an expression")
    if node["class"] == "COLUMN_REF" and len(node["column_names"]) > 1:
        raise BadExpression(f"{place}: {'.'.join(node['column_names'])!r} is no column; of a struct take"
                            " struct_extract(column, 'field')")  # fmt: skip
    if node["class"] == "FUNCTION":
        name = node["function_name"]
        if node["schema"] or name not in _functions():
            why = "an aggregate, or reads more than its arguments" if _exists(name) else "no function of DuckDB"
            raise BadExpression(f"{place}: {name}() can't be used here: it is {why}")


@cache
def _functions() -> frozenset[str]:
    """What depends on its arguments only."""
    with duckdb.connect() as con:
        found = con.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'scalar'"
            " AND stability = 'CONSISTENT' AND NOT has_side_effects AND NOT starts_with(function_name, '__')"
            " AND NOT contains(function_name, 'serialize')"
        ).fetchall()
    return frozenset(name for (name,) in found) | _MACROS | _CONSTANT_WORDS


@cache
def _exists(name: str) -> bool:
    with duckdb.connect() as con:
        query = "SELECT count(*) FROM duckdb_functions() WHERE function_name = ?"
        return bool(con.execute(query, [name]).fetchall()[0][0])


def _parsed(con: duckdb.DuckDBPyConnection, sql: str) -> Node:
    found = json.loads(con.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])
    tree: Node = found["statements"][0]["node"]["select_list"][0]
    return tree


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, dict):
        if "class" in value:
            yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _replaced(value: Any, put: Mapping[str, Node], numbers: Mapping[str, Node]) -> Any:
    """The tree with its columns replaced: by `numbers` where they are reckoned with, else by `put`."""
    if isinstance(value, list):
        return [_replaced(inner, put, numbers) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("class") == "COLUMN_REF":
        return {**copy.deepcopy(put[value["column_names"][0]]), "alias": value["alias"]}
    reckoned = numbers if _reckons(value) else {}
    made = {}
    for key, inner in value.items():
        items = inner if isinstance(inner, list) else [inner]
        done = [_number(item, reckoned) or _replaced(item, put, numbers) for item in items]
        made[key] = done if isinstance(inner, list) else done[0]
    return made


def _number(value: Any, numbers: Mapping[str, Node]) -> Any:
    """What stands in for an operand that is a bare text column; None where it is none."""
    if not isinstance(value, dict):
        return None
    if "expression" in value and isinstance(value["expression"], dict):
        inner = _number(value["expression"], numbers)
        return {**value, "expression": inner} if inner else None
    if value.get("class") == "COLUMN_REF" and value["column_names"][0] in numbers:
        return copy.deepcopy(numbers[value["column_names"][0]])
    return None


def _reckons(node: Node) -> bool:
    """Whether a node takes its operands as numbers: arithmetic, or a comparison with one."""
    if node.get("class") == "FUNCTION":
        return bool(node["is_operator"]) and node["function_name"] in _ARITHMETIC
    if node.get("class") == "COMPARISON":
        return any(_is_number(node[side]) for side in ("left", "right"))
    if node.get("class") == "BETWEEN":
        return _is_number(node["lower"])
    return node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN") and any(map(_is_number, node["children"][1:]))


def _is_number(node: Node) -> bool:
    literal = node.get("literal") or {}
    kind = literal.get("kind") if isinstance(literal, dict) else None
    return kind in ("INTEGER", "NUMERIC") or (node.get("class") == "FUNCTION" and node["function_name"] in _ARITHMETIC)


def _place(text: str, offset: int) -> str:
    """DuckDB counts bytes of what it was given; we say characters of the expression, from 1."""
    inside = text.encode()[: max(offset - len(_BEFORE), 0)].decode(errors="ignore")
    return f"{text!r}, character {len(inside) + 1}"
