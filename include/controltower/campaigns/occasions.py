"""For which days a campaign is asked for, however it was started."""

from __future__ import annotations

from collections.abc import Sequence

from controltower import clock
from controltower.shop import Shop


def occasions(
    given: str | None, moments: Sequence[str], shop: Shop, *, by_hand: bool, clock_is_set: bool
) -> Sequence[str | None]:
    """The days, oldest first, in the shop's zone: the one `given`, else those of the moments. None: the clock's today.

    `moments` are ISO times: when it was asked for by hand, else as of when the data is that set it off. A run by hand
    means the day on which it was asked for, also when it is done again another day. Who schedules knows that day by the
    wall clock only: where the home's clock is set, such a run means the clock's today.
    """
    if given:
        return [given]
    if by_hand and clock_is_set:
        return [None]
    return sorted({clock.parse(m, shop).astimezone(shop.zone).date().isoformat() for m in moments})
