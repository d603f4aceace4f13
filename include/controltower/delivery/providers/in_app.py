"""Messages that the shop's app fetches (web/public/in_app.py): nothing is called, they are there once they are sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controltower.delivery.policy import is_local
from controltower.delivery.providers.base import Envelope, Outgoing, Parcel, Result
from controltower.settings import Settings


class InApp:
    """The ledger is the way out: what it says was sent is what the app gets."""

    name = "in_app"
    channel = "in_app"
    calls_at_once = 1000
    splits = False
    secret = ""
    checks = False

    def __init__(self, settings: Settings) -> None:
        self.local = is_local(settings.public_url)

    def trouble(self) -> str | None:
        return None

    def pack(self, outgoing: Sequence[Outgoing], envelope: Envelope, most: int) -> Iterator[Parcel]:  # noqa: ARG002
        for start in range(0, len(outgoing), most):
            yield Parcel(outgoing[start : start + most], b"")

    def post(self, parcel: Parcel) -> Result:  # noqa: ARG002
        return Result("sent")

    def close(self) -> None:
        pass


PROVIDER = InApp
