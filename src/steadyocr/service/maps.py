"""Kept probability maps: what makes the page's sliders instant.

The front keeps bytes that it does not understand, on disk and bounded, and hands them to any engine with the new
knobs. No engine remembers anything, so a map outlives the engine that made it, and the work goes through the same
admission as a picture.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import (
    EngineDied,
    InputError,
    InsufficientStorage,
    MapExpired,
    Quarantined,
    SteadyOCRError,
)
from steadyocr.imaging.header import ImageHeader, probe
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.service.body_budget import BodyShare
from steadyocr.service.shelf import Bounds, Entry, Shelf
from steadyocr.settings.page import PageSettings
from steadyocr.types import OcrOptions

_log = logging.getLogger("steadyocr.maps")

MAP_NAME: Final = "map.png"
_PICTURE_NAME: Final = "picture"
_KNOWN_NAME: Final = "known.json"
_KNOBS: Final = ("bin_threshold", "box_threshold", "unclip_ratio")
# Without reading, the work is some milliseconds; who waits longer than this has moved the slider again.
_TIMEOUT_S: Final = 10.0
# Lines whose texts are remembered for one map, some megabytes; a dense page has one or two thousand.
_MAX_KNOWN: Final = 10_000
# For the memory prediction of reading more lines: no network map is made, only the picture counts.
_NO_NETWORK_SIDE: Final = 32


def _expired() -> MapExpired:
    return MapExpired("this map is not kept any more; send the picture again")


@dataclass(frozen=True, slots=True)
class _Kept:
    """One map as read from the disk.

    Attributes:
        payload: The map and, only when it is needed, the picture after it.
        map_bytes: How much of that is the map.
        header: Of the picture, when it is there.
        known: Lines whose texts are known.
        facts: What belongs to the map.
    """

    payload: bytes
    map_bytes: int
    header: ImageHeader | None
    known: list[dict[str, Any]]
    facts: dict[str, Any]


class Maps:
    """Keeps maps and post-processes them again.

    Args:
        folder: Where they lie.
        settings: How long and how many.
        min_free_bytes: Disk space below which none is kept.
        submit: Admission.
        share: An empty share of the bytes that the front may hold, for one request.
        read_timeout_s: Seconds that reading further lines may take.
    """

    def __init__(
        self,
        folder: Path,
        settings: PageSettings,
        *,
        min_free_bytes: int,
        submit: Callable[[WorkItem], Awaitable[Reply]],
        share: Callable[[], BodyShare],
        read_timeout_s: float,
    ) -> None:
        bounds = Bounds(
            max_age_s=settings.map_keep_s,
            max_count=settings.max_maps,
            max_bytes=settings.max_map_bytes,
            min_free_bytes=min_free_bytes,
            renewed_by_use=True,
        )
        self.shelf = Shelf(folder, bounds, _expired)
        self._submit = submit
        self._share = share
        self._read_timeout_s = read_timeout_s

    async def keep(
        self, picture: bytes, page: Mapping[str, Any], map_png: bytes, plan: Mapping[str, int]
    ) -> str | None:
        """Keep the map of a page that was just made.

        Returns:
            Its id, or ``None`` where the disk does not take it: the page itself is not harmed.
        """
        known = [_known(line) for line in page["lines"] if line["text_score"] is not None]
        files = {MAP_NAME: map_png, _PICTURE_NAME: picture, _KNOWN_NAME: json.dumps(known).encode()}
        facts = {"plan": dict(plan), "knobs": {name: page["options"][name] for name in _KNOBS}}
        try:
            return (await asyncio.to_thread(self.shelf.put, files, facts)).id
        except (OSError, InsufficientStorage):
            _log.exception("A probability map could not be kept")
            return None

    async def picture_of(self, map_id: str) -> bytes:
        """Return a map as a grayscale PNG file.

        Raises:
            MapExpired: It is not kept any more.
        """
        return await asyncio.to_thread(self.shelf.read, map_id, MAP_NAME)

    async def lines(
        self,
        map_id: str,
        options: OcrOptions,
        *,
        client: str = "",
        request_id: str | None = None,
        timeout_s: float = math.inf,
    ) -> dict[str, Any]:
        """Post-process a map again.

        Args:
            map_id: From :meth:`keep`.
            options: The knobs, those of the page where ``None``; and whether to read lines that have no text yet.
            client: Who asks, for fairness.
            request_id: For the logs.
            timeout_s: How long the client waits, in seconds.

        Returns:
            ``lines``, ``timings_ms`` and the knobs in effect.

        Raises:
            MapExpired: It is not kept any more.
            QueueFull: The front holds too many bytes already.
            SteadyOCRError: See :meth:`Scheduler.submit`.
        """
        # A few bytes of request bring a whole picture from the disk; it waits in memory like one that was sent.
        share = self._share()
        try:
            entry = await asyncio.to_thread(self.shelf.use, map_id)
            if options.recognise:
                share.grow_to(entry.size)
            kept = await asyncio.to_thread(self._load, entry, options.recognise)
            share.grow_to(len(kept.payload))
            allowed_s = min(timeout_s, self._read_timeout_s if options.recognise else _TIMEOUT_S)
            return await self._lines(map_id, options, kept, allowed_s, client, request_id)
        finally:
            share.give_back()

    async def _lines(
        self, map_id: str, options: OcrOptions, kept: _Kept, allowed_s: float, client: str, request_id: str | None
    ) -> dict[str, Any]:
        knobs = {name: getattr(options, name) for name in _KNOBS}
        knobs = {name: kept.facts["knobs"][name] if value is None else value for name, value in knobs.items()}
        item = WorkItem(
            kept.payload,
            OcrOptions(max_side=_NO_NETWORK_SIDE),
            asyncio.get_running_loop().time() + allowed_s,
            kind="postprocess",
            client=client,
            request_id=request_id,
            header=kept.header,
            extra={
                "map_bytes": kept.map_bytes,
                "plan": kept.facts["plan"],
                "params": knobs,
                "known": kept.known,
            },
        )
        answer = (await self._through_admission(map_id, item)).message
        fresh = [_known(answer["lines"][index]) for index in answer["fresh"]]
        if fresh:
            await asyncio.to_thread(self._remember, map_id, fresh)
        return {"lines": answer["lines"], "timings_ms": answer["timings_ms"], "options": knobs}

    async def _through_admission(self, map_id: str, item: WorkItem) -> Reply:
        try:
            return await self._submit(item)
        except (Quarantined, EngineDied, InputError):
            # What ended engines, or cannot be read, is not offered to them again and again.
            await asyncio.to_thread(self._forget, map_id)
            raise

    def _load(self, entry: Entry, with_picture: bool) -> _Kept:
        known = json.loads(self.shelf.read(entry.id, _KNOWN_NAME))
        map_png = self.shelf.read(entry.id, MAP_NAME)
        picture = self.shelf.read(entry.id, _PICTURE_NAME) if with_picture else b""
        return _Kept(map_png + picture, len(map_png), probe(picture) if picture else None, known, entry.facts)

    def _remember(self, map_id: str, fresh: list[dict[str, Any]]) -> None:
        def change(before: bytes) -> bytes:
            return json.dumps((json.loads(before) + fresh)[-_MAX_KNOWN:]).encode()

        try:
            self.shelf.replace(map_id, _KNOWN_NAME, change)
        except (OSError, SteadyOCRError):
            # The answer stands; these lines are read again next time, if there is one.
            _log.warning("What was read could not be remembered with its map")

    def _forget(self, map_id: str) -> None:
        try:
            self.shelf.delete(map_id)
        except MapExpired:
            return


def _known(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in ("quad", "text", "text_score")}
