"""Versioned models with their cards, in HOME/models/<name>/<version>/.

A version is written into a folder nobody reads (in HOME/models/.scratch), renamed into place, and then named by the
pointer file of its as_of date, which is replaced atomically: readers see the old version or the new one, whole.
Versions are never changed.

Tree models are stored by joblib, which is pickle: loading runs what is in the file. So the card keeps a SHA-256 of
every file, and nothing is unpacked whose bytes differ from it. That finds damage and mix-ups; it is no guard against
someone who may write to the home, who could change the card too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

import controltower
from controltower.data.scratch import scratch_below
from controltower.errors import BadSettings, NoData
from controltower.models.base import Model
from controltower.settings import Settings

M = TypeVar("M", bound=Model)
PACKAGE = Path(__file__).resolve().parents[1]


class Card(BaseModel):
    """What one needs to know before trusting a version.

    `published` says whether the challenger beat the baseline on the time split. A challenger that didn't isn't stored:
    the folder holds `serves`, which is the challenger if published, else the baseline. `files` (SHA-256),
    `code_version` and `version` are set by `Registry.store`.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    as_of: datetime
    trained_at: datetime
    window: tuple[datetime, datetime] | None  # the facts and labels it learned from
    challenger: str
    serves: str
    published: bool
    why: str
    metric: str  # the one that decides
    metrics: dict[str, float]
    baseline: str
    baseline_metrics: dict[str, float]
    rows: dict[str, int]
    seed: int
    details: dict[str, Any] = {}
    code_version: str = ""
    version: str = ""
    files: dict[str, str] = {}


class Registry:
    """The models of one home."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def store(self, model: Model, card: Card) -> Card:
        """Keep the model that is to serve (see `Card.published`) as the version of its as_of date.

        Returns the card as written. The version id holds as_of and a digest of the files and of what the card says of
        them: the same code trained on the same data gives the same version.
        """
        home = self.root / card.name
        home.mkdir(parents=True, exist_ok=True)
        with scratch_below(self.root / ".scratch") as folder:  # what a killed training left there is swept
            fresh = folder / "model"
            fresh.mkdir()
            model.save(fresh)
            files = {str(p.relative_to(fresh)): _digest(p) for p in sorted(fresh.rglob("*")) if p.is_file()}
            written = card.model_copy(update={"files": files, "code_version": code_version(), "version": ""})
            said = json.dumps(written.model_dump(mode="json", exclude={"trained_at"}), sort_keys=True)
            version = f"{_key(card.as_of)}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
            written = written.model_copy(update={"version": version})
            (fresh / "card.json").write_text(written.model_dump_json(indent=1), encoding="utf-8")
            try:
                fresh.rename(home / version)
            except OSError:
                if not (home / version / "card.json").is_file():
                    raise
                written = _card(home / version)  # the same is here already
            pointer = folder / "pointer"
            pointer.write_text(json.dumps({"version": version}), encoding="utf-8")
            pointer.replace(home / f"{_key(card.as_of)}.json")
        return written

    def names(self) -> list[str]:
        """The models of which there is a version. A first training leaves a folder before it leaves a version."""
        return sorted({pointer.parent.name for pointer in self.root.glob("*/[0-9]*.json")})

    def card(self, name: str, as_of: datetime | None = None) -> Card:
        """The card of the newest version trained as of a date not later than `as_of`. NoData where there is none."""
        return _card(self._folder(name, as_of))

    def load(self, name: str, as_of: datetime | None, kinds: Iterable[type[M]]) -> tuple[M, Card]:
        """The newest version trained as of a date not later than `as_of`, and its card.

        `kinds` are the classes it may be of. Raises NoData where there is none, BadSettings where files were changed.
        """
        folder = self._folder(name, as_of)
        card = _card(folder)
        for file, digest in card.files.items():
            if not (folder / file).is_file() or _digest(folder / file) != digest:
                raise BadSettings(
                    f"{folder / file} is not the file that model {card.version} was stored with.",
                    f"Delete the folder {folder} and run `controltower train` again.",
                )
        for kind in kinds:
            if kind.name == card.serves:
                with contextlib.suppress(KeyError, ValidationError):  # it learned something else then
                    return kind.load(folder), card
        raise BadSettings(
            f"Model {name} {card.version} is a {card.serves!r}, which this version of Control Tower doesn't know.",
            "Run `controltower train` again.",
        )

    def _folder(self, name: str, as_of: datetime | None) -> Path:
        home = self.root / name
        limit = _key(as_of) if as_of else "~"
        newest = max((p.stem for p in home.glob("[0-9]*.json") if p.stem <= limit), default=None)
        if newest is None:
            until = f" trained as of {as_of.astimezone(UTC):%Y-%m-%d %H:%M} UTC or earlier" if as_of else ""
            raise NoData(f"There is no model {name}{until}.", "Run `controltower train` (with --as-of) first.")
        return home / json.loads((home / f"{newest}.json").read_text(encoding="utf-8"))["version"]


def in_service(settings: Settings) -> dict[str, dict[str, Any]]:
    """By model name, the newest version in short: what serves, the challenger's and the baseline's metrics."""
    registry = Registry(settings.home / "models")
    return {
        card.name: {
            "version": card.version,
            "serves": card.serves,
            "challenger": card.challenger,
            "published": card.published,
            "metrics": card.metrics,
            "baseline": card.baseline,
            "baseline_metrics": card.baseline_metrics,
        }
        for card in map(registry.card, registry.names())
    }


@cache
def code_version() -> str:
    """The package's version and a digest of the code that features and models are made by."""
    digest = hashlib.sha256()
    for room in ("profiles", "models"):
        for path in sorted((PACKAGE / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return f"{controltower.__version__}+{digest.hexdigest()[:8]}"


def _key(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _card(folder: Path) -> Card:
    return Card.model_validate_json((folder / "card.json").read_text(encoding="utf-8"))
