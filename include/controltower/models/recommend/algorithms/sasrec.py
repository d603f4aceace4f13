"""What comes next, by a small transformer over the sequence of what the customer took (SASRec, Kang and McAuley 2018).

For shops with long histories in which the order says something. It is taught with a softmax over many products drawn in
common, as one product against one makes it overconfident (Klenitskiy and Vasilev 2023; Petrov and Macdonald 2023).
PyTorch teaches it (`pip install 'controltower[transformer]'`); what it learned are arrays, and NumPy answers with them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from controltower.models.base import ModelConfig, State
from controltower.models.recommend.algorithms.nearest import SCATTER, asked_for
from controltower.models.recommend.base import Scorer
from controltower.models.recommend.interactions import Interactions
from controltower.models.recommend.scores import Factors, Scores
from controltower.profiles.portable import DAY

TOGETHER = 512  # sequences of one length that go through the layers together: what they need stays below 100 MB
SMALL = 1e-5  # added to variances


class Sasrec(Scorer):
    """A customer's vector is what the transformer expects after the latest entries; it scores the products' vectors."""

    name: ClassVar[str] = "sasrec"
    most_products: ClassVar[int | None] = 200_000  # each step of the training moves all vectors

    class Config(ModelConfig):
        length: int = Field(50, ge=1)  # latest entries that are looked at
        dim: int = 64  # of the vectors
        blocks: int = Field(2, ge=1)
        heads: int = 1
        dropout: float = 0.5  # within the layers
        entry_dropout: float = 0.2  # of what goes into them
        negatives: int = 1024  # products drawn for a batch; where there are no more, all of them
        batch: int = 128  # sequences a step
        learning_rate: float = 1e-3
        entries: int = 4_000_000  # to be foretold in all passes together: that bounds the training on any machine
        passes: int = 30  # at most
        seconds: float = 400.0  # of CPU; who is slower stops there, and then two trainings may differ

    config: Config
    parameters: State  # see `shapes`

    @classmethod
    def missing(cls) -> str | None:
        """Why PyTorch can't be loaded here, if so."""
        try:
            import torch  # noqa: F401
        except (ImportError, OSError) as e:
            lacks = isinstance(e, ModuleNotFoundError) and e.name == "torch"
            why = "isn't installed" if lacks else f"can't be loaded ({e})"
            return f"PyTorch {why}: pip install 'controltower[transformer]'"
        return None

    def _fit(self, interactions: Interactions) -> None:
        from controltower.models.recommend.algorithms.sasrec_training import train

        self.parameters = train(interactions, self.config)

    def _score(self, history: Interactions, rows: np.ndarray) -> Scores:
        asked = asked_for(history, rows)
        scatter = (asked.second + asked.product) * SCATTER % 2**32  # the order within a second is not a matter of ids
        entry = in_order(asked, scatter)
        owner, product = asked.customer[entry], asked.product[entry]
        stop = np.searchsorted(owner, np.arange(len(rows)), side="right")
        size = np.minimum(stop - np.searchsorted(owner, np.arange(len(rows))), self.config.length)
        users = np.zeros((len(rows), self.parameters["products"].shape[1]), np.float32)
        for length in np.unique(size[size > 0]):
            mine = np.flatnonzero(size == length)
            for some in np.array_split(mine, -(-len(mine) // TOGETHER)):
                users[some] = self.vectors(product[stop[some, None] - np.arange(length, 0, -1)])
        return Factors(users, self.parameters["products"])

    def vectors(self, products: np.ndarray) -> np.ndarray:
        """What is expected after sequences of positions of products, rows x length, the latest last: rows x dim."""
        p, heads = self.parameters, self.config.heads
        rows, length = products.shape
        dim = p["products"].shape[1]
        x = p["products"][products] * np.float32(np.sqrt(dim)) + p["positions"][:length]
        later = np.triu(np.full((length, length), -np.inf, np.float32), 1)
        blocks = len(p["attend"])
        for b in range(blocks):
            y = _normed(x, p["norms"][b, :2]).reshape(-1, dim) @ p["attend"][b] + p["attend_bias"][b]
            y = y.reshape(rows, length, 3, heads, dim // heads).transpose(2, 0, 3, 1, 4)
            asks = y[0]
            if b == blocks - 1:  # of the last one only the last place matters
                asks, later, x = asks[:, :, -1:], later[-1:], x[:, -1:]
            weight = asks @ y[1].transpose(0, 1, 3, 2) * np.float32((dim // heads) ** -0.5) + later
            weight = np.exp(weight - weight.max(axis=-1, keepdims=True))
            weight /= weight.sum(axis=-1, keepdims=True)
            seen = (weight @ y[2]).transpose(0, 2, 1, 3).reshape(-1, dim)
            x = x + (seen @ p["join"][b] + p["join_bias"][b]).reshape(x.shape)
            inner = np.maximum(_normed(x, p["norms"][b, 2:]).reshape(-1, dim) @ p["inner"][b] + p["inner_bias"][b], 0)
            x = x + (inner @ p["outer"][b] + p["outer_bias"][b]).reshape(x.shape)
        return _normed(x[:, -1], p["last_norm"])

    def _learned(self) -> State:
        return self.parameters

    def _relearn(self, state: State) -> None:
        self.parameters = {name: state[name] for name in shapes(self.config, 0)}


def shapes(config: Sasrec.Config, products: int) -> dict[str, tuple[int, ...]]:
    """The parameters; `norms` are a block's two layer norms: scale and shift of each."""
    d, b = config.dim, config.blocks
    return {
        "products": (products, d),
        "positions": (config.length, d),
        "norms": (b, 4, d),
        "attend": (b, d, 3 * d),
        "attend_bias": (b, 3 * d),
        "join": (b, d, d),
        "join_bias": (b, d),
        "inner": (b, d, d),
        "inner_bias": (b, d),
        "outer": (b, d, d),
        "outer_bias": (b, d),
        "last_norm": (2, d),
    }


def in_order(interactions: Interactions, tie: np.ndarray) -> np.ndarray:
    """The entries by customer and second, those of one second by `tie`.

    Of a product that comes several times in a row on one day (viewed, put into the cart, ordered) only the last.
    """
    order = np.lexsort((tie, interactions.second, interactions.customer))
    same = np.zeros(len(order), dtype=bool)
    now, then = order[:-1], order[1:]
    same[:-1] = interactions.customer[now] == interactions.customer[then]
    same[:-1] &= interactions.product[now] == interactions.product[then]
    same[:-1] &= interactions.second[now] // DAY == interactions.second[then] // DAY
    return order[~same]


def _normed(x: np.ndarray, norm: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(SMALL)) * norm[0] + norm[1]
