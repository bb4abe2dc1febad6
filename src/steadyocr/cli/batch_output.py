"""Where the answers of a batch go: one file per picture, or standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from steadyocr.page_formats import FILE_SUFFIXES, PageFormat, render_page

# Of a file's name, without number and suffix; most file systems take 255.
_MOST_BYTES = 230


class Output(Protocol):
    """Takes answers, one after the other."""

    def write(self, name: str, page: Mapping[str, Any], overlay: bytes) -> None:
        """Take the answer for the picture of this name."""


def open_output(folder: Path | None, kind: PageFormat) -> Output:
    """Return where answers go: into a folder, or to standard output."""
    return _Printed(kind) if folder is None else _Files(folder, kind)


class _Printed:
    def __init__(self, kind: PageFormat) -> None:
        self._kind = kind

    def write(self, name: str, page: Mapping[str, Any], overlay: bytes) -> None:
        """See :meth:`Output.write`."""
        del overlay
        if self._kind == "json":
            text = json.dumps({"file": name, **page}, ensure_ascii=False) + "\n"
        else:
            text = f"==> {name} <==\n{_rendered(page, self._kind)}"
        # A name may be no text at all: bytes of another time's encoding.
        sys.stdout.write(text.encode(errors="backslashreplace").decode())
        sys.stdout.flush()


class _Files:
    """Files named like their pictures; of equal names the later are numbered, in the order of the answers."""

    def __init__(self, folder: Path, kind: PageFormat) -> None:
        self._folder = folder
        self._kind = kind
        self._taken: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, page: Mapping[str, Any], overlay: bytes) -> None:
        """See :meth:`Output.write`."""
        target = self._folder / self._free(_harmless(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        content = overlay if self._kind == "overlay.png" else _rendered(page, self._kind).encode()
        # A file that is there is whole, whenever the run was broken off.
        temporary = target.with_name(f".steadyocr.{os.getpid()}.tmp")
        temporary.write_bytes(content)
        temporary.replace(target)

    def _free(self, name: str) -> str:
        suffix, number = FILE_SUFFIXES[self._kind], 1
        free = f"{name}{suffix}"
        while free in self._taken:
            number += 1
            free = f"{name}.{number}{suffix}"
        self._taken.add(free)
        return free


def _harmless(name: str) -> str:
    """Return a name that leads nowhere but below the folder: it may come out of an archive, or from a server."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", "..", ".")]
    kept = ["".join(letter if letter.isprintable() and letter != ":" else "_" for letter in part) for part in parts]
    return "/".join(map(_shortened, kept)) or "unnamed"


def _shortened(part: str) -> str:
    """Cut a name to what file systems take, with room for a number and a suffix; they count bytes, not letters."""
    return part.encode()[:_MOST_BYTES].decode(errors="ignore")


def _rendered(page: Mapping[str, Any], kind: PageFormat) -> str:
    if kind in ("text", "markdown", "csv"):
        return render_page(page, kind)
    return json.dumps(page, ensure_ascii=False) + "\n"
