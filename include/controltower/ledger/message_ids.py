"""What messages are called: a keyed hash, so that only who has the home's key makes or knows a message's id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Final

STEP = 1  # the first and only one, until there are journeys
WITHHELD = 0  # of who was held out: no message, but a row where past messages are learned from
DRAWN: Final = re.compile(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}")  # by lot, as all were before revision 0005


def message_ids(key: bytes, campaign: str, occurrence: str, step: int = STEP) -> Callable[[int], str]:
    """Message ids by subject: whoever plans the occurrence again, or in a rebuilt ledger, comes to the same ones.

    So a second message to somebody breaks a unique key, here and in the provider's own record.
    """
    about = json.dumps([campaign, occurrence, step]).encode()
    base = hashlib.blake2b(about, key=hashlib.sha256(key).digest(), digest_size=16, person=b"message_id")

    def of(subject_id: int) -> str:
        digest = base.copy()
        digest.update(subject_id.to_bytes(8))
        return digest.hexdigest()

    return of
