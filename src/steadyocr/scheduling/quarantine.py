"""Pictures that have ended engines, by content hash: refused at once, on disk across restarts, released by hand.

The file is one JSON document, replaced atomically. It holds hashes and measurements, never a picture or a name.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import NotFoundError, Quarantined

_log = logging.getLogger("steadyocr.quarantine")

MAX_ENTRIES: Final = 1000
_NEEDED: Final = {"deaths", "cause", "condemned_at"}


class Quarantine:
    """The list of condemned pictures.

    Args:
        path: The file; its folder is made. ``None`` keeps the list in memory only.
        max_entries: At most this many; the oldest goes first.
    """

    def __init__(self, path: Path | None, max_entries: int = MAX_ENTRIES) -> None:
        self._path = path
        self._max_entries = max_entries
        self._entries: dict[str, dict[str, Any]] = _load(path)

    def __len__(self) -> int:
        """How many pictures are condemned."""
        return len(self._entries)

    def may_hold(self, size: int) -> bool:
        """Whether one of so many bytes is condemned: a hash of every large upload would hold all others up."""
        return any(entry.get("bytes", size) == size for entry in self._entries.values())

    def check(self, digest: str) -> None:
        """Refuse a condemned picture.

        Raises:
            Quarantined: With the reason and when it was condemned.
        """
        entry = self._entries.get(digest)
        if entry is not None:
            raise Quarantined(
                f"this very picture has ended {entry['deaths']} engines ({entry['cause']}) and is refused; "
                "an operator can release it",
                sha256=digest,
                condemned_at=entry["condemned_at"],
            )

    def condemn(self, digest: str, record: Mapping[str, Any]) -> None:
        """Add a picture with what is known of its deaths (plain values)."""
        self._entries.pop(digest, None)
        while len(self._entries) >= self._max_entries:
            self._entries.pop(next(iter(self._entries)))
        self._entries[digest] = {**record, "condemned_at": round(time.time(), 3)}
        _log.error("A picture is quarantined", extra={"sha256": digest, **record})
        self._save()

    def release(self, digest: str) -> None:
        """Take a picture off the list.

        Raises:
            NotFoundError: It is not on it.
        """
        if self._entries.pop(digest, None) is None:
            raise NotFoundError("no picture with this hash is quarantined")
        self._save()

    def entries(self) -> list[dict[str, Any]]:
        """Return the list, oldest first."""
        return [{"sha256": digest, **entry} for digest, entry in self._entries.items()]

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".tmp")
            with temporary.open("w", encoding="utf-8") as stream:
                json.dump(self._entries, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._path)
        except OSError:
            # A full disk must not take the service down; the list still holds in memory.
            _log.exception("The quarantine list cannot be written")


def _load(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None or not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        _log.exception("The quarantine list cannot be read and starts empty")
        return {}
    found = dict(entries) if isinstance(entries, dict) else {}
    good = {digest: entry for digest, entry in found.items() if isinstance(entry, dict) and entry.keys() >= _NEEDED}
    if not isinstance(entries, dict) or len(good) < len(found):
        _log.error("The quarantine list holds what is no entry; that is left out")
    return good
