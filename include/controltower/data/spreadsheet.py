"""Text in a CSV file that we write, as a spreadsheet may open it: it takes some for formulas, and runs them.

https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import re

import pyarrow as pa

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def plain(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def as_it_was(text: str | None) -> str | None:
    """A text that `plain` may have changed, from a file that comes back."""
    return text[1:] if text and text[0] == "'" and plain(text[1:]) != text[1:] else text


def plain_texts(table: pa.Table) -> pa.Table:
    """The table with each of its texts made plain; other columns stay as they are."""
    for i, column in enumerate(table.schema):
        if pa.types.is_string(column.type):
            texts = table.column(i).combine_chunks().dictionary_encode()  # an id comes many times
            made = pa.array([plain(text) for text in texts.dictionary.to_pylist()], pa.string())
            table = table.set_column(i, column, made.take(texts.indices))
    return table
