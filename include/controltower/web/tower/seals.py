"""What guards the pages' forms: a token of the user's own, and that the browser sent it from our own page.

The same seal carries what a form did to the page that is shown next, so that nobody can make our page say things.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import urlsplit

from starlette.requests import Request

from controltower import clock

FORM_AGE = 12 * 3600.0  # seconds that a page may lie open before its buttons are refused
NOTICE_AGE = 600.0


def seal(key: bytes, user: str, purpose: str, value: str = "") -> str:
    """A token that says `value` to this user, for this purpose, from now on."""
    kept = urlsafe_b64encode(json.dumps([round(clock.wall()), value]).encode()).decode().rstrip("=")
    return f"{kept}.{_mac(key, user, purpose, kept)}"


def opened(key: bytes, user: str, purpose: str, token: str, most: float) -> str | None:
    """The value of a token; None where it isn't ours, is another's or for something else, or older than `most`."""
    kept, _, mac = token.partition(".")
    if not token.isascii() or not hmac.compare_digest(mac, _mac(key, user, purpose, kept)):
        return None
    made, value = json.loads(urlsafe_b64decode(kept + "=" * (-len(kept) % 4)))
    return str(value) if -60 <= clock.wall() - made <= most else None


def from_our_page(request: Request) -> bool:
    """Whether the browser says that a page of this very origin sent the form.

    Every browser of today sends one of the two headers with a POST; where none came, the answer is no.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host", "?")


def _mac(key: bytes, user: str, purpose: str, kept: str) -> str:
    # The first part keeps these apart from link tokens and whatever else the home's key authenticates.
    return hmac.new(key, "\0".join(("controltower.tower.1", user, purpose, kept)).encode(), "sha256").hexdigest()
