"""Who is held out and who gets which variant: by hash, so that it is the same each time and holdouts nest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

GLOBAL_HOLDOUT = "global_holdout"  # spans campaigns
HOLDOUT = "holdout"


class Arms(NamedTuple):
    """Assignments, one a subject: whose arm is names[code], with its probability.

    A variant also has its share of the treated when it was drawn; of the held out that is no number.
    """

    names: Sequence[str]  # the two holdouts, then the variants
    code: NDArray[np.int64]
    probability: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def held_out(self) -> NDArray[np.bool_]:
        return self.code < 2


def units(salt: str, subjects: Sequence[bytes]) -> NDArray[np.float64]:
    """Each subject's fixed place in [0, 1) for one purpose; another salt gives independent places."""
    salted = hashlib.blake2b(f"{salt}\0".encode(), digest_size=8)
    digests = []
    for subject in subjects:
        digest = salted.copy()
        digest.update(subject)
        digests.append(digest.digest())
    return (np.frombuffer(b"".join(digests), ">u8") >> np.uint64(11)) / (1 << 53)


def assign(
    campaign: str,
    subjects: NDArray[np.int64],
    *,
    holdout: float,
    global_holdout: float,
    weights: Mapping[str, float],
    stored: pa.Table | None = None,
    occurrence: str | None = None,
) -> Arms:
    """The arms of subjects: the global holdout, the campaign's, else a variant by weight.

    A larger holdout keeps whom a smaller one held (nested). A variant, once assigned, stays while it exists: `stored`
    has subject_id, arm and its share then. Where the weights are learned it is drawn anew for each `occurrence`; who is
    held out stays the same.
    """
    names = [GLOBAL_HOLDOUT, HOLDOUT, *weights]
    texts = [b"%d" % subject for subject in subjects.tolist()]
    code = np.full(len(texts), -1)
    share = np.full(len(texts), np.nan)
    if stored is not None and occurrence is None:
        at = pc.index_in(pa.array(subjects), stored["subject_id"])
        kept = pc.index_in(stored["arm"].take(at), pa.array(names[2:]))
        found = np.flatnonzero(kept.is_valid())
        code[found] = kept.drop_null().to_numpy() + 2
        share[found] = stored["share"].take(at).to_numpy()[found]
    new = np.flatnonzero(code < 0)
    salt = f"variant:{campaign}" if occurrence is None else f"variant:{campaign}:{occurrence}"
    places = units(salt, [texts[n] for n in new.tolist()])
    total = sum(weights.values())
    shares = np.array([weight / total for weight in weights.values()])
    drawn = np.searchsorted(list(accumulate(shares[:-1])), places, side="right")
    code[new], share[new] = drawn + 2, shares[drawn]
    probability = (1 - global_holdout) * (1 - holdout) * share
    for n, salt, limit, likely in (
        (1, f"{HOLDOUT}:{campaign}", holdout, (1 - global_holdout) * holdout),
        (0, GLOBAL_HOLDOUT, global_holdout, global_holdout),
    ):
        held = units(salt, texts) < limit
        code[held], probability[held], share[held] = n, likely, np.nan
    return Arms(names, code, probability, share)
