"""What surrounds a customer on the day: holidays, festivals, weather; and whether the customer buys by them."""

from __future__ import annotations

from controltower.profiles.facts.calendar import GIFT_DAYS, WEATHER
from controltower.profiles.features.feature import Feature
from controltower.profiles.portable import div


def _given(name: str) -> Feature:
    return Feature(
        name,
        f"the number that `external` gives as {name} for the day and the customer's home store, else country",
        "surroundings",
        lambda t: t[name].max(),
    )


FEATURES: tuple[Feature, ...] = (
    Feature(
        "days_to_holiday",
        "days to the next public holiday of the customer's country",
        "surroundings",
        lambda t: t.days_to_holiday.max(),
    ),
    Feature(
        "days_to_festival",
        "days to the next festival that people give presents on: 설날 or 추석 in Korea, Christmas elsewhere",
        "surroundings",
        lambda t: t.days_to_festival.max(),
    ),
    Feature(
        "holiday_order_share",
        "share of last year's purchases on a public holiday, local date",
        "local_orders",
        lambda t: div(t.holiday.sum(), t.count()),
    ),
    Feature(
        "festival_order_share",
        f"share of last year's purchases on a festival or in the {GIFT_DAYS} days before it",
        "local_orders",
        lambda t: div(t.gift_time.sum(), t.count()),
    ),
    *(_given(name) for name in WEATHER),
)
