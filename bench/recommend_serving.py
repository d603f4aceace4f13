"""What a recommendation costs to serve: a million customers, 100,000 products, over HTTP from the public app.

The artefacts are made up: 48 products that go with each, by placement; 24 for each customer; rules with a brand cap, a
boost, an exclusion, and products out of stock. Requests come at a steady pace on loopback, whether or not the answers
keep up: a late answer counts from when its request was due. Each asks for 12 products, of customers, visitors and
carts that vary, with up to 10 clicks of a session. Searches are all new, or some of them frequent (Pareto, 0.3).
CPU is the server's process alone, user and system; a refused request is what the web server costs. With pauses between
requests the processor's caches are cold, so the same is also asked back to back. The last rows: a new version is opened
while the old one answers.
`python -m bench recommend_serving`; RECOMMEND_CUSTOMERS says for how many (1,000,000).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import urllib3
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.published import publish
from controltower.models.recommend.search import Search
from controltower.models.recommend.searches import Collections, searches_from
from controltower.models.recommend.version import Artefacts, ItemLists, PersonalLists

CUSTOMERS = int(os.environ.get("RECOMMEND_CUSTOMERS", "1000000"))
PRODUCTS, COLLECTIONS, WIDTH, OWN, RATE, SECONDS = 100_000, 300, 48, 24, 100, 20
KEY = "the key of this benchmark"
AS_OF = datetime(2026, 6, 15, tzinfo=UTC)
ITEMS = {"similar": "product", "bought_together": "product", "upgrade": "product", "cart": "cart",
         "recently_viewed_related": "recent"}  # fmt: skip
PERSONAL = {"for_you": "recently_viewed_related", "new_for_you": "recently_viewed_related", "replenish": None}
NEW, OFTEN = "searches that nobody made before", "searches as shops are asked"
OTHERS = (*ITEMS, *PERSONAL)
KINDS = {"all placements but search": OTHERS, NEW: (NEW,), OFTEN: (OFTEN,),
         "one in five a new search": (*OTHERS[:4], NEW, *OTHERS[4:], NEW)}  # fmt: skip
WORDS = [f"{a}{b}" for a in "ka lo mi nu ra se ti vo pe du".split() for b in "bar den fel gor him jun kol lus".split()]
RULES = {
    "everywhere": {
        "most_per_brand": 3,
        "boosts": [{"brands": ["brand 7"], "factor": 1.5}],
        "exclusions": [{"categories": ["category 3"]}],
    }
}


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        made = _artefacts(np.random.default_rng(1))
        began = time.perf_counter()
        publish(home / "serving", made)
        results = [{"name": f"publish {CUSTOMERS:,} x {PRODUCTS:,}", "value": time.perf_counter() - began, "unit": "s"}]
        with served(home) as (url, pid):
            began = time.perf_counter()
            _ask(url, [{"placement": "popular"}])
            results.append({"name": "the first answer", "value": time.perf_counter() - began, "unit": "s"})
            refused = _mix(random.Random(1), RATE * SECONDS)
            cpu, _ = _measured(url, pid, refused, key="a wrong one, as it happens", status=401)
            results.append({"name": f"a refused request, {RATE} a second", "value": cpu, "unit": "CPU-ms"})
            for name, placements in KINDS.items():
                asked = _mix(random.Random(2), 2 * RATE * SECONDS, placements)
                steady, hasty = asked[: RATE * SECONDS], asked[RATE * SECONDS :]
                results += _rows(name, _measured(url, pid, steady), _measured(url, pid, hasty, rate=1e9)[0])
            first = _memory(pid)
            swap = multiprocessing.get_context("fork").Process(target=publish, args=(home / "serving", made))
            swap.start()
            asked = _mix(random.Random(3), RATE * SECONDS, OTHERS)
            results += _rows("while a new version takes over", _measured(url, pid, asked), None)[1:]
            swap.join()
            for name, told in (("RSS", first), ("RSS, after a new version", _memory(pid))):
                results.append({"name": f"{name}, with mapped files", "value": told["VmRSS"], "unit": "MB"})
                results.append({"name": f"{name}, its own", "value": told["RssAnon"], "unit": "MB"})
    return results


def _rows(name: str, steady: tuple[float, list[float]], hasty: float | None) -> list[dict[str, Any]]:
    cpu, waits = steady
    rows = [
        {"name": f"{name}: {RATE} a second", "value": cpu, "unit": "CPU-ms"},
        {"name": f"{name}: back to back", "value": hasty, "unit": "CPU-ms"},
        {"name": f"{name}: median", "value": statistics.median(waits) * 1000, "unit": "ms"},
        {"name": f"{name}: 99th percentile", "value": waits[int(len(waits) * 0.99)] * 1000, "unit": "ms"},
    ]
    return [row for row in rows if row["value"] is not None]


@contextmanager
def served(home: Path) -> Iterator[tuple[str, int]]:
    """The public app as users start it: its address and process id."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CONTROLTOWER_")}
    told = {"CONTROLTOWER_HOME": str(home), "CONTROLTOWER_EVENTS_API_KEYS": KEY}
    command = [sys.executable, "-m", "controltower.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, env=kept | told, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().split()[2], process.pid
    finally:
        process.terminate()
        process.wait()


def _measured(
    url: str, pid: int, asked: list[dict[str, Any]], key: str = KEY, status: int = 200, rate: float = RATE
) -> tuple[float, list[float]]:
    """CPU-milliseconds of the server a request, and the sorted waits in seconds."""
    _ask(url, asked[:50], key, status)
    before = _cpu(pid)
    waits = _ask(url, asked, key, status, rate)
    return (_cpu(pid) - before) / len(asked) * 1000, sorted(waits)


def _ask(url: str, asked: list[dict[str, Any]], key: str = KEY, status: int = 200, rate: float = RATE) -> list[float]:
    pool = urllib3.PoolManager(maxsize=8, retries=False)  # a connection that is lost is a mistake of the server
    headers = {"Authorization": f"Bearer {key}"}
    waits: list[float] = []
    begun = time.perf_counter() + 0.1

    def get(number: int) -> None:
        due = begun + number / rate
        time.sleep(max(due - time.perf_counter(), 0))
        answer = pool.request("GET", f"{url}/v1/recommendations?{urlencode(asked[number])}", headers=headers)
        if answer.status != status or (status == 200 and len(answer.json()["items"]) < 12):
            raise RuntimeError(f"answered {answer.status}: {answer.data[:300]!r}")
        waits.append(time.perf_counter() - due)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(get, range(len(asked))))
    return waits


