"""Readers for LabelMe and COCO files, told apart by their keys. Nothing in them is taken on trust.

What is wrong with one entry is handed to ``complain``; where that returns, the entry is left out and reading goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from steadyocr.errors import DatasetError
from steadyocr.training.label_parts import (
    file_name_from,
    first_file,
    number_from,
    read_text,
    region_from,
    set_name,
    shown,
    text_from,
)
from steadyocr.training.regions import LabelledImage, Region, uncrossed

Complain = Callable[[DatasetError], object]

# Keys that a training run's config.json has and no label file.
_RUN_KEYS: Final = frozenset({"sources", "crop_size"})


def _refuse(error: DatasetError) -> NoReturn:
    raise error


def read_json_folder(root: Path) -> list[LabelledImage]:
    """Read every ``*.json`` of a folder; quads that cross are put in order."""
    return [_uncrossed(image) for path in sorted(root.glob("*.json")) for image in read_json_labels(path)]


def _uncrossed(image: LabelledImage) -> LabelledImage:
    regions = tuple(region.with_polygon(uncrossed(region.polygon)) for region in image.regions)
    return replace(image, regions=regions)


def read_json_labels(path: Path, complain: Complain = _refuse) -> list[LabelledImage]:
    """Read a file, LabelMe or COCO, its outlines as they are written.

    Raises:
        DatasetError: It is neither, or ``complain`` raised it.
    """
    values = _read_json(path)
    if "annotations" in values:
        return _coco(path, values, path.parent, complain)
    if "shapes" in values:
        return [_labelme(path, values, complain)]
    if values.keys() >= _RUN_KEYS:
        raise DatasetError(f"{path}: the settings of a training run; name the folder of the labelled pictures instead")
    raise DatasetError(
        f'{path}: neither LabelMe (no "shapes") nor COCO (no "annotations"); if it holds no labels, move it elsewhere'
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise DatasetError(f"{path}: not JSON of a sensible shape: {error}") from error
    return _object(values, f"{path}:1")


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: not a JSON object")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DatasetError(f"{where}: {shown(value)} is not a list")
    return value


def _labelme(path: Path, values: Mapping[str, Any], complain: Complain) -> LabelledImage:
    """One picture; a shape's label is its text, rectangles become quads."""
    regions = []
    for index, shape in enumerate(_list(values["shapes"], f"{path}: shapes")):
        try:
            regions.append(_labelme_region(shape, f"{path}: shape {index}"))
        except DatasetError as error:
            complain(error)
    name = file_name_from(values.get("imagePath") or f"{path.stem}.jpg", f"{path}: imagePath")
    return LabelledImage(path.parent / name.replace("\\", "/"), tuple(regions), set_name(path.parent))


def _labelme_region(value: object, where: str) -> Region:
    shape = _object(value, where)
    points = [
        [number_from(number, where) for number in _list(point, f"{where}: a point")]
        for point in _list(shape.get("points"), f"{where}: points")
    ]
    if any(len(point) != 2 for point in points):
        raise DatasetError(f"{where}: a point has two coordinates")
    kind = text_from(shape.get("shape_type"), f"{where}: shape_type")
    if kind == "rectangle" and len(points) == 2:
        points = _rectangle(points[0], points[1])
    text = text_from(shape.get("label"), f"{where}: label")
    return region_from([number for point in points for number in point], text, where)


def _rectangle(first: list[float], second: list[float]) -> list[list[float]]:
    (x0, x1), (y0, y1) = sorted((first[0], second[0])), sorted((first[1], second[1]))
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def _coco(path: Path, values: Mapping[str, Any], root: Path, complain: Complain) -> list[LabelledImage]:
    """Polygon segmentations or boxes; ``iscrowd`` marks a region to ignore."""
    images: dict[object, str] = {}
    for index, row in enumerate(_list(values.get("images"), f"{path}: images")):
        try:
            image_id, name = _coco_image(row, images, f"{path}: image {index}")
        except DatasetError as error:
            complain(error)
        else:
            images[image_id] = name
    regions: dict[object, list[Region]] = {image_id: [] for image_id in images}
    for index, value in enumerate(_list(values["annotations"], f"{path}: annotations")):
        where = f"{path}: annotation {index}"
        try:
            annotation = _object(value, where)
            _of_picture(annotation, regions, where).extend(list(_coco_regions(annotation, where)))
        except DatasetError as error:
            complain(error)
    return [LabelledImage(_coco_file(root, name), tuple(regions[key]), path.stem) for key, name in images.items()]


def _coco_file(root: Path, name: str) -> Path:
    """A picture beside the JSON file or, as is usual, in ``images``; some tools write that folder into the name."""
    inside = root / "images" / name
    return first_file(inside, root / name) or (inside if (root / "images").is_dir() else root / name)


def _coco_image(value: object, others: Container[object], where: str) -> tuple[object, str]:
    row = _object(value, where)
    image_id = _id(row.get("id"), f"{where}: id")
    if image_id in others:
        raise DatasetError(f"{where}: its id {shown(image_id)} is another picture's too")
    return image_id, file_name_from(row.get("file_name"), f"{where}: file_name")


def _of_picture(annotation: Mapping[str, Any], regions: Mapping[object, list[Region]], where: str) -> list[Region]:
    image_id = _id(annotation.get("image_id"), f"{where}: image_id")
    if image_id not in regions:
        raise DatasetError(f"{where}: image_id {shown(image_id)} is that of no picture")
    return regions[image_id]


def _id(value: object, where: str) -> int | float | str:
    # Some tools know no whole numbers and write 1.0, which equals 1 here too.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise DatasetError(f"{where}: {shown(value)} is neither a number nor a text")
    return value


def _coco_regions(annotation: Mapping[str, Any], where: str) -> Iterator[Region]:
    text, crowd = _coco_text(annotation, where), annotation.get("iscrowd") or False
    if not isinstance(crowd, (bool, int)):
        raise DatasetError(f"{where}: iscrowd: {shown(crowd)} is neither 0 nor 1")
    parts = annotation.get("segmentation")
    # A run-length mask is an object: its box has to do.
    if not parts or isinstance(parts, dict):
        parts = [_box(annotation.get("bbox"), f"{where}: bbox")]
    for part in _list(parts, f"{where}: segmentation"):
        numbers = [number_from(value, where) for value in _list(part, f"{where}: segmentation: a part")]
        yield region_from(numbers, text, where, ignore=bool(crowd))


def _coco_text(annotation: Mapping[str, Any], where: str) -> str:
    """COCO has no field for texts, so each tool has its own."""
    attributes = annotation.get("attributes")
    extra = {} if attributes is None else _object(attributes, f"{where}: attributes")
    found = (annotation.get("text"), annotation.get("utf8_string"), extra.get("text"))
    return next(filter(None, (text_from(value, f"{where}: text") for value in found)), "")


def _box(value: object, where: str) -> list[float]:
    numbers = [number_from(each, where) for each in _list(value, where)]
    if len(numbers) != 4:
        raise DatasetError(f"{where}: {len(numbers)} numbers where x, y, width and height are due")
    x, y, width, height = numbers
    return [x, y, x + width, y, x + width, y + height, x, y + height]
