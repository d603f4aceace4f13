"""What serving reads: a version in HOME/serving/<version>/, plain arrays and an Arrow file, mapped into memory.

A version is written into a folder nobody reads, renamed into place, and then named by the pointer `current.json`, which
is replaced atomically: readers see the old version or the new one, whole. Nothing of it is pickle. People stand in it
as hashes with a key that each version draws anew; their rows are found with an id in hand, and not the other way round.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pyarrow as pa

from controltower import clock
from controltower.errors import BadSettings, NoData
from controltower.models.recommend import shown
from controltower.models.recommend.catalogue import Catalogue
from controltower.models.recommend.history import Allowed, strings
from controltower.models.recommend.interactions import positions
from controltower.models.recommend.rules import EVERYWHERE, Rules, parse
from controltower.models.recommend.running import Running
from controltower.models.recommend.search import Search
from controltower.models.recommend.version import (
    EXHIBITION,
    ITEM_PARTS,
    PARTS,
    POPULAR,
    SEARCH,
    SHOWN,
    Artefacts,
    ItemLists,
    PersonalLists,
    check,
)

log = logging.getLogger("controltower")
FORMAT = 3
SPARE = 3600  # seconds that a version is kept which serves no more: somebody may be opening it
NOTHING = np.zeros(0, np.int32)
EMPTY = 128  # bytes of an .npy file without entries
POINTER = "current.json"
OFFERS = "offers"  # a version's folder for what is of collections


def publish(root: Path, made: Artefacts) -> str:
    """Write a version below `root` (HOME/serving) and let readers have it; returns its id.

    ValueError where arrays don't fit each other, BadSettings for rules that are wrong. Versions that serve no more are
    removed after an hour.
    """
    check(made)
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
    """Empty the lists of people in all versions, also for who has them open; how many rows that were, offers' too.

    A version that can't be opened is removed.
    """
    emptied = 0
    for folder in _versions(root):
        try:
            opened = Published.open(folder)
        except (NoData, BadSettings):
            for name in ("personal/*.npy", "site_of.npy", "bought.*.npy"):
                for path in folder.rglob(name):
                    with contextlib.suppress(ValueError, OSError):  # one that is damaged
                        _overwrite(path, slice(None))  # for who has it open
            shutil.rmtree(folder, ignore_errors=True)  # nobody can read it; whose lists are in it can't be told
            log.warning("%s can't be read, and is removed with its lists: `controltower score` publishes anew", folder)
            continue
        emptied += _empty(folder, opened, customers, visitors)
        if opened.offers:
            emptied += _empty(folder / OFFERS, opened.offers, customers, visitors)
    return emptied


def _empty(folder: Path, opened: Published, customers: Collection[str], visitors: Collection[str]) -> int:
    found = {opened.row(customer=c) for c in customers} | {opened.row(visitor=v) for v in visitors}
    rows = sorted(found - {-1})
    of_people = (*(folder / "personal").glob("*.product.npy"), *(folder / "personal").glob("*.about.npy"))
    for path in (*of_people, *folder.glob("site_of.npy")) if rows else ():
        _overwrite(path, rows)
    if opened.bought is not None and rows:
        entries = np.concatenate([np.arange(*opened.bought[row : row + 2]) for row in rows])
        for name in ("product", "second"):
            _overwrite(folder / f"bought.{name}.npy", entries)
    return len(rows)


def _overwrite(path: Path, rows: Sequence[int] | np.ndarray | slice) -> None:
    if path.stat().st_size > EMPTY:
        lists = np.load(path, mmap_mode="r+")
        lists[rows] = 0 if lists.dtype.kind == "u" else -1
        lists.flush()


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
        self.products = shown.read(folder / "products.arrow")
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
        self.bought: np.ndarray | None = None  # where each person's orders begin in the two others
        if told["bought"]:
            self.bought, self._product, self._second = (_read(folder / f"bought.{part}.npy") for part in _BOUGHT)
        self.search = Search.load(folder / "search") if told["search"] else None
        path = folder / "exhibitions.arrow"
        exhibitions = shown.read(path) if path.exists() else None
        told_of = exhibitions.select(EXHIBITION).to_pylist() if exhibitions else []
        self._exhibitions: dict[str, dict[str, Any]] = {row["collection_id"]: row for row in told_of}
        self.running = Running.of(self.products)
        self.exhibited: Running | None = None  # of the search's collections
        self.exhibited_at: dict[str, np.ndarray] = {}  # masks of them by site, "" where none has its own
        if self.search and exhibitions:
            known = exhibitions["collection_id"].to_pylist()
            at = {name: i for i, name in enumerate(known)}
            order = pa.array([at.get(name) for name in self.search.collection_ids.tolist()], pa.int64())
            theirs = exhibitions.take(order)
            self.exhibited = Running.of(theirs)
            site = np.array(theirs["site"].fill_null("").to_pylist(), object)
            everywhere = (site == "") | told["one_site"]
            self.exhibited_at = {name: everywhere | (site == name) for name in {"", *site.tolist()}}
        self.sites: list[str] = told["sites"]
        self.listed: dict[str, Allowed] = {}
        if self.sites:
            masks = _read(folder / "listed.npy")
            self.listed = {site: Allowed(*mask) for site, mask in zip(self.sites, masks, strict=False)}
            self._site_of = _read(folder / "site_of.npy")
        self.offers = Published(folder / OFFERS) if (folder / OFFERS).exists() else None

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
        if not ids:
            return NOTHING
        longest = self.product_ids.dtype.itemsize // 4
        cut = np.array([i[:longest] for i in ids], dtype=self.product_ids.dtype)  # another length would copy all ids
        found = positions(self.product_ids, cut)
        if max(map(len, ids)) > longest:
            found = np.where([len(i) <= longest for i in ids], found, -1)
        return found.astype(np.int32)

    def row(self, customer: str | None = None, visitor: str | None = None) -> int:
        """The person's row in `personal` and `bought`; -1 where they have none."""
        told = f"c{customer}" if customer is not None else f"v{visitor}"
        wanted = _hash(self._key, told)
        at = int(np.searchsorted(self.people, wanted))
        return at if at < len(self.people) and self.people[at] == wanted else -1

    def bought_by(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """What the person of a row ordered, sorted, and when last (epoch seconds, UTC)."""
        if row < 0 or self.bought is None:
            return NOTHING, NOTHING
        start, end = self.bought[row : row + 2]
        product, second = self._product[start:end], self._second[start:end]
        known = product >= 0  # -1: erased
        return product[known], second[known]

    def site(self, row: int) -> str:
        """The site of a person's row, where that has products or exhibitions of its own; else ""."""
        at = int(self._site_of[row]) if row >= 0 and self.sites else 0
        return self.sites[at - 1] if at else ""

    def shown(self, products: Sequence[int]) -> list[dict[str, Any]]:
        """What is shown of products: product_id, title, url, image_url, price, currency; None where unknown."""
        return [orjson.loads(self._shown[i].as_py()) for i in products]

    def exhibition(self, collection_id: str) -> dict[str, Any]:
        """What is shown of a collection: collection_id, title, url, image_url, kind; None where unknown."""
        found = self._exhibitions.get(collection_id)
        return found or dict.fromkeys(EXHIBITION) | {"collection_id": collection_id}

    def title(self, product: int) -> str | None:
        """The title of a product, its id where it has none; None for -1."""
        return (self._titles[product].as_py() or str(self.product_ids[product])) if product >= 0 else None

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
    def _titles(self) -> pa.Array:
        return self.products["title"].combine_chunks()

    @cached_property
    def _shown(self) -> pa.Array:
        return self.products["shown"].combine_chunks()

    @cached_property
    def catalogue(self) -> Catalogue:
        """What rules need to know of the products; titles are left out."""
        texts = {name: self.products[name].fill_null("").to_pandas().to_numpy(object) for name in ("category", "brand")}
        margin = self.products["margin_rate"].to_numpy().astype(float)
        since = np.full(len(self), np.datetime64("NaT"), "datetime64[us]")
        none = np.full(len(self), "", dtype=object)
        return Catalogue(self.product_ids, none, texts["category"], texts["brand"], self.prices, margin, since)


_TYPES = {
    "product": np.int32,
    "algorithm": np.uint8,
    "code": np.uint8,
    "about": np.int32,
    "score": np.float32,
    "start": np.int64,
}
_BOUGHT = ("start", "product", "second")


def _write(folder: Path, made: Artefacts) -> None:
    placements = sorted({*made.items, *made.personal, POPULAR, SEARCH})
    rules = {name: told for name, told in (made.rules or {}).items() if name in (EVERYWHERE, *placements)}
    parse(rules, "rules", placements)
    for name in ("items", "personal", *(["search"] if made.search else [])):
        (folder / name).mkdir()
    table = shown.columns(made.products, SHOWN)
    ids = strings(table["product_id"])
    shown.write(folder / "products.arrow", shown.of_products(table))
    if made.exhibitions is not None:
        shown.write(folder / "exhibitions.arrow", shown.columns(made.exhibitions, (*EXHIBITION, "site")))
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
    if made.bought is not None:
        bought = made.bought[by_hash].sorted_indices()
        parts = (bought.indptr, np.int64), (bought.indices, np.int32), (bought.data, np.int64)
        for part, (values, of) in zip(_BOUGHT, parts, strict=True):
            np.save(folder / f"bought.{part}.npy", values.astype(of, copy=False))
    if made.search is not None:
        made.search.save(folder / "search")
    if names := made.site_names():
        masks = np.zeros((len(made.listed), 2, len(ids)), bool)
        for mask, allowed in zip(masks, made.listed.values(), strict=True):
            mask[:] = allowed.sold, allowed.in_stock
        np.save(folder / "listed.npy", masks)
        number = {site: i for i, site in enumerate(names, 1)}
        sites = [""] * len(told) if made.sites is None else made.sites.tolist()
        site_of = np.fromiter((number.get(site, 0) for site in sites), np.uint16, len(told))
        _save_rows(folder / "site_of.npy", site_of, by_hash, np.uint16)
    if made.offers is not None:
        (folder / OFFERS).mkdir()
        _write(folder / OFFERS, made.offers)
    about = {
        "format": FORMAT, "as_of": made.as_of.astimezone(UTC).isoformat(), "zone": made.zone.key, "key": key.hex(),
        "placements": placements, "rules": rules, "repeats": sorted(made.repeats),
        "bought": made.bought is not None, "search": made.search is not None, "search_version": made.search_version,
        "sites": names, "one_site": made.has_one_site(),
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
