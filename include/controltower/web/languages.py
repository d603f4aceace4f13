"""The languages of our pages: their words, and which of them a browser asks for."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.requests import Request

from controltower.content.locales import Locales, parse_locale

_LONGEST: Final = 500  # of the header; browsers send less
_WANTED: Final = re.compile(r"([A-Za-z0-9-]{1,35}|\*)(?:\s*;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")


@lru_cache(maxsize=4)
def load(folder: Path) -> Locales:
    """A folder's words, one YAML file a language; read once a process."""
    files = sorted(folder.glob("*.yaml"))
    return Locales({f.stem: parse_locale(f.name, f.read_text(encoding="utf-8")) for f in files})


def accepted(request: Request) -> tuple[str, ...]:
    """The languages of Accept-Language, the most wanted first (RFC 9110, 12.5.4); what has no such form is out."""
    header = request.headers.get("accept-language", "")[:_LONGEST]
    found = [m for part in header.split(",") if (m := _WANTED.fullmatch(part.strip()))]
    wanted = [(float(m[2] or 1), m[1]) for m in found]
    return tuple(tag for weight, tag in sorted(wanted, key=lambda w: -w[0]) if weight > 0)
