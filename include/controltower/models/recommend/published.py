"""What serving reads: a version in HOME/serving/<version>/, plain arrays and an Arrow file, mapped into memory.

A version is written into a folder nobody reads, renamed into place, and then named by the pointer `current.json`, which
is replaced atomically: readers see the old version or the new one, whole. Nothing of it is pickle. People stand in it
as hashes with a key that each version draws anew; their rows are found with an id in hand, and not the other way round.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from controltower import clock
from controltower.errors import BadSettings, NoData
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.interactions import positions
from controltower.models.recommend.rules import EVERYWHERE, Rules, parse
from controltower.models.recommend.search import Search

POPULAR, SEARCH = "popular", "search"  # placements that need no lists
FORMAT = 1
SPARE = 3600  # seconds that a version is kept which serves no more: somebody may be opening it
EMPTY = 128  # bytes of an .npy file without entries
POINTER = "current.json"
SHOWN = ("product_id", "title", "url", "image_url", "price", "currency", "category", "brand", "margin_rate")

Seeds = Literal["product", "cart", "recent"]


@dataclass(frozen=True)
class ItemLists:
    """What goes with one product, best first.

    product: products x width, int32 positions, -1 behind the last; score: float32, same shape, above 0, comparable
    between rows: several seeds add up
    reason: the code that content words with the seed's title
    seeds: what of a request it is about first: the product shown, the cart, or what was viewed lately
    """

    product: np.ndarray
    score: np.ndarray
    algorithm: str
    model_version: str
    reason: str = "because_you_viewed"
    seeds: Seeds = "product"


@dataclass(frozen=True)
class PersonalLists:
    """Each person's own list, best first. All arrays are people x width, in the order of customers, then visitors.

    product: int32 positions, -1 behind the last; algorithm, code: uint8 positions in `algorithms` and `codes` (reason
    codes); about: int32 position of the product that the reason names, -1 where none
    session: the ItemLists through which this session's clicks join in; None: they don't
    fill: whether popular products fill up a list that is short or lacks
    """

    product: np.ndarray
    algorithm: np.ndarray
    code: np.ndarray
    about: np.ndarray
    algorithms: Sequence[str]
    codes: Sequence[str]
    model_version: str
    session: str | None = None
    fill: bool = True


@dataclass(frozen=True)
class Artefacts:
    """What a version is made of; products are positions in `products`, which is sorted by product_id.

    products: product_id, and title, url, image_url (text), price (number), currency, category ("a > b"), brand (text)
    and margin_rate (number) where known; other columns are left out
    sold, in_stock: masks of the products that may be shown at all, and that aren't out of stock
    popularity: by product, any scale, the higher the better
    items, personal: lists by placement; personal ones have a row for each of customers, then of visitors (ids)
    barred: people x width, int32: products that each may not be shown for now, as they bought them; -1 behind the last;
    None: nobody. It holds in all placements but those of `repeats`
    search: over the same product_ids; None: the placement `search` shows popular products
    rules: as declared and checked (`rules.parse`), by placement and everywhere; those of other placements are left out
    """

    as_of: datetime
    zone: ZoneInfo
    products: pa.Table
    sold: np.ndarray
    in_stock: np.ndarray
    popularity: np.ndarray
    items: Mapping[str, ItemLists] = field(default_factory=dict)
    customers: Sequence[str] = ()
    visitors: Sequence[str] = ()
    personal: Mapping[str, PersonalLists] = field(default_factory=dict)
    barred: np.ndarray | None = None
    repeats: Collection[str] = ()
    search: Search | None = None
    search_version: str = ""
    rules: Mapping[str, Any] | None = None


def publish(root: Path, made: Artefacts) -> str:
    """Write a version below `root` (HOME/serving) and let readers have it; returns its id.

    ValueError where arrays don't fit each other, BadSettings for rules that are wrong. Versions that serve no more are
    removed after an hour.
    """
    _check(made)
    root.mkdir(parents=True, exist_ok=True)
    version = f"{made.as_of.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    fresh = root / f".fresh-{version}"
    fresh.mkdir(mode=0o700)
    try:
        _write(fresh, made)
        fresh.rename(root / version)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    with contextlib.suppress(OSError, BadSettings):
        os.utime(root / str(current(root)))  # it serves no more from now on
    pointer = root / f".pointer-{version}"
    pointer.write_text(json.dumps({"version": version}), encoding="utf-8")
    pointer.replace(root / POINTER)
    _remove_old(root, version)
    return version


def current(root: Path) -> str | None:
    """The id of the version that serves; None where nothing was published yet."""
    try:
        return str(json.loads((root / POINTER).read_text(encoding="utf-8"))["version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise BadSettings(f"{root / POINTER} is damaged.", "Run `controltower score` again.") from None


def erase(root: Path, customers: Collection[str], visitors: Collection[str] = ()) -> int:
    """Empty the lists of people in all versions, also for who has them open; how many rows that were.

    A version that can't be opened is removed.
    """
    emptied = 0
    for folder in _versions(root):
        try:
            opened = Published.open(folder)
        except (NoData, BadSettings):
            shutil.rmtree(folder, ignore_errors=True)  # nobody can read it; whose lists are in it can't be told
            continue
        found = {opened.row(customer=c) for c in customers} | {opened.row(visitor=v) for v in visitors}
        rows = sorted(found - {-1})
        of_people = (*(folder / "personal").glob("*.product.npy"), *(folder / "personal").glob("*.about.npy"))
        for path in (*of_people, *folder.glob("barred.npy")) if rows else ():
            if path.stat().st_size > EMPTY:
                lists = np.load(path, mmap_mode="r+")
                lists[rows] = -1
                lists.flush()
        emptied += len(rows)
    return emptied


class Published:
    """A version as it is read. `people` are the sorted hashes of who has lists, `popular` products, the best first."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "placements.json").read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise BadSettings(f"{folder} was written by another version of Control Tower.", "Publish again.")
        self.version = folder.name
        self.as_of = datetime.fromisoformat(told["as_of"])
        self.zone = ZoneInfo(told["zone"])
        self.repeats = frozenset(told["repeats"])
        self.search_version: str = told["search_version"]
        self.rules: dict[str, Rules] = parse(told["rules"], "rules", told["placements"])
        with pa.memory_map(str(folder / "products.arrow")) as source:
            self.products = pa.ipc.open_file(source).read_all()
        self.product_ids, self.sold = _read(folder / "product_ids.npy"), _read(folder / "sold.npy")
        self.in_stock, self.popular = _read(folder / "in_stock.npy"), _read(folder / "popular.npy")
        self.items = {
            name: ItemLists(**_arrays(folder / "items", name, ITEM_PARTS), **more)
            for name, more in told["items"].items()
        }
        self._key = bytes.fromhex(told["key"])
        self.people = _read(folder / "people.npy")
        self.personal = {
            name: PersonalLists(**_arrays(folder / "personal", name, PARTS), **more)
            for name, more in told["personal"].items()
        }
        self.barred = _read(folder / "barred.npy") if told["barred"] else None
        self.search = Search.load(folder / "search") if told["search"] else None

    @classmethod
    def open(cls, folder: Path) -> Published:
        """The version in a folder. NoData where it is gone, BadSettings where its files are damaged."""
        try:
            return cls(folder)
        except FileNotFoundError:
            raise NoData(f"There is no published version at {folder}.", "Run `controltower score`.") from None
        except (ValueError, KeyError, TypeError, OSError) as e:  # pyarrow's errors are some of them
            raise BadSettings(f"{folder} is damaged ({type(e).__name__}).", "Run `controltower score` again.") from None

    def __len__(self) -> int:
        return len(self.product_ids)

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Where the products stand, -1 for unknown ones."""
        longest = self.product_ids.dtype.itemsize // 4
        cut = np.array([i[:longest] for i in ids], dtype=self.product_ids.dtype)  # another length would copy all ids
        found = positions(self.product_ids, cut)
        return np.where([len(i) <= longest for i in ids], found, -1).astype(np.int32)

    def row(self, customer: str | None = None, visitor: str | None = None) -> int:
        """The person's row in `personal` and `barred`; -1 where they have none."""
        told = f"c{customer}" if customer is not None else f"v{visitor}"
        wanted = _hash(self._key, told)
        at = int(np.searchsorted(self.people, wanted))
        return at if at < len(self.people) and self.people[at] == wanted else -1

    def shown(self, products: Sequence[int]) -> list[dict[str, Any]]:
        """What is shown of products: product_id, title, url, image_url, price, currency; None where unknown."""
        return [{name: column[i].as_py() for name, column in self._shown.items()} for i in products]

    def title(self, product: int) -> str | None:
        """The title of a product, its id where it has none; None for -1."""
        return (self._shown["title"][product].as_py() or str(self.product_ids[product])) if product >= 0 else None

    def category_name(self, product: int) -> str:
        """The last level of the product's category."""
        return str(self._categories[product].as_py() or "").rpartition(">")[2].strip()

    @cached_property
    def prices(self) -> np.ndarray:
        return self.products["price"].to_numpy().astype(float)

    @cached_property
    def _categories(self) -> pa.Array:
        return self.products["category"].combine_chunks()

    @cached_property
    def _shown(self) -> dict[str, pa.Array]:
        return {name: self.products[name].combine_chunks() for name in SHOWN[:6]}

    @cached_property
    def catalogue(self) -> Catalogue:
        """What rules need to know of the products; titles are left out."""
        texts = {name: self.products[name].fill_null("").to_pandas().to_numpy(object) for name in ("category", "brand")}
        margin = self.products["margin_rate"].to_numpy().astype(float)
        since = np.full(len(self), np.datetime64("NaT"), "datetime64[us]")
        none = np.full(len(self), "", dtype=object)
        return Catalogue(self.product_ids, none, texts["category"], texts["brand"], self.prices, margin, since)


