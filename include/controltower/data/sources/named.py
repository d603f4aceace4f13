"""Named sources: a YAML file each, in HOME/sources, or shipped in include/sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from controltower.data.sources.base import Source
from controltower.data.sources.folder import FolderSource
from controltower.data.sources.mapping import SourceFile, read
from controltower.errors import BadSource
from controltower.settings import INCLUDE, Settings

SHIPPED = INCLUDE / "sources"


def files(settings: Settings) -> dict[str, Path]:
    """Every named source's file, by name. The home's own come before those of the same name that are shipped."""
    own = settings.home / "sources"
    found = {file.stem: file for folder in (SHIPPED, own) for file in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def find(settings: Settings, name: str) -> Source | None:
    """The source of that name, None where there is none. Raises BadSource where its file can't be used."""
    file = files(settings).get(name)
    return opened(settings, name, file) if file else None


def opened(settings: Settings, name: str, file: Path) -> Source:
    config = read(file)
    if config.kind not in KINDS:
        raise BadSource(f"{file}: there is no kind {config.kind!r}.", f"It is one of {', '.join(KINDS)}.")
    shop = file.parent / config.shop if config.shop else None
    if shop and not shop.is_file():
        raise BadSource(f"{file} names the shop file {config.shop}, which isn't there.", "Correct `shop:`.")
    return KINDS[config.kind](settings, name, config, shop)


def _folder(settings: Settings, name: str, config: SourceFile, shop: Path | None) -> Source:
    if not config.location:
        raise BadSource(f"The source {name} doesn't say where its files are.", "Add `location:` to its YAML.")
    if "://" in config.location:
        from controltower.data.sources.remote import RemoteFolder

        return RemoteFolder(settings, config.location, name, config, shop)
    return FolderSource(settings.home / Path(config.location).expanduser(), name, shop, config)


def _sql(_settings: Settings, name: str, config: SourceFile, shop: Path | None) -> Source:
    from controltower.data.sources.sql import SqlSource

    return SqlSource(name, config, shop)


# What a kind needs to read a source: another one is a class beside these, and a line here.
KINDS: dict[str, Callable[[Settings, str, SourceFile, Path | None], Source]] = {
    "folder": _folder,
    "sql": _sql,
}
