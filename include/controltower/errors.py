"""What can go wrong, told in one sentence with its remedy.

The command line prints an error's text and exits with 1; Airflow shows it in the task's log.
"""


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
