"""How good what is trained as of a past date would have been."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluated:
    """rows: one a model and group, beside its baseline, all with the same plain values; said: the verdict in sentences;
    about: more for programs."""

    rows: list[dict[str, Any]]
    said: list[str]
    about: dict[str, Any] = field(default_factory=dict)
