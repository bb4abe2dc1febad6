"""What the readers of all label files share: text, rows, names, numbers and polygons, each checked."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from steadyocr.errors import DatasetError
from steadyocr.training.regions import IGNORE_TEXT, Region

_SHOWN = 60


def read_text(path: Path) -> str:
    """Read UTF-8, passing over a BOM; errors name the file and, for other encodings, the line."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}:{line}: not UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def rows_of(text: str) -> list[str]:
    """Divide what :func:`read_text` returned into rows.

    At row ends only: ``str.splitlines`` takes U+2028 and form feeds for some, and both occur in texts and names.
    """
    return text.split("\n")


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is one that is not there."""
    try:
        return path.is_file()
    except OSError:
        return False


def first_file(*candidates: Path) -> Path | None:
    """Return the first that is there."""
    return next(filter(is_file, candidates), None)


def set_name(folder: Path) -> str:
    """Return the name of the data set in a folder, also of one given as ``.`` or ``..``."""
    return folder.resolve().name if folder.name in ("", "..") else folder.name


def shown(value: object) -> str:
    """Return a value as messages show it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def file_name_from(value: object, where: str) -> str:
    """Return a value as the file name that it has to be."""
    if not isinstance(value, str) or not value:
        raise DatasetError(f"{where}: {shown(value)} is not a file name")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where}: {shown(value)} is not a file name: it holds half a character") from error
    if "\0" in value:
        raise DatasetError(f"{where}: {shown(value)} is not a file name")
    return value


def text_from(value: object, where: str) -> str:
    """Return a value as a region's text: nothing is the empty one, and numbers are written out."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DatasetError(f"{where}: {shown(value)} is not a text")
    try:
        text = str(value)
        text.encode()
    except ValueError as error:  # half a character, or more digits than Python cares to write
        raise DatasetError(f"{where}: its text cannot be written") from error
    return text


def number_from(value: object, where: str) -> float:
    """Return a value as a coordinate; some tools write numbers as texts."""
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float, str)):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise DatasetError(f"{where}: {shown(value)} is not a coordinate")


def region_from(numbers: list[float], text: str, where: str, *, ignore: bool = False) -> Region:
    """Make a region of ``x1, y1, x2, y2, ...``."""
    if len(numbers) < 6 or len(numbers) % 2:
        raise DatasetError(f"{where}: {len(numbers)} coordinates do not make a polygon")
    largest = float(np.finfo(np.float32).max)
    if not all(math.isfinite(number) and abs(number) <= largest for number in numbers):
        raise DatasetError(f"{where}: a coordinate is not finite")
    polygon = np.asarray(numbers, np.float32).reshape(-1, 2)
    return Region(polygon, text, ignore or text == IGNORE_TEXT)
