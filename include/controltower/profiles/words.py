"""The words of titles and searches."""

from __future__ import annotations

import re

_WORD = re.compile(r"(?<!\w)[^\W\d_]{2,}(?!\w)")


def words_of(text: str | None) -> list[str]:
    """Words of two letters or more, in small letters, as they come; "50ml" is none."""
    return _WORD.findall((text or "").lower())


def title_words(title: str | None, brand: str | None) -> list[str]:
    """A title's words without those of the brand, each once, sorted."""
    return sorted(set(words_of(title)) - set(words_of(brand)))
