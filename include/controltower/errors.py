"""What can go wrong, told in one sentence with its remedy.

The command line prints an error's text and exits with 1; Airflow shows it in the task's log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from yaml import YAMLError


class ControlTowerError(Exception):
    """A problem that the reader can mend: `what` names the thing, `remedy` says what to do."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what
        self.remedy = remedy


class BadSettings(ControlTowerError):
    """A setting is missing or can't be used."""


class BadSource(ControlTowerError):
    """A shop's data can't be read, or breaks the contract beyond the limit."""


class TryAgain(BadSource):
    """What passes by itself: another process was quicker, or a store can't be reached."""


class BadSpec(ControlTowerError):
    """A campaign spec or one of its templates is not valid."""


class NoData(ControlTowerError):
    """A stage needs what an earlier stage has not made yet."""


class Anomaly(ControlTowerError):
    """A plan is too odd to be frozen without somebody looking."""


class NotAllowed(ControlTowerError):
    """This person may not do that."""


class ProviderDown(ControlTowerError):
    """A provider refuses our credentials or can't be reached at all."""


def first_mistake(error: ValidationError) -> tuple[str, str]:
    """Where the first mistake is, as `sender.email`, empty for the whole; and what it is, in pydantic's words."""
    first = error.errors()[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")


def yaml_mistake(error: YAMLError | UnicodeDecodeError | OSError) -> str:
    """What keeps a file from being YAML, and in which line. Not the line itself: it may hold an address."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark else str(error).splitlines()[0]
