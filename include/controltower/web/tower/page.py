"""Rendering a page: its language, its words, its headers.

Our pages load nothing from elsewhere. Only the frame of a campaign's message does: the shop's pictures, over https and
without a referrer, as the customer would see them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi.responses import HTMLResponse
from markupsafe import Markup
from starlette.requests import Request

from controltower import clock
from controltower.content import words
from controltower.content.locales import Locales, Translate
from controltower.shop import Shop
from controltower.web import languages
from controltower.web.tower.standing import MOST

_HERE = Path(__file__).parent
# Airflow frames these pages in a sandbox that lets no plain link leave the frame, and keeps its theme to itself. This
# one script does both for us; the policy names it by its hash, so that no other script can run. Pages work without it.
_SCRIPT = (_HERE / "pages" / "frame.js").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = {
    "default-src": "'none'",
    "script-src": f"'sha256-{_HASH}'",
    "style-src": "'self'",
    "img-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'self'",
}
# A message inherits the policy of the page that frames it, so a page with frames allows what they need: a style of
# their own and the shop's pictures, nothing more. The page itself has neither.
_WITH_MESSAGES = {"style-src": "'self' 'unsafe-inline'", "img-src": "'self' data: https:"}
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store"}


def locales() -> Locales:
    """The pages' own words, and those that others use too."""
    return words.load(_HERE / "locales")


@dataclass(frozen=True)
class Page:
    """A request's way of showing things."""

    language: str
    t: Translate
    root: str  # what our own addresses begin with
    airflow: str  # what Airflow's begin with

    @classmethod
    def of(cls, request: Request) -> Page:
        scope, chain = request.scope, locales().chain(*languages.accepted(request))
        return cls(chain[0], locales().translator(chain), scope.get("root_path", ""), scope.get("app_root_path", ""))

    def show(
        self, template: str, shop: Shop | None = None, status: int = 200, *, messages: bool = False, **values: Any
    ) -> HTMLResponse:
        """A page; `messages` where it frames a campaign's own HTML."""
        body = _environment().get_template(template).render(page=self, t=self.t, shop=shop, script=_script(), **values)
        return HTMLResponse(body, status, HEADERS | {"Content-Security-Policy": _policy(messages)})

    def error(self, status: int, what: str, remedy: str = "") -> HTMLResponse:
        return self.show("error.html", status=status, what=what, remedy=remedy)

    def word(self, kind: str, code: str) -> str:
        """A reason or a stage in the reader's language; one that has no words there is shown as it is."""
        return words.word(self.t, kind, code)

    def dag(self, campaign: str) -> str:
        return f"{self.airflow}/dags/campaign_{campaign}"

    def dag_run(self, campaign: str, run: str) -> str:
        return f"{self.dag(campaign)}/runs/{quote(run, safe='')}"


def asset(name: str) -> bytes:
    return (_HERE / "pages" / name).read_bytes()


def moment(value: datetime | str | None, shop: Shop) -> str:
    """A time in the shop's zone, with the zone's name."""
    if not value:
        return ""
    return clock.show(datetime.fromisoformat(value) if isinstance(value, str) else value, shop.zone)


def bar(parts: list[tuple[str, int]], width: int = 600) -> list[tuple[str, int, float, float]]:
    """The pieces of a stacked bar: name, number, x and width; a part that is there is seen, be it ever so small."""
    there = [(name, n) for name, n in parts if n > 0]
    total = sum(n for _, n in there) or 1
    least = 3.0
    free = width - least * len(there)
    pieces, x = [], 0.0
    for name, n in there:
        wide = least + free * n / total
        pieces.append((name, n, round(x, 1), round(wide, 1)))
        x += wide
    return pieces


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": "{:,}".format, "share": "{:.0%}".format, "moment": moment}
    env.globals |= {"bar": bar, "most": MOST}
    return env


def _script() -> Markup:
    return Markup(_SCRIPT)  # noqa: S704 our own file


def _policy(messages: bool) -> str:
    rules: Mapping[str, str] = _POLICY | (_WITH_MESSAGES if messages else {})
    return "; ".join(f"{name} {value}" for name, value in rules.items())
