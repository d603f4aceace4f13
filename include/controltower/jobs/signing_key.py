"""Starting another key where the home's is lost."""

from __future__ import annotations

import logging
from typing import Any

from controltower import settings

log = logging.getLogger(__name__)


def start_key(by: str) -> dict[str, Any]:
    """Take the key that is there, else make one, as the home's from now on.

    Gives `key` (made, or taken) and what it doesn't know: `void_links`, the messages whose links lead nowhere, and
    `void_suppressions`, the addresses and push tokens that may be written to again. BadSettings where nothing is lost.
    """
    from controltower.ledger import signing_keys
    from controltower.ledger.database import opened

    conf = settings.load()
    with opened(conf).begin() as ledger:
        made = signing_keys.start(ledger, conf, by)
        messages, suppressed = signing_keys.void(ledger)
    log.warning("another key was started by %s", by)
    return {"key": "made" if made else "taken", "void_links": messages, "void_suppressions": suppressed}
