"""A campaign's own HTML, made fit for a frame: its links lead nowhere, and what can't be fetched is drawn.

The frame is sandboxed without scripts, forms and this origin (`sandbox=""`), so the mail can't reach Airflow's session.
"""

from __future__ import annotations

import re
from typing import Any

_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
# Every link opens a window of its own, which the sandbox doesn't allow.
_INERT = '<base target="_blank">'
# Names that end in .example belong to nobody (RFC 2606): made-up shops have their pictures there.
_NOWHERE = re.compile(r"(<img\b[^>]*?\bsrc=[\"'])https?://[^/\"']+\.example(?:[:/][^\"']*)?(?=[\"'])", re.IGNORECASE)
_DRAWN = (
    "data:image/svg+xml,%3Csvg xmlns=%27http://www.w3.org/2000/svg%27 viewBox=%270 0 60 60%27%3E"
    "%3Crect width=%2760%27 height=%2760%27 fill=%27%23e7e5f4%27/%3E"
    "%3Cpath d=%27M18 42l9-12 6 7 4-5 7 10z%27 fill=%27%23b9b3dd%27/%3E"
    "%3Ccircle cx=%2739%27 cy=%2722%27 r=%274%27 fill=%27%23b9b3dd%27/%3E%3C/svg%3E"
)


def framed(html: str) -> str:
    """The text of an iframe's `srcdoc`, not yet escaped for the attribute."""
    drawn = _NOWHERE.sub(lambda m: m[1] + _DRAWN.replace("%27", "&#39;"), html)
    head = _HEAD.search(drawn)
    place = head.end() if head else 0
    return drawn[:place] + _INERT + drawn[place:]


def shown(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Samples with a `frame` where they have HTML."""
    return [s | {"frame": framed(s["html"]) if s.get("html") else None} for s in samples]
