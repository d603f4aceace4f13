"""Where a lake's files are: a folder, or a prefix of an object store (s3://bucket/lake, gs://bucket/lake).

The lake asks little of it: to write a name that nobody else has written, all of it or nothing, and to tell when it was
written. Parts never change, so those of an object store are read from copies below the home.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Protocol

from controltower import clock
from controltower.data.objects import changed, in_bytes, is_taken, opened, unreachable
from controltower.errors import BadSettings, BadSource, ControlTowerError
from controltower.settings import Settings

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
UNUSED = 3600.0  # seconds after which a copy may go: no reader holds it


class Store(Protocol):
    """Files by their names, as `orders/part-1.parquet`. Times are epoch seconds by the store's own clock."""

    folder: Path  # where parts are, or are copied to

    def get(self, name: str) -> bytes | None:
        """What was written; None where there is no such name."""

    def get_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """The same of several names, without those that are gone."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a name that is free. False where somebody else has taken it."""

    def put(self, name: str, data: bytes) -> None:
        """Write a name, whatever it held."""

    def written(self, name: str) -> float:
        """When it was."""

    def others(self, folder: str, known: Collection[str], before: float = inf) -> list[str]:
        """The names in a folder that aren't known, and were written before a moment."""

    def lacking(self, names: Collection[str]) -> list[str]:
        """Those that aren't there."""

    def add(self, name: str) -> None:
        """Take over a part that was written to `folder`."""

    def local(self, names: Iterable[str]) -> list[str]:
        """The paths of parts, to be read within the hour."""

    def remove(self, names: Iterable[str]) -> None:
        """For good, where they are still there."""

    def address(self, name: str) -> str:
        """Under what other programs find it."""

    def forget(self, known: Collection[str]) -> None:
        """Drop copies of parts that aren't known any more, and beyond a size those that weren't read for longest."""

    def remove_halves(self, before: float) -> None:
        """Remove what was begun in `folder` before a moment and never became whole."""


def store_of(settings: Settings) -> Store:
    if settings.lake is None:
        return Folder(settings.home / "lake")
    return Bucket(
        settings.lake, settings.lake_connection, settings.home / "lake-copies", in_bytes(settings.lake_copies)
    )


