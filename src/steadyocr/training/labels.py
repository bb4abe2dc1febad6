"""Readers for data folders: three ICDAR-2015 dialects, our own layout, and LabelMe or COCO files.

The dialects differ in the list file and in how a label file is named:

====== ======================================= ============================================
A      ``1.jpg``                               ``train_gts/1.txt``
B      ``train_images/1.jpg train_gts/1.txt``  as written, a tab or a blank between
C      ``1.jpg``                               ``train_gts/gt_1.txt``, with BOM
====== ======================================= ============================================

A row of a label file is ``x1,y1,x2,y2,x3,y3,x4,y4,text``; everything after the eighth comma is text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from steadyocr.errors import DatasetError
from steadyocr.training.json_labels import read_json_folder
from steadyocr.training.label_parts import (
    file_name_from,
    first_file,
    is_file,
    read_text,
    region_from,
    rows_of,
    set_name,
    shown,
    text_from,
)
from steadyocr.training.regions import LabelledImage, Region, uncrossed
from steadyocr.training.set_names import tell_apart

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_COORDINATES: Final = 8
_TAB: Final = "\t"


def read_folder(root: Path, split: str = "train") -> list[LabelledImage]:
    """Read a data folder, finding out its layout.

    Args:
        root: The folder.
        split: ``train`` or ``test``; matters for the ICDAR-2015 layout only.

    Returns:
        Every picture with its regions, in a stable order.

    Raises:
        DatasetError: There is no such folder, its layout is none that is read, or a label in it cannot be read.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    if (root / f"{split}_list.txt").is_file():
        return read_icdar(root, split)
    if is_images_and_labels(root):
        return read_images_and_labels(root)
    if has_json(root):
        return read_json_folder(root)
    raise DatasetError(
        f"{root}: neither {split}_list.txt nor an images folder nor *.json labels are here; "
        "the README names the layouts that are read"
    )


def read_folders(roots: Iterable[Path], split: str = "train") -> list[LabelledImage]:
    """Read several folders, each once; sets of the same name get names that tell them apart."""
    distinct: dict[Path, Path] = {}
    for root in roots:
        distinct.setdefault(root.resolve(), root)
    return tell_apart([(root, read_folder(root, split)) for root in distinct.values()])


def read_icdar(root: Path, split: str = "train") -> list[LabelledImage]:
    """Read ``ROOT/<split>_list.txt`` with its pictures and label files, dialects A, B and C."""
    list_path = root / f"{split}_list.txt"
    images = []
    for number, line in enumerate(rows_of(read_text(list_path)), start=1):
        if not line.strip():
            continue
        image, label = resolve_entry(root, split, line, list_path, number)
        images.append(LabelledImage(image, read_label_file(label), set_name(root)))
    if not images:
        raise DatasetError(f"{list_path}: lists no picture")
    return images


def resolve_entry(root: Path, split: str, line: str, list_path: Path, number: int) -> tuple[Path, Path]:
    """Find picture and label file of one line of a list; errors name the list and the line.

    A name may hold blanks, at its ends too, so what is there decides: the whole line is tried as a name before it is
    taken as a pair.
    """
    where = f"{list_path}:{number}"
    pictures, gts = root / f"{split}_images", root / f"{split}_gts"
    entry = line.strip()
    image = first_file(pictures / line, root / line, pictures / entry, root / entry)
    if image is not None:
        return image, _label_of(image, gts, where)
    missing = f"{where}: no such picture: {line.partition(_TAB)[0].strip() or entry}"
    for left, right in _pairs(line):
        image = first_file(root / left, pictures / left)
        label = first_file(root / right, gts / right) if image else None
        if image and label:
            return image, label
        if image and missing.startswith(f"{where}: no such picture"):
            missing = f"{where}: no such label file: {right.strip()}"
    raise DatasetError(missing)


