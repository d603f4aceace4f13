"""How good what is trained as of a past date would have been."""

from __future__ import annotations

from typing import Any, NamedTuple


class Evaluated(NamedTuple):
    """rows: one a model and group, beside its baseline, all with the same plain values; said: the verdict in sentences;
    about: more for programs."""

    rows: list[dict[str, Any]]
    said: list[str]
    about: dict[str, Any] = {}
