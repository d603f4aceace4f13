"""How good what is trained as of a past date would have been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Evaluated:
    """rows: one a model and group, beside its baseline, all with the same plain values; said: the verdict in sentences;
    about: more for programs."""

    rows: list[dict[str, Any]]
    said: list[str]
    about: dict[str, Any] = field(default_factory=dict)


def compared(
    customers: np.ndarray,
    metric: Callable[[Any, np.ndarray], float],
    ours: Any,
    theirs: Any,
    *,
    lower_is_better: bool = False,
) -> str:
    """`.293 against .261 (+.032, 95 % interval +.010 to +.054): better beyond chance`.

    metric: of what was said, on some customers (a mask (n,)); customers: ids (n,).
    """
    from controltower.models.publication import compare

    found = compare([(customers, lambda rows: (metric(ours, rows), metric(theirs, rows)))])
    up, down = ("worse", "better") if lower_is_better else ("better", "worse")
    verdict = f"{up} beyond chance" if found.low > 0 else f"{down} beyond chance" if found.high < 0 else None
    return (
        f"{found.first:.3f} against {found.second:.3f} ({found.first - found.second:+.3f}, 95 % interval"
        f" {found.low:+.3f} to {found.high:+.3f}): {verdict or 'the difference may be chance'}"
    )
