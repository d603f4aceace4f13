"""The published version that answers. A new one is opened beside the old, and takes over once it is ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from controltower import clock
from controltower.errors import BadSettings, ControlTowerError, NoData
from controltower.settings import Settings, shop_if_any

if TYPE_CHECKING:
    from controltower.models.recommend.decisions import Decisions
    from controltower.models.recommend.serving import Answer, Serving
    from controltower.models.recommend.session import Request

log = logging.getLogger(__name__)

EVERY: Final = 1.0  # seconds between two looks at which version serves
AGAIN: Final = 60.0  # seconds until a version that couldn't be opened is tried again
REMEDY: Final = "Run `controltower train` and `controltower score`."


class Live:
    """What a process serves from. `locale` is the shop's."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.root = settings, settings.home / "serving"
        self.locale = "en"
        self._serving: Serving | None = None
        self._decisions: Decisions | None = None
        self._looked = self._failed = float("-inf")
        self._bad: str | None = None  # the version that couldn't be opened last
        self._lock = Lock()
        self._opening: Thread | None = None

    def serving(self) -> Serving | None:
        """The version that is open; None where none is yet. Never waits: a new one is opened in the background."""
        now = time.monotonic()
        if self._serving is not None and now - self._looked >= EVERY:
            self._looked = now
            if self._wanted() and (self._opening is None or not self._opening.is_alive()):
                self._opening = Thread(target=self._refresh, name="recommendations", daemon=True)
                self._opening.start()
        return self._serving

    def opened(self) -> Serving:
        """The version that serves, opened if need be: seconds. NoData where none was published, or as opening says."""
        with self._lock:
            if self._serving is None:
                self._open()
            assert self._serving is not None
            return self._serving

    def answer(
        self, serving: Serving, asked: Request, locale: str, told: Callable[[Answer, str, str], dict[str, Any]]
    ) -> dict[str, Any]:
        """What to send for a request; the decision is logged."""
        from controltower.models.recommend.serving import answer

        assert self._decisions is not None
        now = clock.now(self.settings)
        made = answer(serving, asked, now)
        noted = self._decisions.note(
            now, made.placement, [i.id for i in made.items], [i.algorithm for i in made.items],
            made.fallback, made.model_version, made.version,
        )  # fmt: skip
        return told(made, noted, locale)

    def _wanted(self) -> bool:
        """Whether another version than the open one is to serve."""
        from controltower.models.recommend.published import current

        try:
            wanted = current(self.root)
        except (ControlTowerError, OSError) as e:
            log.error("recommendations go on as they are: %s", e)
            return False
        serves = self._serving.published.version if self._serving else None
        return wanted not in (None, serves) and not self._tried(wanted)

    def _refresh(self) -> None:
        with self._lock:
            try:
                self._open()
            except (ControlTowerError, OSError) as e:
                log.error("recommendations go on with the version before: %s", e)

    def _open(self) -> None:
        """Raises NoData where nothing was published, BadSettings for a version that can't be used."""
        from controltower.models.recommend.decisions import Decisions
        from controltower.models.recommend.published import Published, current
        from controltower.models.recommend.serving import Serving

        version = current(self.root)
        if version is None:
            raise NoData("Nothing was published yet.", REMEDY)
        if self._tried(version):
            raise BadSettings(f"The published version {version} can't be opened.", REMEDY)
        try:
            serving = Serving(Published.open(self.root / version))
            serving.warm_up(clock.now(self.settings))
        except Exception as e:
            self._bad, self._failed = version, time.monotonic()
            what = str(e) if isinstance(e, ControlTowerError) else type(e).__name__
            raise BadSettings(f"The published version {version} can't be opened: {what}", REMEDY) from e
        shop = shop_if_any(self.settings)
        self.locale = shop.locale if shop else "en"
        self._decisions = self._decisions or Decisions(self.root / "decisions")
        self._serving, self._looked = serving, time.monotonic()
        log.info("recommendations are served from %s", version)

    def _tried(self, version: str | None) -> bool:
        return version == self._bad and time.monotonic() - self._failed < AGAIN
