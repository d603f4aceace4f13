"""The shop file, `shop.yaml`: who sends, when nothing may be sent, how often, and how much through whom."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date, time
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

UTM_VALUE: Final = re.compile(r"\{(channel|campaign|variant)\}")
GRACE_HOURS = {"email": 72, "push": 1}  # mail is tried for three days; FCM tells nothing, at most a click does


class Sender(BaseModel):
    """Who the messages come from; the law wants name, contact and postal address in each."""

    model_config = ConfigDict(extra="forbid")

    name: str
    email: str
    contact: str = Field(description="telephone or address for questions, shown in every mail")
    postal_address: str
    reply_to: str | None = Field(default=None, description="where answers to mails go, if not to `email`")


class SendGridOptions(BaseModel):
    """What SendGrid does with the shop's mails beside sending them."""

    model_config = ConfigDict(extra="forbid")

    asm_group_id: int | None = Field(default=None, ge=1, description="the unsubscribe group that mails belong to")
    ip_pool_name: str | None = Field(default=None, min_length=2, max_length=64)
    categories: list[Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[ -~]+$")]] = Field(
        default=[], max_length=8, description="beside the campaign's own two; never personal data"
    )


class SeedList(BaseModel):
    """Who gets test sends: people of the shop, never customers."""

    model_config = ConfigDict(extra="forbid")

    email: list[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]] = Field(default=[], max_length=20, repr=False)
    push: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[], max_length=20, repr=False, description="the devices' push tokens"
    )


class FrequencyCap(BaseModel):
    """At most `most` messages per customer in a rolling window; no channel means all together."""

    model_config = ConfigDict(extra="forbid")

    most: int = Field(ge=1)
    days: int = Field(ge=1)
    channel: str | None = None


class Utm(BaseModel):
    """The UTM parameters of the links in messages, by which the shop's analytics tell where a visit came from.

    Each may hold {channel}, {campaign} and {variant}; an empty one is left out.
    """

    model_config = ConfigDict(extra="forbid")

    source: str = "controltower"
    medium: str = "{channel}"
    campaign: str = "{campaign}"
    content: str = "{variant}"

    @field_validator("*")
    @classmethod
    def _known_values(cls, value: str) -> str:
        if "{" in UTM_VALUE.sub("", value) or "}" in UTM_VALUE.sub("", value):
            raise ValueError(f"{value!r} may hold {{channel}}, {{campaign}} and {{variant}}, no other braces")
        return value


class QuietHours(BaseModel):
    """From `start` until `end`, also over midnight."""

    model_config = ConfigDict(extra="forbid")

    start: time
    end: time

    @model_validator(mode="after")
    def _not_always(self) -> QuietHours:
        if self.start == self.end:
            raise ValueError("quiet_hours must end at another time than they start")
        return self

    def hold(self, local: time) -> bool:
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end


Rate = Annotated[str, Field(pattern=r"^[1-9]\d{0,8}/(minute|hour|day)$")]  # messages


class WarmUp(BaseModel):
    """At most so many messages on each of the days from `start` on, as many as there are; any number later."""

    model_config = ConfigDict(extra="forbid")

    start: date
    days: list[Annotated[int, Field(ge=1)]] = Field(default=[50 * 2**n for n in range(15)], min_length=1)


class ProviderRules(BaseModel):
    """How much leaves through a provider, and when nothing does for a while; times in seconds."""

    model_config = ConfigDict(extra="forbid")

    rate: Rate | None = None
    per_domain: dict[str, Rate] = Field(default={}, description="by the recipients' domain; `*`: each other one")
    warm_up: WarmUp | None = None
    failures: int = Field(default=5, ge=1, description="so many calls in a row that fail pause it")
    pause: float = Field(default=60, ge=0, description="the first pause; each one in a row is twice as long")
    longest_pause: float = Field(default=3600, ge=0, description="also of what the provider asks for")
    pause_after_unknown: float = Field(default=60, ge=0, description="after an answer that was lost")
    complaints: float = Field(default=0.003, gt=0, le=1, description="a larger share pauses it until it is resumed")
    complaints_days: int = Field(default=7, ge=1, description="within so many days")
    complaints_of: int = Field(default=1000, ge=1, description="messages, fewer say nothing")


class Identity(BaseModel):
    """How far keys unite customers, and whose a visitor's anonymous history is."""

    model_config = ConfigDict(extra="forbid")

    customers_per_key: int = Field(default=3, ge=2, description="a key of more customers unites nobody")
    customers_per_person: int = Field(default=10, ge=2, description="no person has more customer ids")
    visitor_days: int = Field(
        default=30, ge=0, description="how long before its first log-in a visitor's history counts"
    )


