"""The one interface of all models: a validated config, a state of plain arrays, and folders to keep both in."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

State = dict[str, np.ndarray]


class ModelConfig(BaseModel):
    """What a model can be told; equal configs, data and seeds give equal models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 7


class Model(ABC):
    """A model by name; subclasses declare `Config` and turn what they learned into arrays and back.

    Kinds of models (recommend.base.Recommender, propensity.Classifier, send_time.SendTime) add the public `fit` and
    `recommend` or `predict`, which validate and order what comes in; their subclasses write `_fit` and `_score`.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]] = ModelConfig

    def __init__(self, config: ModelConfig | None = None) -> None:
        self.config = config if config is not None else self.Config()
        if not isinstance(self.config, self.Config):
            raise TypeError(f"{type(self).__name__} takes a {self.Config.__qualname__}")

    @abstractmethod
    def _state(self) -> State:
        """What `fit` learned, as arrays without Python objects."""

    @abstractmethod
    def _restore(self, state: State) -> None:
        """The inverse of `_state`."""

    def save(self, folder: Path) -> None:
        """Write config.json and state.npz into an existing folder; equal models give equal bytes."""
        (folder / "config.json").write_text(self.config.model_dump_json(), encoding="utf-8")
        np.savez(folder / "state.npz", allow_pickle=False, **self._state())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model that `save` wrote. The registry checks the files against the card before."""
        model = cls(cls.Config.model_validate(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
        with np.load(folder / "state.npz", allow_pickle=False) as state:
            model._restore(dict(state))
        return model


@dataclass(frozen=True)
class Outcome:
    """What a training came to: the model that serves, and how challenger and baseline did on the time split."""

    name: str
    model: Model
    challenger: str
    published: bool
    why: str
    metric: str
    metrics: dict[str, float]
    baseline: str
    baseline_metrics: dict[str, float]
    window: tuple[datetime, datetime] | None
    rows: dict[str, int]
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def untried(
        cls,
        name: str,
        model: Model,
        challenger: type[Model],
        why: str,
        metric: str,
        rows: dict[str, int],
        window: tuple[datetime, datetime] | None = None,
    ) -> Outcome:
        """Of too few data: the model is what serves then, nothing was compared, and `why` says so in a sentence."""
        details: dict[str, Any] = {"backtest": []}
        return cls(name, model, challenger.name, False, why, metric, {}, model.name, {}, window, rows, details)
