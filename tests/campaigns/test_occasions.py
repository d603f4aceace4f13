"""Which days a campaign is for."""

from __future__ import annotations

import pytest
import yaml
from controltower.campaigns.occasions import occasions
from controltower.settings import INCLUDE
from controltower.shop import Shop


@pytest.fixture(scope="module")
def seoul() -> Shop:
    return Shop.model_validate(yaml.safe_load((INCLUDE / "shops" / "simulated.yaml").read_text()))


@pytest.mark.parametrize(
    ("given", "moments", "by_hand", "clock_is_set", "days"),
    [
        ("2026-06-15", ["2026-06-20T12:00:00Z"], True, True, ["2026-06-15"]),
        (None, ["2026-06-15T14:59:00Z"], True, False, ["2026-06-15"]),
        (None, ["2026-06-15T15:00:00Z"], True, False, ["2026-06-16"]),  # midnight in Seoul
        (None, ["2026-06-15T15:00:00Z"], True, True, [None]),
        (None, ["2026-06-14T20:00:00Z"], False, True, ["2026-06-15"]),
        (None, ["2026-05-03T01:00:00Z", "2026-05-02T20:00:00Z", "2026-05-01T20:00:00Z"], False, False,
         ["2026-05-02", "2026-05-03"]),
    ],
)  # fmt: skip
def test_the_days(
    seoul: Shop, given: str | None, moments: list[str], by_hand: bool, clock_is_set: bool, days: list[str | None]
) -> None:
    assert occasions(given, moments, seoul, by_hand=by_hand, clock_is_set=clock_is_set) == days
