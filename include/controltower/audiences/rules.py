"""The rules that make a segment; light to import, `segments.py` applies them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

INFERRED = ("inferred_", "told_or_inferred_")  # how columns begin that hold what is inferred of people
Number = Annotated[float, Field(allow_inf_nan=False)]


class Rule(BaseModel):
    """One condition on a feature or score; an unknown value never fits, unless `or_unknown`."""

    model_config = ConfigDict(extra="forbid")

    column: str = Field(
        description="a feature, score or profile, as `controltower features`, `score` and `profiles` list them"
    )
    at_least: Number | None = None
    at_most: Number | None = None
    is_in: list[str] | None = Field(default=None, min_length=1)
    or_unknown: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if self.is_in is None and self.at_least is None and self.at_most is None:
            raise ValueError("a rule needs at_least, at_most or is_in")
        if self.is_in is not None and (self.at_least is not None or self.at_most is not None):
            raise ValueError("a rule has either is_in or bounds, not both")
        return self