ITEM_PARTS = ("product", "score")
PARTS = ("product", "algorithm", "code", "about")
_TYPES = {"product": np.int32, "algorithm": np.uint8, "code": np.uint8, "about": np.int32, "score": np.float32}
_NUMBERS = ("price", "margin_rate")


def _check(made: Artefacts) -> None:
    ids = made.products["product_id"].to_pylist()
    products, people = len(ids), len(made.customers) + len(made.visitors)
    if any(a >= b for a, b in pairwise(ids)):
        raise ValueError("products must be sorted by product_id, each once")
    if not len(made.sold) == len(made.in_stock) == len(made.popularity) == products:
        raise ValueError(f"sold, in_stock and popularity need an entry for each of {products} products")
    if made.search is not None and made.search.product_ids.tolist() != ids:
        raise ValueError("the search model must be fitted on these product_ids")
    if made.barred is not None and len(made.barred) != people:
        raise ValueError(f"barred needs a row for each of {people} people")
    for name in (*made.items, *made.personal, *made.repeats):
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name in (POPULAR, SEARCH, EVERYWHERE):
            raise ValueError(f"{name!r} can't be the name of a placement's lists")
    if both := set(made.items) & set(made.personal):
        raise ValueError(f"{', '.join(sorted(both))}: lists of products or of people, not both")
    all_lists: dict[str, ItemLists | PersonalLists] = {**made.items, **made.personal}
    for name, lists in all_lists.items():
        rows = products if isinstance(lists, ItemLists) else people
        parts = [getattr(lists, part) for part in (ITEM_PARTS if isinstance(lists, ItemLists) else PARTS)]
        if len(lists.product) != rows or any(part.shape != lists.product.shape for part in parts):
            raise ValueError(f"{name}: the arrays must have {rows} rows and one shape")
        if lists.product.size and not -1 <= lists.product.min() <= lists.product.max() < products:
            raise ValueError(f"{name}: products must be positions in the table of {products}, or -1")
        if isinstance(lists, ItemLists):
            continue
        if lists.product.size and (
            lists.algorithm.max() >= len(lists.algorithms) or lists.code.max() >= len(lists.codes)
            or not -1 <= lists.about.min() <= lists.about.max() < products
        ):  # fmt: skip
            raise ValueError(f"{name}: algorithm, code and about must be positions in what they name")
        if lists.session is not None and lists.session not in made.items:
            raise ValueError(f"{name}: there are no item lists {lists.session!r} for the session")


