"""The numbers of the simulated shop: `parameters.yaml`, validated."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from controltower.errors import BadSettings, first_mistake, yaml_mistake

FILE = Path(__file__).with_name("parameters.yaml")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
LogOdds = Annotated[float, Field(ge=-10, le=10)]
Days = Annotated[float, Field(gt=0, le=3650)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class People(_Part):
    email_known: Share
    phone_known: Share
    demographics_known: Share
    app_share: Share
    second_device: Share
    third_device: Share
    token_share: Share
    token_renewal_days: Days
    store_share: Share
    weekend_sigma: float = Field(ge=0, le=2)
    lifetime_days: Days
    fading_half_life: Days
    price_sense_sigma: float = Field(ge=0, le=3)
    taste_concentration: float = Field(gt=0, le=500)
    hour_concentration: tuple[Positive, Positive]


class Mode(_Part):
    """One mode of the day's visits: local hour, share, von Mises concentration."""

    hour: float = Field(ge=0, lt=24)
    share: Share
    concentration: Positive


class Visits(_Part):
    casual_per_day: float = Field(ge=0, le=2)
    casual_sigma: float = Field(ge=0, le=3)
    episodes_per_day: float = Field(ge=0, le=0.5)
    episode_sigma: float = Field(ge=0, le=3)
    episode_days: float = Field(ge=1, le=60)
    in_episode: Share
    newcomer_episode: Share
    anonymous_per_day: float = Field(ge=0, le=100_000)
    views: float = Field(ge=0, le=50)
    views_in_episode: float = Field(ge=0, le=50)
    focus: Share
    search: Share
    list: Share
    misspelt: Share
    logged_in_app: Share
    logged_in_web: Share
    cookie_loss: Share
    late_events: Share


class Buying(_Part):
    cart: LogOdds
    cart_in_episode: LogOdds
    cart_replenishing: LogOdds
    cart_open: LogOdds
    cart_sale: LogOdds
    buy: LogOdds
    buy_in_episode: LogOdds
    buy_replenishing: LogOdds
    buy_open: LogOdds
    buy_payday: LogOdds
    buy_recent: LogOdds
    store_buy: LogOdds
    anonymous: LogOdds
    remove: Share
    extra_lines: float = Field(ge=0, le=10)
    companion: Share
    same_again: Share
    cycle_sigma: float = Field(ge=0, le=2)
    becomes_habit: Share
    starts_with_habit: Share


class Money(_Part):
    price_sigma: float = Field(ge=0, le=2)
    margin: tuple[Share, Share]
    price_changes: Share
    out_of_stock: Share
    new_products: Share
    sale_categories: int = Field(ge=0, le=20)
    sale_rates: list[Share]
    welcome_share: Share
    payday_days: list[Annotated[int, Field(ge=1, le=31)]]
    payday_rate: Share
    free_shipping_from: int = Field(ge=0)
    shipping: int = Field(ge=0)
    cancelled: Share
    points_rate: Share
    tiers: dict[str, Annotated[int, Field(gt=0)]] = Field(min_length=1)
    return_days: Days


class Consents(_Part):
    email: Share
    push: Share
    night: Share
    profiling: Share
    refusal_recorded: Share
    withdrawn_per_year: float = Field(ge=0, le=10)
    given_again: Share


class Answers(_Part):
    """How customers answer messages; log-odds are those of an average customer at an average hour."""

    effect: Share
    # the provider's side
    bad_addresses: Share
    blocked: Share
    deferred: Share
    delivery_seconds: Positive
    machine_opens: Share
    machine_open_seconds: Positive
    # seeing and clicking
    open: LogOdds
    open_person: float = Field(ge=0, le=5)
    open_product: LogOdds
    open_hour: LogOdds
    open_hours: Positive
    open_hours_sigma: float = Field(ge=0, le=4)
    click: LogOdds
    click_fit: LogOdds
    second_click: Share
    tap: LogOdds
    tap_app: LogOdds
    tap_minutes: Positive
    tap_minutes_sigma: float = Field(ge=0, le=4)
    link_fade: Positive
    fit_price: float = Field(ge=0, le=5)
    faded: Share
    fading_half_life: Days
    # going
    unsubscribes: Share
    one_click: Share
    complains: Share
    # buying because of a message
    lift_unseen: Share
    lift_seen: Share
    lift_clicked: Share
    lift_fit: LogOdds
    lift_days: Days
    at_once: Share
    more_lines: Share


