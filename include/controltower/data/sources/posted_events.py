"""What was posted to /v1/events, as a source: its bodies become rows of the contract's `events`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import orjson

from controltower.data.sources import event_forms
from controltower.data.sources.base import Input, KnownAt, Wanted
from controltower.settings import INCLUDE


class PostedEvents:
    """Bodies with when they were received. Bad rows stop nothing: who posts them can't mend the others."""

    name = "posted-events"
    shop_file = INCLUDE / "shops" / "folder.yaml"
    zone: str | None = None
    known_at: KnownAt | None = "file"
    bad_rows_limit = 1.0
    encoding = "utf-8"
    delimiter = ","

    def __init__(self, bodies: Sequence[tuple[bytes, datetime]]) -> None:
        self._bodies = bodies

    def tables(self, wanted: Wanted) -> dict[str, Input]:
        file = wanted.folder / "posted.jsonl"
        with file.open("wb") as lines:
            for body, received_at in self._bodies:
                for row in event_forms.rows(body, received_at):
                    lines.write(orjson.dumps(row) + b"\n")
        return {"events": Input([file])}

    def notes(self) -> list[str]:
        return []