def _write(folder: Path, made: Artefacts) -> None:
    placements = sorted({*made.items, *made.personal, POPULAR, SEARCH})
    rules = {name: told for name, told in (made.rules or {}).items() if name in (EVERYWHERE, *placements)}
    parse(rules, "rules", placements)
    for name in ("items", "personal", *(["search"] if made.search else [])):
        (folder / name).mkdir()
    columns = {
        name: made.products[name].cast(pa.float64() if name in _NUMBERS else pa.string())
        if name in made.products.column_names
        else pa.nulls(len(made.products), pa.float64() if name in _NUMBERS else pa.string())
        for name in SHOWN
    }
    table = pa.table(columns).combine_chunks()
    with pa.OSFile(str(folder / "products.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    ids = np.array(table["product_id"].to_pylist(), dtype=np.str_)
    np.save(folder / "product_ids.npy", ids)
    np.save(folder / "sold.npy", np.asarray(made.sold, bool))
    np.save(folder / "in_stock.npy", np.asarray(made.in_stock, bool))
    order = np.argsort(-np.nan_to_num(np.asarray(made.popularity, float)), kind="stable")
    np.save(folder / "popular.npy", order.astype(np.int32))
    for name, items in made.items.items():
        for part in ITEM_PARTS:
            np.save(folder / f"items/{name}.{part}.npy", np.asarray(getattr(items, part), _TYPES[part]))
    key = secrets.token_bytes(32)
    told = (*(f"c{c}" for c in made.customers), *(f"v{v}" for v in made.visitors))
    people = np.fromiter((_hash(key, t) for t in told), np.uint64, len(told))
    by_hash = np.argsort(people)
    np.save(folder / "people.npy", people[by_hash])
    for name, personal in made.personal.items():
        for part in PARTS:
            _save_rows(folder / f"personal/{name}.{part}.npy", getattr(personal, part), by_hash, _TYPES[part])
    if made.barred is not None:
        _save_rows(folder / "barred.npy", made.barred, by_hash, np.int32)
    if made.search is not None:
        made.search.save(folder / "search")
    about = {
        "format": FORMAT, "as_of": made.as_of.astimezone(UTC).isoformat(), "zone": made.zone.key, "key": key.hex(),
        "placements": placements, "rules": rules, "repeats": sorted(made.repeats),
        "barred": made.barred is not None, "search": made.search is not None, "search_version": made.search_version,
        "items": {n: _rest(v, ITEM_PARTS) for n, v in made.items.items()},
        "personal": {n: _rest(v, PARTS) for n, v in made.personal.items()},
    }  # fmt: skip
    (folder / "placements.json").write_text(json.dumps(about, default=str), encoding="utf-8")  # dates of rules


def _rest(lists: ItemLists | PersonalLists, arrays: Collection[str]) -> dict[str, Any]:
    rest = {name: value for name, value in vars(lists).items() if name not in arrays}
    return {name: list(v) if name in ("algorithms", "codes") else v for name, v in rest.items()}


def _save_rows(path: Path, rows: np.ndarray, order: np.ndarray, dtype: type) -> None:
    """Rows in another order, without a second copy in memory."""
    if not rows.size:
        np.save(path, np.zeros(rows.shape, dtype))
        return
    out = np.lib.format.open_memmap(path, "w+", dtype, rows.shape)
    for start in range(0, len(rows), 65_536):
        out[start : start + 65_536] = rows[order[start : start + 65_536]]
    out.flush()


def _arrays(folder: Path, name: str, parts: Sequence[str]) -> dict[str, Any]:
    return {part: _read(folder / f"{name}.{part}.npy") for part in parts}


def _read(path: Path) -> np.ndarray:
    empty = path.stat().st_size <= EMPTY  # there is nothing to map
    return np.load(path, mmap_mode=None if empty else "r", allow_pickle=False).view(np.ndarray)  # quicker to index


def _hash(key: bytes, told: str) -> np.uint64:
    digest = hashlib.blake2b(told.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _versions(root: Path) -> list[Path]:
    return sorted(p.parent for p in root.glob("[0-9]*/placements.json"))


def _remove_old(root: Path, kept: str) -> None:
    """Versions and leftovers that nobody can be about to open; who has one open keeps it (POSIX)."""
    for folder in (*_versions(root), *root.glob(".fresh-*")):
        if folder.name != kept and clock.wall() - folder.stat().st_mtime > SPARE:
            shutil.rmtree(folder, ignore_errors=True)
