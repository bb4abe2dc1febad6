"""What stands behind the web page: kept maps, the history, the laboratory."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.service.body_budget import BodyShare
from steadyocr.service.history import History
from steadyocr.service.lab import Lab
from steadyocr.service.maps import Maps
from steadyocr.settings import Settings

_log = logging.getLogger("steadyocr.page")

_SWEEP_PERIOD_S: Final = 30.0
_KEY_ID: Final = re.compile(r"key-(\d+)")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request wants to be kept of it.

    Attributes:
        keep_map: The probability map, for a short while.
        keep: The page and its picture, in the history.
    """

    keep_map: bool = False
    keep: bool = False

    @property
    def extras(self) -> dict[str, bool] | None:
        """What an engine is asked for beside the page."""
        return {"keep_map": self.keep_map, "thumbnail": self.keep} if self.keep_map or self.keep else None


class PageBackend:
    """Owns what the page's requests leave behind.

    Args:
        settings: The whole tree.
        submit: Admission.
        share: An empty share of the bytes that the front may hold, for one request.
        change_detector: Makes another model the serving detector, or raises and changes nothing.
    """

    def __init__(
        self,
        settings: Settings,
        submit: Callable[[WorkItem], Awaitable[Reply]],
        share: Callable[[], BodyShare],
        change_detector: Callable[[str], Awaitable[None]],
    ) -> None:
        floor = settings.jobs.min_free_bytes
        self.maps = Maps(
            settings.data_dir / "cache" / "maps",
            settings.page,
            min_free_bytes=floor,
            submit=submit,
            share=share,
            read_timeout_s=settings.queue.timeout_s,
        )
        self.history = History(settings.data_dir / "history", settings.history, min_free_bytes=floor)
        self.lab = Lab(settings, change_detector)
        self._keys = [key.get_secret_value() for key in settings.auth.api_keys]

    async def run(self) -> None:
        """Take up what an earlier process left, then remove what is too old, for ever.

        A folder that cannot be read is tried again in each round; meanwhile it counts as empty, and the laboratory as
        not ready. Pictures are read without any of them. What is no trouble of the disk is a fault of ours, and seen.
        """
        untaken: dict[str, Callable[[], Awaitable[None]]] = {
            "maps": lambda: asyncio.to_thread(self.maps.shelf.load),
            "history": lambda: asyncio.to_thread(self.history.shelf.load),
            "lab": self.lab.load,
        }
        told: set[str] = set()
        while True:
            for name, load in list(untaken.items()):
                try:
                    await load()
                except OSError:
                    if name not in told:
                        _log.exception("What is kept cannot be read; it is tried again", extra={"part": name})
                    told.add(name)
                else:
                    del untaken[name]
            await asyncio.sleep(_SWEEP_PERIOD_S)
            for shelf in (self.maps.shelf, self.history.shelf):
                await asyncio.to_thread(shelf.sweep)

    async def stop(self) -> None:
        """End what runs in the laboratory."""
        await self.lab.stop()

    async def remember(self, picture: bytes, reply: Reply, wishes: Wishes, owner: str) -> dict[str, str | None]:
        """Keep what a request wants to be kept.

        Returns:
            What is added to the page: ``map_id`` and ``history_id``, ``None`` where it could not be kept.
        """
        page, parts = reply.message["page"], _split(reply)
        added: dict[str, str | None] = {}
        if wishes.keep_map:
            plan = reply.message.get("map_plan", {})
            added["map_id"] = await self.maps.keep(picture, page, parts["map"], plan) if "map" in parts else None
        if wishes.keep:
            kept = self.history.enabled
            added["history_id"] = (
                await self.history.keep(picture, page, parts.get("thumbnail", b""), owner) if kept else None
            )
        return added

    def owner_of(self, key_id: str | None) -> str:
        """Name whose history it is: a fingerprint of the key, so that another key's entries stay another's."""
        match = _KEY_ID.fullmatch(key_id or "")
        if match is None:
            return ""
        return hashlib.sha256(self._keys[int(match[1])].encode()).hexdigest()[:16]


def _split(reply: Reply) -> dict[str, bytes]:
    """The files that follow each other in an engine's payload."""
    sizes: Mapping[str, Any] = reply.message.get("parts", {})
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = reply.payload[start : start + int(size)]
        start += int(size)
    return parts
