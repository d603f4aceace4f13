"""Campaign specs: YAML files, reviewed like code, validated here.

Light to import: the DAG file for campaigns reads every spec each time it is parsed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from controltower.audiences.rules import INFERRED, Rule
from controltower.errors import BadSpec, first_mistake, yaml_mistake

Channel = Literal["email", "push", "in_app"]
Goal = Literal["clicks", "conversions", "revenue", "margin", "retention", "incremental", "acquire"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Audience(_Part):
    """Who it is for: every rule must fit; the highest `order_by`, or who brings most of `goal`, comes first."""

    rules: list[Rule] = []
    order_by: str = "propensity_28d"
    goal: Goal | None = Field(default=None, description="of whom nothing is expected isn't written to")
    within: float = Field(default=7, gt=0, le=365, description="days in which what the goal wants is to come")
    at_most: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="most customers, the highest score first"
    )

    @model_validator(mode="after")
    def _says_who(self) -> Audience:
        if not self.rules and self.goal is None:
            raise ValueError("an audience needs a rule, or a goal")
        if self.goal is not None and self.order_by != Audience.model_fields["order_by"].default:
            raise ValueError("an audience has either order_by or a goal, not both")
        return self

    @property
    def ranked_by(self) -> str:
        """The column whose highest come first; of a goal it is computed when the audience is gathered."""
        return "expected_of_goal" if self.goal else self.order_by

    @property
    def inferred(self) -> list[str]:
        """The columns it names that hold what is inferred of people."""
        named = {self.ranked_by, *(rule.column for rule in self.rules)}
        return sorted(name for name in named if name.startswith(INFERRED))


class Window(_Part):
    """When a message may arrive, in the customer's local time, and for how long it is worth sending."""

    start: time = time(8)
    end: time = time(21)
    hours: int = Field(default=24, ge=1, le=72, description="each is due within so many hours after planning")
    expires_hours: int = Field(
        default=24, ge=1, le=168, description="dropped when it is later than its due time by this"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Window:
        if self.start >= self.end:
            raise ValueError("the window's start must be before its end")
        return self


class Variant(_Part):
    """A creative: its subject line (e-mail), its title and text (push, in-app), as Jinja text by language."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    weight: float = Field(default=1.0, gt=0)
    subject: dict[str, str] = Field(min_length=1)
    preheader: dict[str, str] = {}
    push_title: dict[str, str] = {}
    push_body: dict[str, str] = {}
    in_app_title: dict[str, str] = {}
    in_app_body: dict[str, str] = {}


class Recommend(_Part):
    """The products in each message."""

    placement: str = "for_you"
    products: int = Field(default=6, ge=1, le=12)
    minimum: int = Field(default=1, ge=0, description="with fewer, no message: reason `too_few_products`")


class Spec(_Part):
    """A campaign: an intent with its audience, its arms and its words."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")
    title: str
    description: str
    owner: str
    purpose: Literal["marketing"] = "marketing"
    schedule: str = Field(default="after_scores", description="`after_scores`, or a cron line in the shop's zone")
    template: str = Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")
    channels: list[Channel] = Field(
        min_length=1, description="in order of preference; a message takes the first allowed"
    )
    channel_choice: Literal["order", "expected"] = Field(
        default="order", description="of the allowed channels: the first, or the one expected to bring most"
    )
    audience: Audience
    holdout: float = Field(default=0.1, ge=0, le=0.9, description="share withheld to measure the campaign's worth")
    variants: list[Variant] = Field(min_length=1)
    allocation: Literal["fixed", "learned"] = Field(
        default="fixed", description="shares of the variants: their weights, or what clicks have taught"
    )
    approve_above: int | None = Field(
        default=None, ge=0, description="more messages than this wait for a second person; may only be below the shop's"
    )
    attribution_days: int | None = Field(default=None, ge=1, le=90, description="default: the shop's")
    delivery: Literal["at_most_once", "at_least_once"] = Field(
        default="at_most_once", description="of a message whose answer was lost: leave it, or send it again"
    )
    grace_hours: dict[Channel, Annotated[int, Field(ge=1, le=168)]] = Field(
        default={}, description="how long to wait for an event before that; default: the shop's"
    )
    recommend: Recommend = Recommend()
    window: Window = Window()

    @field_validator("schedule")
    @classmethod
    def _cron_or_asset(cls, value: str) -> str:
        if value != "after_scores" and not re.fullmatch(r"[\d*/,\-]+( [\d*/,\-A-Za-z#]+){4}", value):
            raise ValueError(f"{value!r} is neither `after_scores` nor a cron line such as `0 9 * * 1`")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Spec:
        names = [v.name for v in self.variants]
        if len(set(names)) < len(names):
            raise ValueError("two variants have the same name")
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("a channel is named twice")
        for variant in self.variants:
            for channel in ("push", "in_app"):
                needed = (f"{channel}_title", f"{channel}_body")
                if channel in self.channels and not all(getattr(variant, name) for name in needed):
                    raise ValueError(
                        f"variant {variant.name} needs {' and '.join(needed)}: the campaign uses {channel}"
                    )
        expires = self.window.expires_hours
        called = [c for c in self.channels if c != "in_app"]  # an in-app message is never unknown: nobody is called
        if self.delivery == "at_least_once" and any(self.grace_hours.get(c, expires) >= expires for c in called):
            raise ValueError(
                f"at_least_once needs grace_hours for each channel, below the window's expires_hours ({expires}):"
                " what has expired isn't sent again"
            )
        return self

    @property
    def hash(self) -> str:
        """Changes with anything that the spec says."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class BrokenSpec:
    """A spec file that can't be used, and why: it becomes one DAG that shows the error."""

    name: str
    error: str


def load_specs(folder: Path) -> list[Spec | BrokenSpec]:
    """Every spec of a folder by file name; a broken one doesn't keep the others from loading."""
    if not folder.is_dir():
        raise BadSpec(f"There is no folder of campaign specs at {folder}.", "Set CONTROLTOWER_CAMPAIGNS.")
    found: list[Spec | BrokenSpec] = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".yaml", ".yml"}):
        try:
            found.append(read_spec(path))
        except BadSpec as e:
            found.append(BrokenSpec(re.sub(r"[^a-z0-9_]", "_", path.stem.lower()), str(e)))
    return found


def read_spec(path: Path) -> Spec:
    """One spec, validated; BadSpec names the file, the place in it and what is wrong."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise BadSpec(f"{path.name} is not valid YAML: {yaml_mistake(e)}.") from None
    if not isinstance(raw, dict):
        raise BadSpec(f"{path.name} holds no campaign spec.", "See include/campaigns for an example.")
    spec = validate(raw, path.name)
    if spec.name != path.stem:
        raise BadSpec(f"{path.name}: name is {spec.name!r}.", f"Call it {path.stem!r}, like the file.")
    return spec


def validate(raw: dict[str, Any], source: str) -> Spec:
    """A spec from plain values."""
    try:
        return Spec.model_validate(raw)
    except ValidationError as e:
        where, mistake = first_mistake(e)
        more = f" ({e.error_count() - 1} more)" if e.error_count() > 1 else ""
        raise BadSpec(f"{source}: {where or 'the spec'}: {mistake}{more}.") from None


def find_spec(folder: Path, name: str) -> Spec:
    """The campaign of that name."""
    known = []
    for spec in load_specs(folder):
        known.append(spec.name)
        if spec.name == name:
            if isinstance(spec, BrokenSpec):
                raise BadSpec(spec.error)
            return spec
    raise BadSpec(f"There is no campaign {name!r}.", f"Known: {', '.join(known) or 'none'}.")
