"""Names that tell data sets of several folders apart: ``a/test`` and ``b/test`` are two sets, not one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from steadyocr.training.regions import LabelledImage


def tell_apart(parts: Sequence[tuple[Path, Sequence[LabelledImage]]]) -> list[LabelledImage]:
    """Lay the pictures of several folders in one row; where a set's name occurs in two, more of the path leads it."""
    folders: dict[str, set[Path]] = {}
    for folder, images in parts:
        for image in images:
            folders.setdefault(image.dataset, set()).add(folder.resolve())
    names = {
        (name, folder): _name(name, folder, found)
        for name, found in folders.items()
        for folder in (found if len(found) > 1 else ())
    }
    return [
        replace(image, dataset=names.get((image.dataset, folder.resolve()), image.dataset))
        for folder, images in parts
        for image in images
    ]


def _name(name: str, folder: Path, all_folders: Iterable[Path]) -> str:
    paths = [path.parts for path in all_folders]
    count = next(count for count in range(1, max(map(len, paths)) + 1) if _differ(path[-count:] for path in paths))
    tail = Path(*folder.parts[-count:]).as_posix()
    return tail if folder.name == name else f"{tail}/{name}"


def _differ(tails: Iterable[tuple[str, ...]]) -> bool:
    seen = list(tails)
    return len(set(seen)) == len(seen)
