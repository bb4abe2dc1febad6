"""Readers for label files: three ICDAR-2015 dialects, our own folder layout, LabelMe and COCO.

The dialects differ in the list file and in how a label file is named:

====== ================================== =================================
A      ``1.jpg``                          ``train_gts/1.txt``
B      ``train_images/1.jpg train_gts/1.txt``  as written
C      ``1.jpg``                          ``train_gts/gt_1.txt``, with BOM
====== ================================== =================================

A row of a label file is ``x1,y1,x2,y2,x3,y3,x4,y4,text``; everything after the eighth comma is text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from steadyocr.errors import DatasetError
from steadyocr.training.regions import IGNORE_TEXT, LabelledImage, Region

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_COORDINATES: Final = 8


def read_folder(root: Path, split: str = "train") -> list[LabelledImage]:
    """Read a data folder, finding out its layout.

    Args:
        root: The folder.
        split: ``train`` or ``test``; matters for the ICDAR-2015 layout only.

    Returns:
        Every picture with its regions, in a stable order.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    if (root / f"{split}_list.txt").is_file():
        return read_icdar(root, split)
    if (root / "images").is_dir():
        return read_images_and_labels(root)
    if next(root.glob("*.json"), None) is not None:
        return read_json_folder(root)
    raise DatasetError(
        f"{root}: neither {split}_list.txt nor an images folder nor *.json labels are here; "
        "see the data-set chapter of the manual for the layouts that are read"
    )


def read_icdar(root: Path, split: str = "train") -> list[LabelledImage]:
    """Read ``ROOT/<split>_list.txt`` with its pictures and label files, dialects A, B and C."""
    list_path = root / f"{split}_list.txt"
    images = []
    for number, line in enumerate(read_text(list_path).splitlines(), start=1):
        if not line.strip():
            continue
        image, label = resolve_entry(root, split, line.strip(), list_path, number)
        images.append(LabelledImage(image, read_label_file(label), root.name))
    if not images:
        raise DatasetError(f"{list_path}: lists no picture")
    return images


def resolve_entry(root: Path, split: str, entry: str, list_path: Path, number: int) -> tuple[Path, Path]:
    """Find picture and label file of one line of a list; errors name the list and the line."""
    folder = root / f"{split}_images"
    # A name may hold blanks, so the whole line is tried as a name before it is taken as a pair.
    image = _first_file(folder / entry, root / entry)
    if image is not None:
        stem = image.stem
        gts = root / f"{split}_gts"
        label = _first_file(gts / f"{stem}.txt", gts / f"gt_{stem}.txt", gts / f"{image.name}.txt")
        if label is None:
            raise DatasetError(f"{list_path}:{number}: no label file {stem}.txt or gt_{stem}.txt in {gts.name}")
        return image, label
    left, _, right = entry.replace("\t", " ").rpartition(" ")
    image = _first_file(root / left.strip(), folder / left.strip()) if left else None
    if image is None:
        raise DatasetError(f"{list_path}:{number}: no such picture: {entry}")
    label = _first_file(root / right, root / f"{split}_gts" / right)
    if label is None:
        raise DatasetError(f"{list_path}:{number}: no such label file: {right}")
    return image, label


def _first_file(*candidates: Path) -> Path | None:
    return next((path for path in candidates if path.is_file()), None)


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
        if not label.is_file():
            raise DatasetError(f"{path}: no label file {label}")
        images.append(LabelledImage(path, read_label_file(label), root.name))
    return images


def _read_manifest(root: Path, manifest: Path) -> Iterator[LabelledImage]:
    for number, line in enumerate(read_text(manifest).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            file = root / row["file"]
            label = root / (row.get("label") or f"labels/{file.stem}.txt")
            name = str(row.get("dataset", root.name))
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{manifest}:{number}: not a manifest row: {error}") from error
        yield LabelledImage(file, read_label_file(label), name)


def read_label_file(path: Path) -> tuple[Region, ...]:
    """Read one ICDAR label file; a BOM and blank lines are passed over."""
    regions = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            regions.append(parse_label_line(line, f"{path}:{number}"))
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
    return _region(numbers, text, where)


def _region(numbers: list[float], text: str, where: str, *, ignore: bool = False) -> Region:
    if not all(math.isfinite(number) for number in numbers):
        raise DatasetError(f"{where}: a coordinate is not finite")
    if len(numbers) < 6 or len(numbers) % 2:
        raise DatasetError(f"{where}: {len(numbers)} coordinates do not make a polygon")
    polygon = np.asarray(numbers, np.float32).reshape(-1, 2)
    return Region(polygon, text, ignore or text == IGNORE_TEXT)


def read_json_folder(root: Path) -> list[LabelledImage]:
    """Read every ``*.json`` of a folder, LabelMe or COCO, told apart by their keys."""
    images: list[LabelledImage] = []
    for path in sorted(root.glob("*.json")):
        values = _read_json(path)
        images += read_coco(path) if "annotations" in values else [read_labelme(path)]
    return images


def read_labelme(path: Path) -> LabelledImage:
    """Read one LabelMe file; the shape's label is its text, rectangles become quads."""
    values = _read_json(path)
    regions = []
    for index, shape in enumerate(values.get("shapes", ())):
        where = f"{path}: shape {index}"
        try:
            points = [[float(x), float(y)] for x, y in shape["points"]]
            text = str(shape.get("label", ""))
            kind = shape.get("shape_type", "polygon")
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{where}: no usable points: {error}") from error
        if kind == "rectangle" and len(points) == 2:
            points = _rectangle(points[0], points[1])
        regions.append(_region([value for point in points for value in point], text, where))
    image = path.parent / str(values.get("imagePath") or f"{path.stem}.jpg").replace("\\", "/")
    return LabelledImage(image, tuple(regions), path.parent.name)


def _rectangle(first: list[float], second: list[float]) -> list[list[float]]:
    (x0, x1), (y0, y1) = sorted((first[0], second[0])), sorted((first[1], second[1]))
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def read_coco(path: Path, image_folder: Path | None = None) -> list[LabelledImage]:
    """Read a COCO file with polygon segmentations (or boxes); ``iscrowd`` marks a region to ignore."""
    values = _read_json(path)
    folder = image_folder or (path.parent / "images" if (path.parent / "images").is_dir() else path.parent)
    regions: dict[Any, list[Region]] = {}
    for index, annotation in enumerate(values.get("annotations", ())):
        where = f"{path}: annotation {index}"
        try:
            regions.setdefault(annotation["image_id"], []).extend(_coco_regions(annotation, where))
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{where}: not a polygon annotation: {error!r}") from error
    try:
        return [
            LabelledImage(folder / row["file_name"], tuple(regions.get(row["id"], ())), path.stem)
            for row in values["images"]
        ]
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: images need id and file_name: {error!r}") from error


def _coco_regions(annotation: Mapping[str, Any], where: str) -> Iterator[Region]:
    attributes = annotation.get("attributes") or {}
    text = str(annotation.get("text") or annotation.get("utf8_string") or attributes.get("text") or "")
    crowd = bool(annotation.get("iscrowd"))
    parts = annotation.get("segmentation")
    if not isinstance(parts, list) or not parts:
        x, y, width, height = (float(value) for value in annotation["bbox"])
        parts = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    for part in parts:
        yield _region([float(value) for value in part], text, where, ignore=crowd)


def read_text(path: Path) -> str:
    """Read UTF-8, passing over a BOM; errors name the file and, for other encodings, the line."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}:{line}: not UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{path}:1: not a JSON object")
    return values