# Days that what grows is kept, and the fewest: features look back a year, training some months more.
KEPT_DAYS: Mapping[str, tuple[int, int]] = {
    "events": (1095, 400), "messages_history": (1095, 400), "message_events": (1095, 400),
    "features": (180, 30), "scores": (180, 30), "recommendations": (180, 30), "profiles": (180, 30),
    "quarantine": (90, 1), "webhook_bodies": (30, 1), "event_bodies": (30, 1), "exports": (30, 1),
}  # fmt: skip


def kept_days(chosen: Mapping[str, int | None]) -> dict[str, int | None]:
    """For how many days each of these is kept, None: for good; as `chosen`, else by default."""
    return {name: days for name, (days, _) in KEPT_DAYS.items()} | dict(chosen)


class Shop(BaseModel):
    """The shop's own file, `shop.yaml` in the home."""

    model_config = ConfigDict(extra="forbid")

    name: str
    timezone: str = "UTC"
    country: str = Field(default="KR", description="ISO 3166 country, where a customer's own is unknown")
    currency: str = "KRW"
    locale: str = "en"
    sender: Sender
    url: str = Field(description="the shop's web site")
    global_holdout: float = Field(default=0.0, ge=0, le=0.5)
    explore_hours: float = Field(
        default=0.05, ge=0, le=1, description="share of messages sent at a random allowed hour, to learn from"
    )
    approve_above: int | None = Field(
        default=None, ge=0, description="a run of more messages waits for a second person; none: no run does"
    )
    stale_after_hours: int = Field(
        default=36, ge=1, description="campaigns aren't planned on features and scores older than this"
    )
    data_stale_hours: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={"events": 48, "orders": 168},
        description="by table: campaigns aren't planned when its newest fact is older; another table, another key",
    )
    retention_days: dict[str, int | None] = Field(
        default={}, description="how long what grows is kept, by name (docs/privacy.md); null: for good"
    )
    attribution_days: int = Field(default=7, ge=1, le=90, description="how long a message may have caused an order")
    recorded_orders: bool = Field(
        default=False, description="the orders are a recording of the past: no message of ours can have caused them"
    )
    frequency_caps: list[FrequencyCap] = []
    message_costs: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="by channel: what one message costs, in the shop's currency; default: nothing"
    )
    utm: Utm | Literal[False] = Field(
        default=Utm(), description="the UTM parameters of links to the shop; false: none are added"
    )
    sendgrid: SendGridOptions = SendGridOptions()
    providers: dict[str, ProviderRules] = Field(default={}, description="by the provider's name")
    recommendations: dict[str, Any] = Field(
        default={}, description="rules of the lists by placement (docs/recommendations.md)"
    )
    seed_list: SeedList = Field(default=SeedList(), description="who gets test sends: `controltower campaign test`")
    identity: Identity = Identity()
    quiet_hours: QuietHours | None = Field(default=None, description="nothing is sent then, in the customer's own time")
    grace_hours: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default=GRACE_HOURS, description="by channel: how long a message is waited for whose answer was lost"
    )
    simulated: list[str | dict[str, str]] = Field(
        default=[], description="what in the data is made up, shown where it shows; as text, or as text by language"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Seoul") from None
        return value

    @field_validator("grace_hours")
    @classmethod
    def _each_channel(cls, value: dict[str, int]) -> dict[str, int]:
        return GRACE_HOURS | value

    @field_validator("retention_days")
    @classmethod
    def _not_too_short(cls, value: dict[str, int | None]) -> dict[str, int | None]:
        for name, days in value.items():
            if name not in KEPT_DAYS:
                raise ValueError(f"{name!r} isn't kept by days; what is: {', '.join(KEPT_DAYS)}")
            if days is not None and days < KEPT_DAYS[name][1]:
                raise ValueError(
                    f"{name} must be kept for {KEPT_DAYS[name][1]} days at least: they are read for so long"
                )
        return value

    @field_validator("country", "currency")
    @classmethod
    def _iso_code(cls, value: str, field: ValidationInfo) -> str:
        letters = 2 if field.field_name == "country" else 3
        if not re.fullmatch(f"[A-Za-z]{{{letters}}}", value):
            raise ValueError(f"{value!r} is not an ISO code of {letters} letters")
        return value.upper()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def seen_hash(self) -> str:
        """Changes with what recipients see: who writes, where answers, refusals and clicks go, which label is due."""
        seen = {"name", "url", "locale", "country", "timezone", "sender", "utm", "simulated"}
        kept = self.model_dump(mode="json", include=seen) | {"asm_group_id": self.sendgrid.asm_group_id}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    def rules_of(self, provider: str) -> ProviderRules:
        return self.providers.get(provider) or ProviderRules()

    def made_up(self, language: str) -> list[str]:
        """What is `simulated`, in a language where it is written in it, else in English, else as it is."""
        return [
            text if isinstance(text, str) else text.get(language) or text.get("en") or next(iter(text.values()), "")
            for text in self.simulated
        ]