def _label_of(image: Path, gts: Path, where: str) -> Path:
    stem = image.stem
    label = first_file(gts / f"{stem}.txt", gts / f"gt_{stem}.txt", gts / f"{image.name}.txt")
    if label is None:
        raise DatasetError(f"{where}: no label file {stem}.txt or gt_{stem}.txt in {gts.name}")
    return label


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """Every way to read a line as picture and label file: divided at a tab, then at each blank from the right."""
    tabs = [place for place, letter in enumerate(line) if letter == _TAB]
    blanks = [place for place, letter in enumerate(line) if letter == " "]
    for place in tabs + blanks[::-1]:
        left, right = line[:place], line[place + 1 :]
        if left.strip() and right.strip():
            yield left, right
            yield left.strip(), right.strip()


def is_images_and_labels(root: Path) -> bool:
    """Whether a folder has our own layout; COCO's usual one has an ``images`` folder too, but a JSON file for labels.

    An ``images`` folder with nothing beside it counts as ours, so that the labels it lacks are named.
    """
    if not (root / "images").is_dir():
        return False
    return (root / "labels").is_dir() or (root / "manifest.jsonl").is_file() or not has_json(root)


def has_json(root: Path) -> bool:
    """Whether LabelMe or COCO files may be in a folder."""
    return next(root.glob("*.json"), None) is not None


def read_images_and_labels(root: Path) -> list[LabelledImage]:
    """Read ``images/NAME.ext`` with ``labels/NAME.txt``; a ``manifest.jsonl`` names the data sets."""
    manifest = root / "manifest.jsonl"
    if manifest.is_file():
        return list(_read_manifest(root, manifest))
    images = []
    for path in sorted((root / "images").iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        label = root / "labels" / f"{path.stem}.txt"
        if not is_file(label):
            raise DatasetError(f"{path}: no label file {label}")
        images.append(LabelledImage(path, read_label_file(label), set_name(root)))
    return images


def _read_manifest(root: Path, manifest: Path) -> Iterator[LabelledImage]:
    for number, line in enumerate(rows_of(read_text(manifest)), start=1):
        if line.strip():
            file, label, name = parse_manifest_row(root, line, f"{manifest}:{number}")
            if not is_file(label):
                raise DatasetError(f"{manifest}:{number}: no such label file: {label}")
            yield LabelledImage(file, read_label_file(label), name)


def parse_manifest_row(root: Path, line: str, where: str) -> tuple[Path, Path, str]:
    """Return picture, label file and data set of a row of ``manifest.jsonl``; errors begin with ``where``."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not a manifest row: {error}") from error
    if not isinstance(row, dict):
        raise DatasetError(f"{where}: not a manifest row: {shown(row)} is not a JSON object")
    file = root / file_name_from(row.get("file"), f"{where}: file")
    label = root / file_name_from(row.get("label") or f"labels/{file.stem}.txt", f"{where}: label")
    return file, label, text_from(row.get("dataset"), f"{where}: dataset") or set_name(root)


def read_label_file(path: Path) -> tuple[Region, ...]:
    """Read one ICDAR label file; a BOM and blank lines are passed over, quads that cross are put in order."""
    regions = []
    for number, line in enumerate(rows_of(read_text(path)), start=1):
        if line.strip():
            region = parse_label_line(line, f"{path}:{number}")
            regions.append(region.with_polygon(uncrossed(region.polygon)))
    return tuple(regions)


def parse_label_line(line: str, where: str) -> Region:
    """Parse ``x1,y1,...,x4,y4,text``; ``where`` (file:line) leads the message of an error."""
    fields = line.split(",", _COORDINATES)
    if len(fields) < _COORDINATES:
        raise DatasetError(f"{where}: {len(fields)} fields where eight coordinates and a text are due")
    try:
        numbers = [float(field) for field in fields[:_COORDINATES]]
    except ValueError as error:
        raise DatasetError(f"{where}: a coordinate is not a number: {error}") from error
    text = fields[_COORDINATES].strip() if len(fields) > _COORDINATES else ""
    return region_from(numbers, text, where)
