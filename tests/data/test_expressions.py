"""A mapping's expressions: what may stand in one, and what is said of what may not."""

from __future__ import annotations

import duckdb
import pytest
from controltower.data.expressions import BadExpression, guarded, parse

TEXT = {"a": "12", "b": "x", "Customer ID": "17850.0", "이름": "민지"}


def value(text: str, kind: str = "VARCHAR") -> str | None:
    """What an expression makes of TEXT, or of an `a` of another type."""
    expression = parse(text)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(
            f"'{given}' AS \"{name}\"" for name, given in TEXT.items() if name != "a" or kind == "VARCHAR"
        )
        typed = "" if kind == "VARCHAR" else f", CAST('12' AS {kind}) AS a"
        at = {name: (f'"{name}"', kind if name == "a" else "VARCHAR") for name in TEXT}
        sql = guarded(expression.sql(at), [at[name][0] for name in expression.columns])
        found: str | None = con.execute(f"SELECT {sql} FROM (SELECT {columns}{typed})").fetchall()[0][0]
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a / 100.0", "0.12"),
        ("-a", "-12.0"),
        ("CASE WHEN a > 9 THEN 'big' ELSE 'small' END", "big"),
        ("a BETWEEN 2 AND 100", "true"),
        ("a IN (12, 13)", "true"),
        ("a = '12' AND b = 'x'", "true"),
        ("nullif(b, 'x')", None),
        ("coalesce(nullif(b, 'x'), a)", "12"),
        ("upper(이름 || b)", "민지X"),
        ('CAST("Customer ID" AS DOUBLE)', "17850.0"),
        ("strptime('31/12/2025', '%d/%m/%Y')", "2025-12-31 00:00:00"),
        ("epoch_ms(a::BIGINT)", "1970-01-01 00:00:00.012"),
        ("to_timestamp(a::BIGINT)", "1970-01-01 00:00:12+00"),
        ("'KRW'", "KRW"),
        ("json_extract_string('{\"k\": 1}', '$.k')", "1"),
        ("CAST(b AS INTEGER)", "x"),  # it can't: the value as it came
        ("b / 2", "x"),
        ("a -- a comment", "12"),
    ],
)
def test_what_an_expression_makes_of_texts(text: str, expected: str | None) -> None:
    assert value(text) == expected


@pytest.mark.parametrize("kind", ["INTEGER", "DECIMAL(18,4)", "DOUBLE", "VARCHAR"])
def test_typed_columns_are_reckoned_with_as_they_are(kind: str) -> None:
    assert float(value("a / 100", kind) or 0) == 0.12
    assert value("a > 9", kind) == "true"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a +", "'a +', character 4: syntax error"),
        ("이름 || ) 1", "character 7: syntax error"),
        ("", "it is empty"),
        ("a; SELECT 1", "character 2: syntax error"),
        ("(SELECT 1)", "character 1: a query can't stand"),
        ("a IN (SELECT 1)", "a query can't stand"),
        ("1) FROM (SELECT 1", "more than one scalar expression"),
        ("1) WHERE (true", "more than one scalar expression"),
        ("1), (2", "more than one scalar expression"),
        ("1) UNION SELECT (2", "more than one scalar expression"),
        ("sum(a)", "character 1: sum() can't be used here: it is an aggregate"),
        ("row_number() OVER ()", "a value of other rows"),
        ("b || now()", "character 6: now() can't be used here"),
        ("random()", "random() can't"),
        ("getvariable('x')", "getvariable() can't"),
        ("current_setting('memory_limit')", "current_setting() can't"),
        ("read_text('/etc/hosts')", "read_text() can't"),
        ("json_serialize_plan('SELECT 1')", "json_serialize_plan() can't"),
        ("main.lower(a)", "lower() can't"),
        ("lowr(a)", "no function of DuckDB"),
        ("a.b", "'a.b' is no column"),
        ("list_filter(a, lambda x: x > 1)", "no lambda"),
        ("*", "star can't stand"),
        ("?", "parameter can't stand"),
        ("#1", "positional_reference can't stand"),
    ],
)
def test_what_may_not_stand_in_one(text: str, said: str) -> None:
    with pytest.raises(BadExpression) as error:
        parse(text)
    assert said in str(error.value)


def test_current_date_is_no_column() -> None:
    """DuckDB reads it as a column's name, and no file has one of that name."""
    assert parse("current_date").columns == ("current_date",)
