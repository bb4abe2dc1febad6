"""What a reload says to the service manager, at once and later."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from steadyocr.api.reloading import Reloader
from steadyocr.errors import ConfigError
from steadyocr.settings import Settings
from steadyocr.telemetry.notify import Notifier


class Heard(Notifier):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def ready(self, status: str) -> None:
        self.said.append(status)


@pytest.fixture
def heard() -> Iterator[Heard]:
    level = logging.getLogger().level
    yield Heard()
    logging.getLogger().setLevel(level)


def test_what_waits_for_a_restart_is_said_until_it_waits_no_more(heard: Heard) -> None:
    before = Settings()
    found = [before.model_copy(update={"queue": before.queue.model_copy(update={"max_size": 7})}), before]
    reloader = Reloader(before, lambda: found.pop(0), heard, lambda: before.models.detector)
    reloader.reload()
    assert heard.said == ["settings read again; to be restarted for: queue"]
    assert heard.remark == "to be restarted for: queue"
    reloader.reload()
    assert heard.said[1:] == ["settings read again; to be restarted for: nothing"]
    assert heard.remark == ""


def test_a_detector_that_serves_already_needs_no_restart(heard: Heard) -> None:
    before = Settings()
    taken = before.model_copy(update={"models": before.models.model_copy(update={"detector": "lab-1"})})
    found = [taken, before]
    reloader = Reloader(before, lambda: found.pop(0), heard, lambda: "lab-1")
    reloader.reload()
    assert heard.said == ["settings read again; to be restarted for: nothing"]
    # The file names the one of the start again, and it does not serve.
    reloader.reload()
    assert heard.said[1:] == ["settings read again; to be restarted for: models"]


def test_wrong_settings_do_not_hide_what_waits_for_a_restart(heard: Heard) -> None:
    before = Settings()
    found = [before.model_copy(update={"queue": before.queue.model_copy(update={"max_size": 7})})]

    def reread() -> Settings:
        if not found:
            raise ConfigError("queue.max_size must be at least 1")
        return found.pop()

    reloader = Reloader(before, reread, heard, lambda: before.models.detector)
    reloader.reload()
    reloader.reload()
    assert "cannot be used" in heard.remark
    assert heard.remark.endswith("to be restarted for: queue")


def test_settings_that_cannot_be_used_are_said_to_be_so(heard: Heard) -> None:
    def reread() -> Settings:
        raise ConfigError("queue.max_size must be at least 1")

    Reloader(Settings(), reread, heard, lambda: "any").reload()
    assert heard.said == [heard.remark]
    assert "cannot be used" in heard.remark
