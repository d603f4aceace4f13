"""Every route of the two apps, and what guards it. A test walks both apps and holds them to this table."""

from __future__ import annotations

from typing import Final

# (method, path) -> guard. "open" shows nothing of anybody and changes nothing.
PUBLIC: Final[dict[tuple[str, str], str]] = {}
TOWER: Final[dict[tuple[str, str], str]] = {}
