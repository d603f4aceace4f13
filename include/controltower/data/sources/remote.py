"""A prefix of an object store as a folder (s3://bucket/export, gs://..., file:///...): what a load needs is fetched.

An object belongs to a table by its name, as a folder's file does. An interval needs what changed since its start, and
all of a log (a late consent counts) and of what queries read. Where the store's credentials are: `connection:` names
Airflow's, else the environment's hold, as s3fs and gcsfs read them.

What may still be written isn't read: hidden files, names that begin with `_` or end in .tmp or .part, anything under
`_temporary`, and empty objects are passed over with a note; an object that changes while it is fetched stops the load.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import yaml

from controltower.data.contract import CONTRACT
from controltower.data.objects import changed, in_bytes, opened, unreachable
from controltower.data.sources.base import Input, Wanted
from controltower.data.sources.folder import CONFIG, FolderSource
from controltower.data.sources.mapping import SourceFile, validated
from controltower.data.staging import FORMATS
from controltower.errors import BadSource, yaml_mistake
from controltower.settings import INCLUDE, Settings

_BLOCK = 1 << 22  # bytes
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")

log = logging.getLogger(__name__)


class _Object(NamedTuple):
    key: str
    path: PurePosixPath  # below the prefix
    size: int
    changed: datetime


class RemoteFolder:
    """Reads the objects below `url`; a source.yaml there says how, where no named source does."""

    def __init__(
        self, settings: Settings, url: str, name: str | None = None, config: SourceFile | None = None,
        shop_file: Path | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._url = settings, url.rstrip("/")
        self._store, self._root = opened(self._url, config.connection if config else None)
        config = config or self._config_there()
        self.name = name or self._root.rsplit("/", 1)[-1]
        self.shop_file = shop_file or INCLUDE / "shops" / "folder.yaml"
        self.zone, self.known_at = config.timezone, config.known_at
        self.bad_rows_limit, self.encoding = config.bad_rows_limit, config.encoding
        self.delimiter: str = config.delimiter
        self._config = config
        self._notes: list[str] = []

    def tables(self, wanted: Wanted) -> dict[str, Input]:
        mirror = wanted.folder / "fetched"
        mirror.mkdir()
        there = self._listed()
        for found in there:  # their names are enough to tell what belongs where
            (mirror / found.path).parent.mkdir(parents=True, exist_ok=True)
            (mirror / found.path).touch()
        by_path = {mirror / found.path: found for found in there}
        config = self._config
        chosen = FolderSource(mirror, self.name, self.shop_file, config).chosen()
        needed: list[_Object] = []
        for table, files in chosen.items():
            fresh = [by_path[file] for file in files if self._is_needed(table, by_path[file], wanted)]
            if wanted.most_rows and table in CONTRACT:
                fresh = sorted(fresh, key=lambda found: found.changed)[-1:]
            for file in files:
                if by_path[file] not in fresh and not any(file in other for t, other in chosen.items() if t != table):
                    file.unlink()
            if not fresh:
                self._notes.append(f"{table}: nothing changed since the interval's start")
                config = config.model_copy(update={"tables": {k: v for k, v in config.tables.items() if k != table}})
            needed += [found for found in fresh if found not in needed]
        self._fetch(needed, mirror)
        if chosen and not needed:
            return {}
        source = FolderSource(mirror, self.name, self.shop_file, config)
        tables = source.tables(wanted)
        self._notes += source.notes()
        return tables

    def notes(self) -> list[str]:
        return self._notes

    def _is_needed(self, table: str, found: _Object, wanted: Wanted) -> bool:
        if wanted.since is None or table not in CONTRACT or CONTRACT[table].kind == "log":
            return True
        return found.changed >= wanted.since

    def _listed(self) -> list[_Object]:
        """The objects that may be read, by name; the others are told in the notes."""
        try:
            found = self._store.find(self._root, detail=True)
        except Exception as e:  # each store has errors of its own
            raise unreachable(self._url, e) from None
        if not found:
            raise BadSource(f"There is nothing at {self._url}.", "Correct the prefix.")
        there = []
        for key, about in sorted(found.items()):
            path = PurePosixPath(key.removeprefix(self._root).lstrip("/"))
            hidden = any(part.startswith(("_", ".")) for part in path.parts)
            if path.suffix in _UNFINISHED or (hidden and path.suffix in FORMATS) or "_temporary" in path.parts:
                self._notes.append(f"{path} looks unfinished or hidden, and was not read")
            elif path.suffix in FORMATS and not hidden and ".." not in path.parts:
                if about["size"]:
                    there.append(_Object(key, path, int(about["size"]), changed(about)))
                else:
                    self._notes.append(f"{path} is empty, perhaps still being written, and was not read")
        return there

    def _fetch(self, needed: list[_Object], mirror: Path) -> None:
        """Copy the objects over their place-holders, each with its time."""
        total, most = sum(found.size for found in needed), in_bytes(self._settings.spill)
        if total > most:
            raise BadSource(
                f"{self._url} holds {total / 1e9:,.1f} GB for this load, more than the {self._settings.spill} that may"
                " be fetched.",
                "Raise CONTROLTOWER_SPILL, or load shorter intervals.",
            )
        done = 0
        for number, found in enumerate(needed, start=1):
            target = mirror / found.path
            try:
                with self._store.open(found.key, "rb") as theirs, target.open("wb") as ours:
                    while block := theirs.read(_BLOCK):
                        ours.write(block)
                        if ours.tell() > found.size:
                            break
                self._store.invalidate_cache()
                now = self._store.info(found.key)
            except Exception as e:
                raise unreachable(f"{self._url}/{found.path}", e) from None
            size = int(now["size"])
            if not found.size == size == target.stat().st_size or changed(now) != found.changed:
                raise BadSource(
                    f"{self._url}/{found.path} changed while it was read ({found.size:,} bytes, then {size:,}).",
                    "Load again once it is whole; let the export write under another name first (x.csv.tmp).",
                )
            os.utime(target, (found.changed.timestamp(), found.changed.timestamp()))
            done += found.size
            log.info("%s: file %s of %s, %.1f of %.1f MB", found.path, number, len(needed), done / 1e6, total / 1e6)

    def _config_there(self) -> SourceFile:
        key = f"{self._root}/{CONFIG}"
        try:
            text = self._store.cat_file(key) if self._store.exists(key) else b""
        except Exception as e:
            raise unreachable(self._url, e) from None
        try:
            config = validated(yaml.safe_load(text.decode()) or {}, f"{self._url}/{CONFIG}")
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise BadSource(f"{self._url}/{CONFIG} is not valid YAML: {yaml_mistake(e)}.", "Correct it.") from None
        if config.kind != "folder" or config.location:
            raise BadSource(f"{self._url}/{CONFIG} describes another place.", "Keep it in HOME/sources, and name it.")
        return config
