"""A lint: in profiles/ and audiences/ nothing is used that engines understand differently, but in portable.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import controltower
import pytest

PACKAGE = Path(controltower.__path__[0])
FILES = sorted(p for room in ("profiles", "audiences") for p in (PACKAGE / room).rglob("*.py"))

# Each gave another result on some engine without an error, or isn't there on one.
UNSAFE = {
    "delta", "truncate", "epoch_seconds", "day_of_week", "week_of_year", "strftime", "age",
    "round", "floor", "ceil", "ln", "log", "log2", "log10", "hash", "median", "approx_median", "quantile", "mode",
    "corr", "cov", "std", "var", "first", "last", "arbitrary", "argmax", "argmin", "collect", "group_concat",
    "asof_join", "sample", "try_cast", "re_search", "re_extract",
}  # fmt: skip


def unsafe(code: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div | ast.FloorDiv):
            yield node.lineno, "divides: use portable.div or portable.whole"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in UNSAFE:
                yield node.lineno, f".{name}() means different things on different engines: see portable.py"
            into = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            if name == "cast" and str(into).startswith(("int", "string")):
                yield node.lineno, f"casts into {into}: use portable.whole, one_if, units or seconds"


def test_only_operations_that_mean_the_same_on_every_engine() -> None:
    assert len(FILES) > 20
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} {what}"
        for path in FILES
        if path.name != "portable.py"
        for line, what in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "code",
    ["t.a / t.b", "t.a // 2", "t.at.delta(t.b, unit='h')", "t.a.round()", "t.a.cast('int64')", "t.a.cast('string')"],
)
def test_the_lint_sees_it(code: str) -> None:
    assert list(unsafe(code))