def _mix(rng: random.Random, count: int, placements: tuple[str, ...] = ("for_you",)) -> list[dict[str, Any]]:
    def products(most: int) -> str:
        return ",".join(_product(rng.randrange(PRODUCTS)) for _ in range(rng.randint(1, most)))

    asked = []
    for n in range(count):
        placement = placements[n % len(placements)]
        one = {"placement": placement, "recent": products(10), "locale": "ko"}
        if rng.random() < 0.7:
            one["customer"] = f"customer-{rng.randrange(int(CUSTOMERS * 1.1))}"
        if ITEMS.get(placement) == "product":
            one["product"] = products(1)
        if placement == "cart":
            one["cart"] = products(6)
        if placement in (NEW, OFTEN):
            number = rng.getrandbits(64) if placement == NEW else int(rng.paretovariate(0.3))
            words = random.Random(f"{placement} {number}").sample(
                WORDS, 3 if placement == NEW else 2
            )  # so none is twice
            one |= {"placement": "search", "query": " ".join(words)}
        asked.append(one)
    return asked


def _product(number: int) -> str:
    return f"p{number:06}"


def _artefacts(rng: np.random.Generator) -> Artefacts:
    ids = np.array([_product(n) for n in range(PRODUCTS)])
    words = rng.integers(0, len(WORDS), (PRODUCTS, 5))
    titles = np.array([" ".join(WORDS[w] for w in row) for row in words], object)
    brands = np.array([f"brand {n}" for n in rng.zipf(1.5, PRODUCTS) % 2000], object)
    categories = np.array([f"category {n % 20} > part {n}" for n in rng.integers(0, 500, PRODUCTS)], object)
    price = rng.lognormal(3, 1, PRODUCTS).round(2)
    products = pa.table(
        {"product_id": ids, "title": titles, "price": price, "currency": ["KRW"] * PRODUCTS, "category": categories,
         "brand": brands, "margin_rate": rng.random(PRODUCTS),
         "url": [f"https://shop.example/products/{i}" for i in ids],
         "image_url": [f"https://images.shop.example/{i}.jpg" for i in ids]}
    )  # fmt: skip
    nothing = np.full(PRODUCTS, np.datetime64("NaT"), "datetime64[us]")
    catalogue = Catalogue(ids, titles, categories, brands, price, np.full(PRODUCTS, np.nan), nothing)
    named = np.array([f"collection {n}" for n in range(COLLECTIONS)])
    themes = np.array(
        [" ".join(WORDS[w] for w in row) for row in rng.integers(0, len(WORDS), (COLLECTIONS, 3))], object
    )
    inside = np.repeat(np.arange(COLLECTIONS), 30)
    collections = Collections(named, themes, inside, ids[rng.integers(0, PRODUCTS, len(inside))])
    asked = [" ".join(WORDS[w] for w in row[:2]) for row in words[:20_000]]
    people = [f"c{n}" for n in range(len(asked))]
    at = np.full(len(asked), int(AS_OF.timestamp()))
    searched = searches_from(asked, people, ids[: len(asked)].tolist(), np.full(len(asked), 1), at, int(at[0]))
    return Artefacts(
        as_of=AS_OF, zone=ZoneInfo("Asia/Seoul"), products=products, sold=np.ones(PRODUCTS, bool),
        in_stock=rng.random(PRODUCTS) < 0.9, popularity=rng.pareto(1, PRODUCTS),
        items={
            name: ItemLists(
                np.arange(PRODUCTS + 1) * WIDTH, rng.integers(0, PRODUCTS, PRODUCTS * WIDTH, np.int32),
                -np.sort(-rng.random((PRODUCTS, WIDTH), np.float32), axis=1).ravel(), "bench", "bench-1", seeds=seeds,
            )  # type: ignore[arg-type]
            for name, seeds in ITEMS.items()
        },
        customers=[f"customer-{n}" for n in range(CUSTOMERS)],
        personal={
            name: PersonalLists(
                rng.integers(0, PRODUCTS, (CUSTOMERS, OWN), np.int32), rng.integers(0, 3, (CUSTOMERS, OWN), np.uint8),
                np.zeros((CUSTOMERS, OWN), np.uint8), rng.integers(0, PRODUCTS, (CUSTOMERS, OWN), np.int32),
                ["als", "ease", "tifu_knn"], ["because_you_viewed"], "bench-1", session,
            )
            for name, session in PERSONAL.items()
        },
        bought=_bought(rng), repeats=["replenish"],
        search=Search().fit(catalogue, searched, collections), search_version="bench-1", rules=RULES,
        exhibitions=pa.table(
            {"collection_id": named, "title": themes, "kind": ["exhibition"] * COLLECTIONS,
             **{at: [f"https://shop.example/{at}/{n}" for n in range(COLLECTIONS)] for at in ("url", "image_url")}}
        ),
    )  # fmt: skip


def _bought(rng: np.random.Generator) -> sp.csr_matrix:
    """Eight products of each customer, bought at any time of a year."""
    product = rng.integers(0, PRODUCTS, CUSTOMERS * 8, np.int32)
    second = int(AS_OF.timestamp()) - rng.integers(0, 365 * 86400, len(product))
    found = sp.csr_matrix((second, product, np.arange(0, len(product) + 1, 8)), (CUSTOMERS, PRODUCTS))
    found.sum_duplicates()
    return found


def _cpu(pid: int) -> float:
    """Seconds of the process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> dict[str, float]:
    """MB by the kernel's names."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith("kB")}
