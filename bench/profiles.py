"""Gender and age of a million customers of 10 million events: learning and inferring, and journeys; CPU and memory.

All agree to profiling, and a fifth told. The shop is random, so a model beats nothing; here one serves that was never
compared, so that scoring has its work. Each step has a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from controltower.data.lake import Lake, interval_key
from controltower.jobs import inference
from controltower.jobs.training import store
from controltower.ledger import consents
from controltower.ledger.database import check_key
from controltower.models.registry import Registry
from controltower.models.traits import ages, items, said, training
from controltower.models.traits.model import LENGTHS, ItemsLogistic
from controltower.profiles.journey import journeys
from controltower.settings import Settings
from threadpoolctl import threadpool_limits

from bench import _shop
from bench._shop import AS_OF
from bench.features import SHOP

EVENTS, CUSTOMERS, LEARNED_FROM = 10_000_000, 1_000_000, 3_000


def run() -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        steps: tuple[tuple[str, Callable[[Path], object]], ...] = (
            ("", _prepare), ("learning gender and age", _learn), ("profiles", _infer), ("journeys", _journeys)
        )  # fmt: skip
        for name, step in steps:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, megabytes = pool.apply(_measured, (step, Path(folder)))
            if name:
                what = f"{name}, {EVENTS:,} events, {CUSTOMERS:,} customers"
                results += [
                    {"name": what, "value": seconds, "unit": "CPU-s"},
                    {"name": f"{what}: peak", "value": megabytes, "unit": "MB"},
                ]
    return results


def _measured(step: Callable[[Path], object], folder: Path) -> tuple[float, float]:
    begun = time.process_time()
    with threadpool_limits(limits=1):
        step(folder)
    return time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _settings(folder: Path) -> Settings:
    return Settings(home=folder, memory="1GB", threads=2)


def _prepare(folder: Path) -> None:
    conf, rng, known = _settings(folder), np.random.default_rng(5), AS_OF - timedelta(days=1)
    check_key(conf)
    lake = Lake(conf)
    _shop.fill(lake, EVENTS, CUSTOMERS)
    told, ids = np.flatnonzero(rng.random(CUSTOMERS) < 0.2), _shop._ids("c", np.arange(CUSTOMERS))
    born = np.datetime64("1950-05-05") + rng.integers(0, 55 * 365, len(told)).astype("timedelta64[D]")
    gender = pa.array(np.where(rng.random(len(told)) < 0.6, "female", "male"))
    moment = pa.scalar(known, pa.timestamp("us", "UTC"))
    columns = {"customer_id": _shop._ids("c", told), "updated_at": pa.repeat(moment, len(told))}
    told = _shop._table("customers", gender=gender, birth_date=pa.array(born), **columns)
    lake.commit("told", {"customers": lake.write("customers", told)})
    said_yes = {
        "channel": "email",
        "purpose": consents.PROFILING,
        "recorded_at": moment,
        "granted": True,
        "source": "b",
    }
    consents.append(conf, pa.table({"customer_id": ids} | {k: pa.repeat(v, CUSTOMERS) for k, v in said_yes.items()}))
    numbers = {"days_since_last_order": 300.0, "orders_total": 9.0, "revenue_total": 1e5}
    features = {name: pa.array(rng.random(CUSTOMERS) * most) for name, most in numbers.items()}
    at = pa.repeat(pa.scalar(AS_OF, pa.timestamp("us", "UTC")), CUSTOMERS)
    lake.commit(
        interval_key(AS_OF),
        {"features": lake.write("features", pa.table({"customer_id": ids, "as_of": at} | features))},
    )
    with lake.read(AS_OF) as reading:
        some = items.read(reading.table, AS_OF, SHOP, ids[:LEARNED_FROM].to_pylist())
    for name, most in ((training.GENDER, 2), (training.AGE_BAND, 70)):
        drawn = rng.integers(0, most, LEARNED_FROM) + (14 if name == training.AGE_BAND else 0)
        classes, label = (said.GENDERS, drawn) if name == training.GENDER else (ages.BANDS, ages.band_of(drawn))
        model = ItemsLogistic().fit(some, label, classes)
        model.weights, model.shares = (LENGTHS > 0) * 0.5, ages.within(drawn + 14 * (name == training.GENDER))
        outcome = replace(training.train(name, items.NOBODY, drawn[:0], AS_OF), model=model, published=True)
        store(Registry(folder / "models"), outcome, AS_OF, AS_OF)


def _learn(folder: Path) -> None:
    conf = _settings(folder)
    list(inference.train_traits(conf, Lake(conf), AS_OF, SHOP))


def _infer(folder: Path) -> None:
    conf = _settings(folder)
    lake = Lake(conf)
    with lake.read(AS_OF) as reading:
        lake.write("profiles", inference.profile_rows(conf, reading, Registry(folder / "models"), AS_OF, SHOP).rows)


def _journeys(folder: Path) -> None:
    with Lake(_settings(folder)).read(AS_OF) as reading:
        found = journeys(reading.table, AS_OF)
        reading.arrow(found.group_by("journey").aggregate(number=found.count()))