class Folder:
    """Files on this machine, for their owner alone: nearly all of them tell of persons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def get_all(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: data for name in names if (data := self.get(name)) is not None}

    def create(self, name: str, data: bytes) -> bool:
        fresh = self._fresh(name, data)
        try:
            os.link(fresh, self.folder / name)
        except FileExistsError:
            return False
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            raise BadSettings(
                f"{self.folder} is on a file system without hard links: publishing there isn't safe.",
                "Let CONTROLTOWER_HOME be on another one, or the lake in an object store (CONTROLTOWER_LAKE).",
            ) from None
        finally:
            fresh.unlink()
        return True

    def put(self, name: str, data: bytes) -> None:
        self._fresh(name, data).replace(self.folder / name)

    def written(self, name: str) -> float:
        return (self.folder / name).stat().st_mtime

    def others(self, folder: str, known: Collection[str], before: float = inf) -> list[str]:
        try:
            with os.scandir(self.folder / folder) as entries:
                names = {f"{folder}/{e.name}": e for e in entries}
                return sorted(
                    name for name, e in names.items()
                    if name not in known and not e.name.startswith(".") and (before == inf or _time(e) < before)
                )  # fmt: skip
        except FileNotFoundError:
            return []

    def lacking(self, names: Collection[str]) -> list[str]:
        return [name for name in names if not (self.folder / name).is_file()]

    def add(self, name: str) -> None:
        pass  # it was written to its place

    def local(self, names: Iterable[str]) -> list[str]:
        return [str(self.folder / name) for name in names]

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def address(self, name: str) -> str:
        return str((self.folder / name).resolve())

    def forget(self, known: Collection[str]) -> None:
        pass

    def remove_halves(self, before: float) -> None:
        _remove_halves(self.folder, before)

    def _fresh(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        private(self.folder, path.parent)
        fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        return fresh


class Bucket:
    """Objects below a prefix. A name is taken by a conditional write: S3's If-None-Match, GCS's ifGenerationMatch."""

    def __init__(self, url: str, connection: str | None, copies: Path, most: int) -> None:
        self._url, self.folder, self._most = url.rstrip("/"), copies, most
        self._objects, self._root = opened(self._url, connection)
        self._tried = False

    def get(self, name: str) -> bytes | None:
        with self._reached():
            try:
                data: bytes = self._objects.cat_file(self._key(name), start=0)  # else its size is asked for, too
            except FileNotFoundError:
                return None
            return data

    def get_all(self, names: Iterable[str]) -> dict[str, bytes]:
        keys = {self._key(name): name for name in names}
        with self._reached():
            found = self._objects.cat(list(keys), on_error="return", start=0) if keys else {}
            for e in found.values():
                if isinstance(e, Exception) and not isinstance(e, FileNotFoundError):
                    raise e
        return {keys[key]: data for key, data in found.items() if isinstance(data, bytes)}

    def create(self, name: str, data: bytes) -> bool:
        if not self._tried:
            self._try_out()
        return self._create(name, data)

    def put(self, name: str, data: bytes) -> None:
        with self._reached():
            self._objects.pipe_file(self._key(name), data)

    def written(self, name: str) -> float:
        with self._reached():
            return changed(self._objects.info(self._key(name), refresh=True)).timestamp()

    def others(self, folder: str, known: Collection[str], before: float = inf) -> list[str]:
        with self._reached():
            self._objects.invalidate_cache()
            found = self._objects.find(self._key(folder), detail=True)
        names = {key.removeprefix(self._root).lstrip("/"): about for key, about in found.items()}
        return sorted(n for n, about in names.items() if n not in known and changed(about).timestamp() < before)

    def lacking(self, names: Collection[str]) -> list[str]:
        there = {found for folder in {name.partition("/")[0] for name in names} for found in self.others(folder, ())}
        return [name for name in names if name not in there]

    def add(self, name: str) -> None:
        with self._reached():
            self._objects.put_file(str(self.folder / name), self._key(name))

    def local(self, names: Iterable[str]) -> list[str]:
        paths = {name: self.folder / name for name in names}
        fresh = {
            name: path.with_name(f".{path.name}-{uuid.uuid4().hex}")
            for name, path in paths.items() if not _touched(path)
        }  # fmt: skip
        for folder in {path.parent for path in fresh.values()}:
            private(self.folder, folder)
        try:
            with self._reached():
                if fresh:
                    self._objects.get([self._key(name) for name in fresh], [str(path) for path in fresh.values()])
                for name, path in fresh.items():
                    path.chmod(0o600)
                    path.replace(paths[name])
        finally:
            for path in fresh.values():
                path.unlink(missing_ok=True)
        return [str(path) for path in paths.values()]

    def remove(self, names: Iterable[str]) -> None:
        keys = []
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
            keys.append(self._key(name))
        with self._reached(), suppress(FileNotFoundError):  # others may remove the same
            if keys:
                self._objects.rm(keys)

    def address(self, name: str) -> str:
        return f"{self._url}/{name}"

    def forget(self, known: Collection[str]) -> None:
        unused = clock.wall() - UNUSED
        copies = []
        for path in self.folder.glob("*/*.parquet"):
            with suppress(FileNotFoundError):  # another process drops some as well
                copies.append((path, path.stat()))
        size = sum(about.st_size for _, about in copies)
        for path, about in sorted(copies, key=lambda copy: copy[1].st_mtime):
            gone = f"{path.parent.name}/{path.name}" not in known
            if about.st_mtime < unused and (gone or size > self._most) and _time(path) < unused:  # not read meanwhile
                path.unlink(missing_ok=True)
                size -= about.st_size
        self.remove_halves(unused)

    def remove_halves(self, before: float) -> None:
        _remove_halves(self.folder, before)

    def _create(self, name: str, data: bytes) -> bool:
        with self._reached():
            try:
                self._objects.pipe_file(self._key(name), data, mode="create")
            except Exception as e:
                if self.get(name) == data:  # an earlier try came through, whose answer was lost
                    return True
                if not is_taken(e):
                    raise
                return False
        return True

    def _try_out(self) -> None:
        """A store that doesn't know conditional writes would lose what two processes publish at once."""
        name = f"try-{uuid.uuid4().hex}"
        self._create(name, b"first")
        second = self._create(name, b"second")
        self.remove([name])
        if second:
            raise BadSettings(
                f"{self._url} is at a store without conditional writes (If-None-Match): publishing there isn't safe.",
                "Update the store, or take another one for CONTROLTOWER_LAKE.",
            )
        self._tried = True

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except ControlTowerError:
            raise
        except FileNotFoundError:
            raise BadSource(
                f"A file of {self._url} isn't there.",
                "If it was replaced meanwhile, run it again: it read for too long. Else check the bucket's name.",
            ) from None
        except Exception as e:  # each store has errors of its own
            raise unreachable(self._url, e) from None

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}"


def private(*folders: Path) -> None:
    """Make folders for their owner alone, where they aren't there yet."""
    for path in folders:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)


def _remove_halves(folder: Path, before: float) -> None:
    for path in [*folder.glob(".*-*"), *folder.glob("*/.*-*")]:
        if _time(path) < before:
            path.unlink(missing_ok=True)


def _time(entry: os.DirEntry[str] | Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return inf  # another process removed it


def _touched(path: Path) -> bool:
    """Whether it is there; notes that it was used."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
