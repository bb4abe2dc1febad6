"""What ``steadyocr batch`` is to read: folders, archives and patterns become a list of files with names."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from steadyocr.errors import EmptyInput

_PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be read.

    Attributes:
        name: Its name in outputs and messages: below a folder that was given, the way from there.
    """

    path: Path
    name: str


def collect(given: Iterable[str]) -> list[Source]:
    """Return the files that are meant, each once, folders in the order of their names.

    A folder gives all pictures below it, told by their endings; a file that is named is taken whatever it ends in.

    Raises:
        EmptyInput: One of them leads to nothing, or a folder cannot be read.
    """
    found: dict[Path, Source] = {}
    for text in given:
        sources = list(_expand(text))
        if not sources:
            raise EmptyInput(f"{text}: no file is there that could be read")
        for source in sources:
            found.setdefault(source.path.absolute(), source)
    return list(found.values())


def _expand(text: str) -> Iterator[Source]:
    path = Path(text)
    if path.is_dir():
        yield from _below(path)
    elif path.exists():
        yield Source(path, path.name)
    else:
        for match in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 - takes absolute ones too
            matched = Path(match)
            yield from _below(matched) if matched.is_dir() else [Source(matched, match.lstrip("/"))]


def _below(folder: Path) -> Iterator[Source]:
    for path in sorted(_visible(folder)):
        try:
            is_picture = path.suffix.lower() in _PICTURES and path.is_file()
        except PermissionError as error:  # a folder may be one to list and not to enter
            _refuse(error)
        if is_picture:
            yield Source(path, path.relative_to(folder).as_posix())


def _visible(folder: Path) -> Iterator[Path]:
    # Path.rglob leaves out what it may not read, and says nothing.
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> NoReturn:
    raise EmptyInput(f"{error.filename}: cannot be read: {error.strerror}") from error


def fingerprint(sources: Iterable[Source], options: Mapping[str, Any]) -> str:
    """Return what makes a batch the same one: names and content of its files, and what is done with them.

    Raises:
        EmptyInput: A file cannot be read.
    """
    whole = hashlib.sha256(json.dumps(dict(options), sort_keys=True).encode())
    for source in sources:
        # A name may be no text at all: bytes of another time's encoding.
        whole.update(f"\n{len(source.name)}:{source.name}:".encode(errors="surrogateescape"))
        whole.update(_hash(source).encode())
    return whole.hexdigest()


def _hash(source: Source) -> str:
    content = hashlib.sha256()
    try:
        with source.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                content.update(chunk)
    except OSError as error:
        raise EmptyInput(f"{source.path}: cannot be read: {error.strerror}") from error
    return content.hexdigest()
