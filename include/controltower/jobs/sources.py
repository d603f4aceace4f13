"""Which sources there are, and what one would bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controltower import clock, settings
from controltower.errors import BadSource
from controltower.settings import Settings

if TYPE_CHECKING:
    from controltower.data.sources.base import Source


def opened(conf: Settings, name: str) -> Source:
    """A source by its name, a folder or a URL prefix. Raises BadSource where there is neither."""
    from controltower.data.expressions import nearest
    from controltower.data.sources import named
    from controltower.data.sources.folder import FolderSource

    if name in _BUILT_IN:
        return _BUILT_IN[name](conf)
    found = named.find(conf, name)
    if found:
        return found
    if "://" in name:
        from controltower.data.sources.remote import RemoteFolder

        return RemoteFolder(conf, name)
    if "/" not in name and not Path(name).is_dir():
        known = [*_BUILT_IN, *named.files(conf)]
        raise BadSource(
            f"There is no folder {name}, and no source of that name{nearest(name, known)}.",
            f"Name an existing folder, write {conf.home}/sources/{name}.yaml, or choose of {', '.join(known)}.",
        )
    return FolderSource(Path(name))


def list_sources() -> list[dict[str, str]]:
    """Every source by name: {name, kind, file, about}; a broken file says so in `about`."""
    from controltower.data.sources import named
    from controltower.data.sources.mapping import read

    conf = settings.load()
    found = [{"name": name, "kind": "built in", "file": "", "about": about} for name, about in _ABOUT.items()]
    for name, file in named.files(conf).items():
        try:
            config = read(file)
            kind, about = config.kind, config.about
        except BadSource as e:
            kind, about = "broken", str(e)
        found.append({"name": name, "kind": kind, "file": str(file), "about": about})
    return found


def check_source(name: str, rows: int = 20) -> dict[str, Any]:
    """What the source would bring (`data.sources.check`); nothing is loaded. Raises BadSource as a load does."""
    from controltower.data.gate import Interval
    from controltower.data.sources.check import check

    conf = settings.load()
    source = opened(conf, name)
    own = conf.shop or conf.shop_file.is_file()
    shop = settings.load_shop(conf) if own else settings.parse_shop(source.shop_file)
    now = clock.now(conf)
    interval = Interval("check", None, now, source.zone or shop.timezone, source.known_at or "happened", now)
    return check(conf, source, interval, rows)


def _simulated(conf: Settings) -> Source:
    from controltower.jobs.simulated_source import SimulatedShop

    return SimulatedShop(conf)


def _null_shop(conf: Settings) -> Source:
    from controltower.jobs.simulated_source import NullShop

    return NullShop(conf)


def _online_retail(conf: Settings) -> Source:
    from controltower.data.sources.online_retail import OnlineRetail

    return OnlineRetail(conf)


_BUILT_IN: dict[str, Callable[[Settings], Source]] = {
    "simulated": _simulated,
    "null-shop": _null_shop,
    "online-retail": _online_retail,
}
_ABOUT = {
    "simulated": "a seeded shop in Korea whose customers answer messages",
    "null-shop": "the same shop, in which no message makes anybody buy",
    "online-retail": "UCI Online Retail: the real orders of a UK gift shop, 2010-12 to 2011-12; downloaded",
}
