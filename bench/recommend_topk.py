"""The exact best ten of 100,000 products for a million customers, 64 factors, beside `recommend` of implicit.

A tenth of the products isn't allowed, and each customer has ten more that are barred. Once with lengths of products
that vary (log-normal, sigma 0.5; those of ALS on two shops' real data have 0.6 to 0.7), and once with equal ones: there
no product can be left out, the hardest case. Naive is implicit's time for 20,000 customers, scaled; they must get the
same products. The matrix product alone, of the allowed products, in blocks that are written over, bounds what leaves
none out: measured for a tenth of the customers, scaled. Two threads each. Every way has a process of its own, whose
peak holds 320 MB of input; compiling isn't counted.
`python -m bench recommend_topk`; RECOMMEND_CUSTOMERS says for how many (1,000,000).
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from controltower.models.recommend.topk import exact_top
from threadpoolctl import threadpool_limits

CUSTOMERS = int(os.environ.get("RECOMMEND_CUSTOMERS", "1000000"))
PRODUCTS, FACTORS, N, BARRED, THREADS = 100_000, 64, 10, 10, 2
SLICE = min(20_000, CUSTOMERS)
KINDS = {"lengths that vary": 0.5, "equal lengths": 0.0}  # sigma

Data = tuple[np.ndarray, np.ndarray, np.ndarray, sp.csr_matrix]
Measured = tuple[float, float, float, np.ndarray]  # wall and CPU seconds, MB, what the slice's customers got


def run() -> list[dict[str, Any]]:
    size = f"exact top {N}, {CUSTOMERS:,} x {PRODUCTS:,}"
    results = []
    for kind, sigma in KINDS.items():
        ours, theirs = _alone(_ours, CUSTOMERS, sigma), _alone(_implicit, SLICE, sigma)
        agree = np.mean(ours[3] == theirs[3])
        assert agree > 0.999, f"only {agree:.2%} are the same"  # implicit's are rounded more, so some change places
        times = CUSTOMERS / SLICE
        results += [
            {"name": f"{size}, {kind}: wall", "value": ours[0], "unit": "s", "naive": theirs[0] * times},
            {"name": f"{size}, {kind}: CPU", "value": ours[1], "unit": "CPU-s", "naive": theirs[1] * times},
            {"name": f"{size}, {kind}: peak", "value": ours[2], "unit": "MB"},
        ]
    some = max(1, CUSTOMERS // 10)
    wall, cpu, _, _ = _alone(_product, some, 0.0)
    name = f"the matrix product alone, {CUSTOMERS:,} x {PRODUCTS:,}"
    results.append({"name": f"{name}: wall", "value": wall * CUSTOMERS / some, "unit": "s"})
    results.append({"name": f"{name}: CPU", "value": cpu * CUSTOMERS / some, "unit": "CPU-s"})
    return results


def _alone(way: Callable[..., Any], customers: int, sigma: float) -> Measured:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (way, customers, sigma))


def _measured(way: Callable[..., Any], customers: int, sigma: float) -> Measured:
    rows, products, allowed, own = _made(customers, sigma)
    way(rows[:50], products, allowed, own[:50])  # compiles, and starts threads
    wall, cpu = time.perf_counter(), time.process_time()
    found = way(rows, products, allowed, own)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, found[:SLICE].copy()


def _made(customers: int, sigma: float) -> Data:
    """The first customers are the same ones, however many are made."""
    rng = np.random.default_rng(1)
    products = rng.standard_normal((PRODUCTS, FACTORS), np.float32)
    products /= np.linalg.norm(products, axis=1, keepdims=True)
    products *= rng.lognormal(0, sigma, (PRODUCTS, 1)).astype(np.float32)
    allowed = rng.random(PRODUCTS) < 0.9
    rows = rng.standard_normal((customers, FACTORS), np.float32)
    barred = np.random.default_rng(2).integers(0, PRODUCTS, (customers, BARRED), np.int32)
    barred.sort(axis=1)
    shape = customers, PRODUCTS
    own = sp.csr_matrix((np.ones(barred.size, bool), barred.ravel(), np.arange(customers + 1) * BARRED), shape=shape)
    return rows, products, allowed, own


def _ours(rows: np.ndarray, products: np.ndarray, allowed: np.ndarray, own: sp.csr_matrix) -> np.ndarray:
    return exact_top(rows, products, N, allowed, own, THREADS)[0]


def _implicit(rows: np.ndarray, products: np.ndarray, allowed: np.ndarray, own: sp.csr_matrix) -> np.ndarray:
    from implicit.cpu.als import AlternatingLeastSquares

    with threadpool_limits(1, user_api="blas"):  # as it advises, and faster: it has threads of its own
        model = AlternatingLeastSquares(factors=FACTORS, num_threads=THREADS)
        model.user_factors, model.item_factors = rows, products
        return model.recommend(np.arange(len(rows)), own, N=N, filter_items=np.flatnonzero(~allowed))[0]


def _product(rows: np.ndarray, products: np.ndarray, allowed: np.ndarray, own: sp.csr_matrix) -> np.ndarray:  # noqa: ARG001
    """In the blocks that OpenBLAS is fastest with here."""
    from concurrent.futures import ThreadPoolExecutor

    products = products[allowed]

    def work(first: int) -> None:
        some = rows[first : first + 1024]
        out = np.empty((len(some), 256), np.float32)
        for start in range(0, len(products), 256):
            part = products[start : start + 256].T
            np.matmul(some, part, out=out[:, : part.shape[1]])

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(0, len(rows), 1024)))
    return rows[:0]
