"""Reading the settings again while serving: what can change at once does, the rest is named."""

from __future__ import annotations

import logging
from collections.abc import Callable

from steadyocr.errors import SteadyOCRError
from steadyocr.settings import Settings
from steadyocr.telemetry.notify import Notifier

_log = logging.getLogger("steadyocr.reloading")


class Reloader:
    """Compares the settings in force with those that are there now.

    Args:
        settings: In force.
        reread: Reads them again from all sources.
        notifier: The service manager waits for the end of a reload.
        detector: Names the detector that serves: the laboratory may have changed it since the start.
    """

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        notifier: Notifier,
        detector: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._notifier = notifier
        self._detector = detector
        self._waiting = ""

    def reload(self) -> None:
        """Take over the log level; name the sections that need a restart. Wrong settings change nothing."""
        self._notifier.reloading()
        try:
            found = self._reread()
        except SteadyOCRError as error:
            _log.error("The settings cannot be used and were not taken over", extra={"reason": error.message})
            refusal = "the new settings cannot be used; the old ones are in force"
            self._notifier.remark = "; ".join(filter(None, (refusal, self._waiting)))
            self._notifier.ready(refusal)
            return
        logging.getLogger().setLevel(found.logging.level.upper())
        models = self._settings.models.model_copy(update={"detector": self._detector()})
        waiting = _sections_that_differ(self._settings.model_copy(update={"models": models}), found)
        _log.info("The settings were read again", extra={"log_level": found.logging.level, "need_a_restart": waiting})
        self._notifier.remark = self._waiting = f"to be restarted for: {', '.join(waiting)}" if waiting else ""
        self._notifier.ready(f"settings read again; to be restarted for: {', '.join(waiting) or 'nothing'}")


def _sections_that_differ(before: Settings, after: Settings) -> list[str]:
    kept = {"logging": after.logging.model_copy(update={"level": before.logging.level})}
    comparable = after.model_copy(update=kept)
    return [name for name in Settings.model_fields if getattr(before, name) != getattr(comparable, name)]
