"""How SASRec is taught, by PyTorch on one core; `sasrec` answers with what comes out, without it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from controltower.models.base import State
from controltower.models.recommend.algorithms.sasrec import SMALL, Sasrec, in_order, shapes
from controltower.models.recommend.interactions import Interactions, Weights

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("controltower")

TIMELESS = Weights(order_half_life=0, event_half_life=0)
SPREAD = 0.02  # standard deviation of the first parameters
ALIKE = 16  # batches whose sequences are sorted by length, so that few places are left empty
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # what was taken, what came next, its weight: sequences x places


def train(interactions: Interactions, config: Sasrec.Config) -> State:
    """The parameters that foretell each entry best from those before it. Needs PyTorch.

    A product without entries has a vector of zeros, and no say. Which entries of one second come first is drawn anew in
    each pass.
    """
    import torch

    seen, product = np.unique(interactions.product, return_inverse=True)
    rng = np.random.default_rng(config.seed)
    made = {name: _first(name, shape, rng) for name, shape in shapes(config, len(seen)).items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            parameters = {name: torch.from_numpy(a).requires_grad_() for name, a in made.items()}
            _teach(parameters, interactions, product, config, rng)
            learned = {name: p.detach().numpy() for name, p in parameters.items()}
    finally:
        torch.set_num_threads(threads)
    return _centred(learned, seen, interactions.shape[1])


def _first(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    values = np.zeros(shape) if name.endswith("bias") else rng.normal(0.0, SPREAD, shape)
    if name in ("norms", "last_norm"):
        values[...] = 0.0
        values[..., ::2, :] = 1.0
    return values.astype(np.float32)


def _centred(learned: State, seen: np.ndarray, products: int) -> State:
    """The vectors less their mean, which changes no order: so what scores above 0 is above the average product.

    The mean goes into the positions, so that the layers get what they got.
    """
    vectors = learned["products"]
    dim = vectors.shape[1]
    mean = vectors.mean(axis=0) if len(vectors) else np.zeros(dim, np.float32)
    everything = np.zeros((products, dim), np.float32)
    everything[seen] = vectors - mean
    positions = learned["positions"] + mean * np.float32(np.sqrt(dim))
    return learned | {"products": everything, "positions": positions}


def _teach(
    parameters: dict[str, Tensor], interactions: Interactions, product: np.ndarray, config: Sasrec.Config,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Adam over the batches of some passes. product: of the entries, as a position among those seen."""
    import torch

    weight = interactions.weight(TIMELESS)
    planned = min(config.entries, config.passes * (len(product) - len(np.unique(interactions.customer))))
    start, foretold, passes = time.process_time(), 0, 0
    optimizer = torch.optim.Adam(list(parameters.values()), lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    while foretold < planned:
        before = foretold
        for batch in batches(interactions, product, weight, config, rng):
            for group in optimizer.param_groups:  # ever smaller steps settle what the first ones found
                group["lr"] = config.learning_rate * max(0.0, 1 - foretold / planned)
            optimizer.zero_grad()
            _loss(parameters, batch, config, rng).backward()
            optimizer.step()
            foretold += int((batch[2] > 0).sum())
            if time.process_time() - start > config.seconds:
                log.warning(
                    "sasrec: stopped after %.0f CPU-seconds and %d of %d entries; another training may differ",
                    config.seconds, foretold, planned,
                )  # fmt: skip
                return
            if foretold >= planned:
                break
        if foretold == before:
            break  # the same product again and again on one day: nothing comes next
        passes += 1
    log.info("sasrec: foretold %d entries in %d passes", foretold, passes)


def batches(
    interactions: Interactions, product: np.ndarray, weight: np.ndarray, config: Sasrec.Config,
    rng: np.random.Generator,
) -> Iterator[Batch]:  # fmt: skip
    """All sequences of one pass, in random order; what is longer than the config's length in several pieces."""
    entry = in_order(interactions, rng.random(len(interactions)))
    owner = interactions.customer[entry]
    last = np.searchsorted(owner, owner, side="right") - 1
    after = last - np.arange(len(owner))  # entries of the same customer
    stop = np.flatnonzero((after % config.length == 0) & (np.searchsorted(owner, owner) < np.arange(len(owner))))
    size = np.minimum(stop - np.searchsorted(owner, owner[stop]), config.length)  # to be foretold
    order = rng.permutation(len(stop))
    groups = []
    for first in range(0, len(order), ALIKE * config.batch):
        some = order[first : first + ALIKE * config.batch]
        some = some[np.argsort(size[some], kind="stable")]
        groups += [some[i : i + config.batch] for i in range(0, len(some), config.batch)]
    for i in rng.permutation(len(groups)):
        mine = groups[i]
        place = np.arange(size[mine].max())
        there = place < size[mine, None]
        at = np.where(there, stop[mine, None] - size[mine, None] + place, stop[mine, None] - 1)
        yield product[entry[at]], product[entry[at + 1]], np.where(there, weight[entry[at + 1]], 0.0)


def _loss(parameters: dict[str, Tensor], batch: Batch, config: Sasrec.Config, rng: np.random.Generator) -> Tensor:
    """Cross-entropy of what came next among the products drawn."""
    import torch
    from torch.nn.functional import embedding

    taken, target, weight = batch
    there = weight > 0
    vectors = parameters["products"]
    count, most = len(vectors), config.negatives
    drawn = torch.from_numpy(np.arange(count) if count <= most else rng.integers(0, count, most))
    wanted = torch.from_numpy(target[there])
    expected = forward(parameters, torch.from_numpy(taken), config, taught=True)[torch.from_numpy(there)]
    right = (expected * embedding(wanted, vectors)).sum(dim=1, keepdim=True)
    others = expected @ embedding(drawn, vectors).T
    others = others.masked_fill(drawn == wanted[:, None], -torch.inf)
    losses = torch.logsumexp(torch.cat([right, others], dim=1), dim=1) - right[:, 0]
    counts = torch.from_numpy(weight[there].astype(np.float32))
    return (losses * counts).sum() / counts.sum()


def forward(parameters: dict[str, Tensor], products: Tensor, config: Sasrec.Config, *, taught: bool = False) -> Tensor:
    """What is expected after each place of sequences of products: sequences x places x dim.

    Empty places may only stand at the end: no other looks at them. taught: with dropout.
    """
    import torch
    from torch.nn.functional import dropout, embedding, layer_norm

    p, heads, dim = parameters, config.heads, config.dim
    rows, length = products.shape

    def normed(x: Tensor, norm: Tensor) -> Tensor:
        return layer_norm(x, (dim,), norm[0], norm[1], SMALL)

    def dropped(x: Tensor, share: float = config.dropout) -> Tensor:
        return dropout(x, share, taught)

    later = torch.full((length, length), -torch.inf).triu(1)
    x = dropped(embedding(products, p["products"]) * dim**0.5 + p["positions"][:length], config.entry_dropout)
    for b in range(config.blocks):
        y = normed(x, p["norms"][b, :2]) @ p["attend"][b] + p["attend_bias"][b]
        asks, keys, values = y.view(rows, length, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        weight = (asks @ keys.transpose(2, 3) * (dim // heads) ** -0.5 + later).softmax(dim=3)
        seen = (dropped(weight) @ values).transpose(1, 2).reshape(rows, length, dim)
        x = x + dropped(seen @ p["join"][b] + p["join_bias"][b])
        inner = (normed(x, p["norms"][b, 2:]) @ p["inner"][b] + p["inner_bias"][b]).relu()
        x = x + dropped(dropped(inner) @ p["outer"][b] + p["outer_bias"][b])
    return normed(x, p["last_norm"])
