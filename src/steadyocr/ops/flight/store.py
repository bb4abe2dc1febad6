"""Where flight records lie: numbered JSON files, whole or not there, the oldest deleted beyond a bound."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import InvalidRequest, NotFoundError
from steadyocr.ops.files import forget_unfinished, write_whole

_log = logging.getLogger("steadyocr.flight")

MAX_FILES: Final = 50
# All rings of the recorder at their fullest, and what stands around them.
_MAX_FILE_BYTES: Final = (4 << 20) + (256 << 10)
# Numbers, not times, order the files: a clock may be set back.
_NAME: Final = re.compile(r"flight-(\d{6,})-([a-z0-9_-]+)\.json")


class FlightStore:
    """The records of one data folder.

    Args:
        folder: Where they lie; made when the first is written.
        max_files: At most so many.
    """

    def __init__(self, folder: Path, max_files: int = MAX_FILES) -> None:
        self.folder = folder
        self._max_files = max_files

    def paths(self) -> list[Path]:
        """Return the files, oldest first."""
        if not self.folder.is_dir():
            return []
        known = ((found, path) for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name)))
        return [path for _, path in sorted(known, key=lambda entry: int(entry[0][1]))]

    def next_number(self) -> int:
        """Return the number after the last one there is."""
        paths = self.paths()
        found = _NAME.fullmatch(paths[-1].name) if paths else None
        return int(found[1]) + 1 if found else 1

    def save(self, number: int, label: str, record: Mapping[str, Any]) -> None:
        """Write a record, or write it anew with more in it. A failure is logged and harms nobody."""
        path = self.folder / f"flight-{number:06d}-{label}.json"
        try:
            write_whole(path, json.dumps(record, separators=(",", ":")))
            for old in self.paths()[: -self._max_files]:
                old.unlink(missing_ok=True)
            forget_unfinished(self.folder)
        except OSError:
            _log.exception("A flight record cannot be written")
            return
        _log.info("A flight record is written", extra={"record": path.name})

    def load(self, name: str | None = None) -> tuple[str, dict[str, Any]]:
        """Return a record and its file's name.

        Args:
            name: A path, a file name in the folder or a number; ``None`` is the last one.

        Raises:
            NotFoundError: There is no such record.
            InvalidRequest: The file is no record.
        """
        path = self._find(name)
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise InvalidRequest(f"{path} is too large for a flight record")
            record = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise NotFoundError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidRequest(f"{path} is no flight record") from error
        if not isinstance(record, dict) or record.get("format") != 1:
            raise InvalidRequest(f"{path} is no flight record")
        return path.name, record

    def _find(self, name: str | None) -> Path:
        paths = self.paths()
        if name is None:
            if not paths:
                raise NotFoundError(f"no flight record lies in {self.folder}: no engine has died yet")
            return paths[-1]
        by_number = [path for path in paths if name.isdecimal() and path.name.startswith(f"flight-{int(name):06d}-")]
        candidates = [*by_number, self.folder / name, Path(name)]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise NotFoundError(f"there is no flight record {name!r}")
        return found