class Origin(_Part):
    country: str = Field(pattern="^[A-Z]{2}$")
    locale: str
    timezone: str
    share: Share

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not an IANA time zone") from None
        return value


class Persona(_Part):
    name: str
    share: Share
    female: Share
    age: tuple[int, int]
    baby: Share
    likes: dict[str, Positive]


class Category(_Part):
    path: str = Field(pattern="^[^>]+ > [^>]+ > [^>]+$")
    price: int = Field(ge=1000, le=5_000_000)
    weight: Positive
    returns: Share
    cycle_days: Days | None = None
    goes_with: list[str] = Field(min_length=1)
    nouns: list[str] = Field(min_length=1)
    features: list[str] = Field(min_length=1)
    queries: list[str] = Field(min_length=1)


class Parameters(_Part):
    """All of `parameters.yaml`; the file says where each number comes from."""

    customers: int = Field(ge=20, le=200_000)
    days: int = Field(ge=14, le=1500)
    opened: date | None
    new_share: float = Field(ge=0, le=0.9)
    broken_share: Share
    edge_customers: int = Field(ge=0, le=10)
    brands: int = Field(ge=2, le=40)
    style_strength: float = Field(ge=0, le=5)
    popularity_slope: float = Field(ge=0, le=3)
    people: People
    hours: list[Mode] = Field(min_length=1)
    own_hour_share: Share
    weekdays: list[Positive] = Field(min_length=7, max_length=7)
    visits: Visits
    buying: Buying
    money: Money
    consents: Consents
    answers: Answers
    origins: list[Origin] = Field(min_length=1)
    personas: list[Persona] = Field(min_length=1)
    products: int = Field(ge=40, le=20_000)
    categories: dict[str, Category] = Field(min_length=2)

    @field_validator("hours", "origins", "personas")
    @classmethod
    def _shares_sum_to_one(cls, value: list[Any]) -> list[Any]:
        if abs(sum(v.share for v in value) - 1) > 1e-6:
            raise ValueError("the shares don't sum to 1")
        return value

    @model_validator(mode="after")
    def _categories_exist(self) -> Parameters:
        named = {c for p in self.personas for c in p.likes} | {g for c in self.categories.values() for g in c.goes_with}
        unknown = sorted(named - set(self.categories))
        if unknown:
            raise ValueError(f"unknown categories: {', '.join(unknown)}")
        return self

    @cached_property
    def keys(self) -> list[str]:
        """The categories' keys; a category's number is its place here."""
        return list(self.categories)

    @classmethod
    def load(cls, file: Path = FILE, **changes: Any) -> Parameters:
        """The parameters of a file, with top-level `changes` (values, or mappings merged into a part).

        Raises BadSettings naming the first wrong number.
        """
        try:
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as e:
            raise BadSettings(f"{file.name} can't be read: {yaml_mistake(e)}.", "Mend or restore the file.") from None
        if not isinstance(raw, dict):
            raise BadSettings(f"{file.name} holds no parameters.", f"Start from {FILE.name}.")
        for name, value in changes.items():
            raw[name] = raw[name] | value if isinstance(value, dict) and isinstance(raw.get(name), dict) else value
        try:
            return cls.model_validate(raw)
        except ValidationError as e:
            where, mistake = first_mistake(e)
            raise BadSettings(
                f"{file.name}: {where or 'parameters'}: {mistake}.", "Compare with the comments in the file."
            ) from None
