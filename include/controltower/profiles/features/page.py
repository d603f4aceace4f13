"""docs/features.md, made from the features' own descriptions."""

from __future__ import annotations

from controltower.profiles.features import NAMES, SUBJECTS

_HEAD = """# Features

What is known of each customer as of a moment, {count} numbers and the stage `lifecycle`. `controltower features`
computes them, audiences' rules name them, the propensity models learn from them. None reads a fact received after that
moment.
A customer without rows has 0 where a thing is counted; ages, shares and ratios are then unknown (empty), and so is
what is counted in a table of which the shop has no row (events, devices, coupons). A day is 24 hours, counted back
from the moment.

`make golden` writes this page from `profiles/features/`; a test fails when it is old.
"""

_TAIL = """
## Lifecycle

`lifecycle` is `prospect`, `new`, `active`, `lapsing` or `lost`; `profiles/lifecycle.py` holds the rules, which fit on a
page. Who moves between them is [told beside the profiles](profiles.md#stages-and-moves).
"""


def page() -> str:
    """Markdown: one table a subject, one line a feature."""
    text = _HEAD.format(count=len(NAMES))
    for subject in SUBJECTS:
        title = subject.__name__.rsplit(".", 1)[1].capitalize()
        text += f"\n## {title}\n\n{(subject.__doc__ or '').strip()}\n\n| Feature | What it is |\n|---|---|\n"
        text += "".join(f"| `{f.name}` | {f.description} |\n" for f in subject.FEATURES)
    return text + _TAIL
