"""The wording of messages in each language: one YAML file per language under templates/locales."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from controltower.content.text import shorten
from controltower.errors import BadSpec

FALLBACK = "en"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

Translate = Callable[..., str]


@dataclass(frozen=True)
class Locales:
    """Texts by language and dotted key."""

    texts: Mapping[str, Mapping[str, str]]

    @property
    def languages(self) -> list[str]:
        return sorted(self.texts)

    def chain(self, *locales: str) -> tuple[str, ...]:
        """The languages to look in, best first, for BCP 47 tags by preference; English comes last.

        A tag matches a file of its own (zh-Hant), else of its language (ko-KR: ko).
        """
        found: list[str] = []
        for tag in (*locales, FALLBACK):
            parts = tag.replace("_", "-").split("-")
            names = ["-".join(parts[:n]).lower() for n in range(len(parts), 0, -1)]
            match = next((language for name in names for language in self.texts if language.lower() == name), None)
            if match and match not in found:
                found.append(match)
        return tuple(found)

    def translator(self, chain: tuple[str, ...]) -> Translate:
        """`t(key, name=value, ...)` for templates. It returns plain text: the template's autoescape applies to it."""
        merged: dict[str, str] = {}
        for language in reversed(chain):
            merged.update(self.texts[language])

        def t(key: str, **values: Any) -> str:
            if key not in merged:
                raise BadSpec(f"No locale file has a text for {key!r}.", f"Add it to locales/{FALLBACK}.yaml.")
            text = merged[key]
            if "{" not in text:
                return text
            missing = [name for name in _PLACEHOLDER.findall(text) if name not in values]
            if missing:
                raise BadSpec(f"The text {key!r} needs {missing[0]!r}.", f"Write t('{key}', {missing[0]}=...).")
            return _PLACEHOLDER.sub(lambda m: str(values[m[1]]), text)

        return t


def parse_locale(path: str, source: str) -> dict[str, str]:
    """A locale file's texts by dotted key (`footer.contact`)."""
    try:
        found = yaml.safe_load(source)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise BadSpec(f"{where}: this is not valid YAML.", "Quote texts that hold a colon or a brace.") from None
    if not isinstance(found, dict):
        raise BadSpec(f"{path}: a locale file holds keys and texts.", "Compare locales/en.yaml.")
    return dict(_flatten(path, found, ""))


def _flatten(path: str, node: dict[Any, Any], prefix: str) -> list[tuple[str, str]]:
    texts: list[tuple[str, str]] = []
    for key, value in node.items():
        if isinstance(value, dict):
            texts += _flatten(path, value, f"{prefix}{key}.")
        elif isinstance(value, str):
            texts.append((f"{prefix}{key}", value.strip()))
        else:
            raise BadSpec(f"{path}: {prefix}{key} is {shorten(repr(value), 40)}, not a text.", "Put it in quotes.")
    return texts
