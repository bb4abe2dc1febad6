"""Pages that their sender asked to be kept, with their pictures, for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import InsufficientStorage, NotFoundError
from steadyocr.service.shelf import Bounds, Entry, Shelf
from steadyocr.settings.page import HistorySettings

_log = logging.getLogger("steadyocr.history")

_PAGE_NAME: Final = "page.json"
_PICTURE_NAME: Final = "picture"
_THUMBNAIL_NAME: Final = "thumbnail.jpg"
_FIRST_LINE_CHARACTERS: Final = 80


def _first_line(page: Mapping[str, Any]) -> str:
    """What somebody recognises a page by in a list."""
    return next((line["text"] for line in page["lines"] if line.get("text")), "")[:_FIRST_LINE_CHARACTERS]


def _missing() -> NotFoundError:
    return NotFoundError("no such entry in the history, or not any more")


class History:
    """The entries of all owners; each owner sees their own.

    Args:
        folder: Where they lie.
        settings: How long and how many.
        min_free_bytes: Disk space below which none is kept.
    """

    def __init__(self, folder: Path, settings: HistorySettings, *, min_free_bytes: int) -> None:
        bounds = Bounds(
            max_age_s=settings.keep_s,
            max_count=settings.max_entries,
            max_bytes=settings.max_bytes,
            min_free_bytes=min_free_bytes,
        )
        self.enabled = settings.enabled
        self.keep_s = settings.keep_s
        self.shelf = Shelf(folder, bounds, _missing)

    async def keep(self, picture: bytes, page: Mapping[str, Any], thumbnail: bytes, owner: str) -> str | None:
        """Keep a page.

        Returns:
            Its id, or ``None`` where the disk does not take it: the page itself is not harmed.
        """
        files = {_PAGE_NAME: json.dumps(page).encode(), _PICTURE_NAME: picture}
        if thumbnail:
            files[_THUMBNAIL_NAME] = thumbnail
        facts = {
            "owner": owner,
            "width": page["image"]["width"],
            "height": page["image"]["height"],
            "format": page["image"]["format"],
            "lines": len(page["lines"]),
            "first_line": _first_line(page),
            "ms": round(sum(page["timings_ms"].values()), 1),
            "thumbnail": bool(thumbnail),
        }
        try:
            return (await asyncio.to_thread(self.shelf.put, files, facts)).id
        except (OSError, InsufficientStorage):
            _log.exception("A page could not be kept in the history")
            return None

    async def entries(self, owner: str, limit: int) -> list[Entry]:
        """Return an owner's newest entries."""
        every = await asyncio.to_thread(self.shelf.newest_first)
        return [entry for entry in every if entry.facts.get("owner") == owner][:limit]

    async def page(self, entry_id: str, owner: str) -> tuple[Entry, dict[str, Any]]:
        """Return an entry and its page.

        Raises:
            NotFoundError: It is not there, or somebody else's.
        """
        entry = await self._own(entry_id, owner)
        page: dict[str, Any] = json.loads(await asyncio.to_thread(self.shelf.read, entry_id, _PAGE_NAME))
        return entry, page

    async def picture(self, entry_id: str, owner: str) -> tuple[Entry, bytes]:
        """Return an entry and its encoded picture.

        Raises:
            NotFoundError: It is not there, or somebody else's.
        """
        entry = await self._own(entry_id, owner)
        return entry, await asyncio.to_thread(self.shelf.read, entry_id, _PICTURE_NAME)

    async def thumbnail(self, entry_id: str, owner: str) -> bytes:
        """Return an entry's thumbnail, a JPEG file.

        Raises:
            NotFoundError: It is not there, or somebody else's.
        """
        await self._own(entry_id, owner)
        return await asyncio.to_thread(self.shelf.read, entry_id, _THUMBNAIL_NAME)

    async def delete(self, entry_id: str, owner: str) -> None:
        """Forget an entry.

        Raises:
            NotFoundError: It is not there, or somebody else's.
        """
        await self._own(entry_id, owner)
        await asyncio.to_thread(self.shelf.delete, entry_id)

    async def delete_all(self, owner: str) -> int:
        """Forget all of an owner's entries; returns how many there were."""
        entries = await self.entries(owner, self.shelf.max_count)
        for entry in entries:
            # One that went by itself meanwhile is as gone as wanted.
            with contextlib.suppress(NotFoundError):
                await asyncio.to_thread(self.shelf.delete, entry.id)
        return len(entries)

    async def _own(self, entry_id: str, owner: str) -> Entry:
        entry = await asyncio.to_thread(self.shelf.use, entry_id)
        if entry.facts.get("owner") != owner:
            raise _missing()
        return entry
