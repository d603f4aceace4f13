"""Everything that is predicted of a million customers of 10 million events, from their features: CPU and memory.

The models are those that a small simulated shop teaches, where challengers mostly beat their baselines: in a random
shop baselines would serve, and cost nothing. Everybody has a mail address and agreed to mails. Features are made
before, and not counted; writing the scores is. Each step has a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from controltower import settings
from controltower.data.lake import BATCH, Lake
from controltower.jobs import scoring
from controltower.jobs.ingest import ingest_data
from controltower.jobs.predictions import PREDICTIONS, Past
from controltower.jobs.profiles import publish_features
from controltower.jobs.simulation import simulate_shop
from controltower.jobs.training import store
from controltower.ledger import consents
from controltower.ledger.database import check_key
from controltower.models.registry import Registry

from bench import _shop
from bench._shop import AS_OF
from bench.features import SHOP
from bench.profiles import _measured, _settings

CUSTOMERS = int(os.environ.get("SCORES_CUSTOMERS", "1000000"))
EVENTS, TAUGHT_BY = CUSTOMERS * 10, 3_000


def run() -> list[dict[str, Any]]:
    results = []
    what = f"features to scores, {CUSTOMERS:,} customers, {EVENTS:,} events"
    with tempfile.TemporaryDirectory() as folder:
        steps: tuple[tuple[str, Callable[[Path], object]], ...] = (
            (f"training predictions, {TAUGHT_BY:,} customers", _teach), ("", _prepare), (what, _score)
        )  # fmt: skip
        for name, step in steps:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, megabytes = pool.apply(_measured, (step, Path(folder)))
            if name:
                results += [
                    {"name": name, "value": seconds, "unit": "CPU-s"},
                    {"name": f"{name}: peak", "value": megabytes, "unit": "MB"},
                ]
    return results


def _teach(folder: Path) -> None:
    small = folder / "small"
    os.environ["CONTROLTOWER_HOME"] = str(small)
    simulate_shop(folder / "shop", AS_OF.isoformat(), TAUGHT_BY)
    ingest_data(str(folder / "shop"))
    config = settings.load()
    with Past.of(config, settings.load_shop(config), AS_OF) as past:
        for prediction in PREDICTIONS:
            for outcome in prediction.train(past):
                store(Registry(folder / "models"), outcome, AS_OF, AS_OF)


def _prepare(folder: Path) -> None:
    conf = _settings(folder)
    check_key(conf)
    lake = Lake(conf)
    _shop.fill(lake, EVENTS, CUSTOMERS)
    made = next(_shop._customers(_shop._Random(1, None), CUSTOMERS))["customers"]  # the same again, with addresses
    ids, at = made["customer_id"], made.schema.get_field_index("email")
    made = made.set_column(at, "email", pc.binary_join_element_wise(ids, "@shop.example", ""))
    lake.commit("addresses", {"customers": lake.write("customers", made)})
    known = pa.scalar(AS_OF - timedelta(days=1), pa.timestamp("us", "UTC"))
    yes = {"channel": "email", "purpose": "marketing", "recorded_at": known, "granted": True, "source": "bench"}
    columns = {name: pa.repeat(value, CUSTOMERS) for name, value in yes.items()}
    consents.append(conf, pa.table({"customer_id": ids} | columns))
    publish_features(lake, AS_OF, SHOP)


def _score(folder: Path) -> None:
    conf = _settings(folder)
    lake = Lake(conf)
    with lake.read(AS_OF) as reading:
        scores, served = scoring._scores(conf, reading, Registry(folder / "models"), AS_OF, SHOP)
    lake.write("scores", pa.RecordBatchReader.from_batches(scores.schema, scores.to_batches(max_chunksize=BATCH)))
    print("served:", *sorted(f"{name}={kind}" for name, kind in served.items()), flush=True)
