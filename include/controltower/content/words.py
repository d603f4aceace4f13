"""The words for those who run a shop, by language: what becomes of customers and messages, and on which channel.

The report, the approval's question, the trigger form and the Tower all say it with these. What customers read is the
templates' (templates/locales), the reasons of recommendations are in reasons.py.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from controltower.content.locales import Locales, Translate, parse_locale
from controltower.errors import BadSpec

SHARED = Path(__file__).parent / "languages"


@lru_cache(maxsize=8)
def load(*folders: Path) -> Locales:
    """These words and those of the folders, one YAML file a language; read once a process."""
    texts: dict[str, dict[str, str]] = {}
    for file in (f for folder in (SHARED, *folders) for f in sorted(folder.glob("*.yaml"))):
        texts.setdefault(file.stem, {}).update(parse_locale(file.name, file.read_text(encoding="utf-8")))
    return Locales(texts)


def translator(language: str, *folders: Path) -> Translate:
    """`t(key, name=value, ...)` in a language given as a BCP 47 tag; English where we don't speak it."""
    found = load(*folders)
    return found.translator(found.chain(language))


def word(t: Translate, kind: str, code: str) -> str:
    """The words for a code; one that has none is shown as it is."""
    try:
        return t(f"{kind}.{code.replace(' ', '_')}")
    except BadSpec:
        return code
