"""Dividing labelled pictures into a training and a validation part, as a new ICDAR-2015 folder."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from steadyocr.errors import ConflictError, DatasetError
from steadyocr.training.label_parts import is_file
from steadyocr.training.labels import read_folder
from steadyocr.training.regions import IGNORE_TEXT, LabelledImage, Region


def split_images(
    images: Sequence[LabelledImage], share: float, seed: int
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Divide pictures at random, each data set alike.

    Args:
        images: All pictures.
        share: Part that goes to validation, between 0 and 1; at least one picture of each set of two or more.
        seed: Same seed, same parts, whatever order the pictures come in.

    Returns:
        Training part, validation part.
    """
    by_set: dict[str, list[LabelledImage]] = {}
    for image in sorted(images, key=lambda each: str(each.path)):
        by_set.setdefault(image.dataset, []).append(image)
    train: list[LabelledImage] = []
    val: list[LabelledImage] = []
    for name, members in sorted(by_set.items()):
        # As bytes, for a set may be named by a folder whose name is not UTF-8; other names give the same parts.
        random.Random(f"{seed}-{name}".encode(errors="surrogatepass")).shuffle(members)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        val += members[:count]
        train += members[count:]
    return train, val


def split_folder(root: Path, out: Path, share: float, seed: int) -> tuple[int, int]:
    """Write ``OUT/train_list.txt`` and ``test_list.txt`` with their pictures (linked where possible) and labels.

    Nothing in ``root`` is changed. Outlines of more than four corners become their smallest rectangle, for a row of
    an ICDAR label file has room for four. Pictures keep their names as far as a list can hold them and no other
    picture of the part has the same, or one that differs in its ending alone.

    Returns:
        How many pictures each part has.

    Raises:
        ConflictError: The new folder is not empty.
        DatasetError: There are fewer than two pictures, or the share is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise DatasetError("the validation share must lie between 0 and 1")
    if out.exists() and any(out.iterdir()):
        raise ConflictError(f"{out}: is not empty; name a new folder")
    images = read_folder(root)
    for image in images:
        if not is_file(image.path):
            # Before anything is written: half a new folder would be in the next try's way.
            raise DatasetError(f"{root}: no such picture: {image.path}")
    train, val = split_images(images, share, seed)
    if not train or not val:
        raise DatasetError(f"{root}: {len(images)} pictures are too few to divide")
    for part, members in (("train", train), ("test", val)):
        _write_part(out, part, members)
    return len(train), len(val)


def _write_part(out: Path, part: str, images: Sequence[LabelledImage]) -> None:
    pictures, labels = out / f"{part}_images", out / f"{part}_gts"
    pictures.mkdir(parents=True)
    labels.mkdir()
    names = []
    for place, image in enumerate(images):
        name = _listable_name(image.path, place)
        # Pictures from different folders may share a name, and those of one folder a stem.
        while (pictures / name).exists() or _label_file(labels, name).exists():
            name = f"{place}-{name}"
        _link(image.path, pictures / name)
        _label_file(labels, name).write_text("".join(map(_row, image.regions)), encoding="utf-8")
        names.append(name)
    (out / f"{part}_list.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _listable_name(picture: Path, place: int) -> str:
    """Its own name, or a plain one where a list, which has one name a row, in UTF-8, could not hold that."""
    return next((name for name in (picture.name, f"{place}{picture.suffix}") if _is_listable(name)), str(place))


def _is_listable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not {"\n", "\r"} & set(name)


def _label_file(labels: Path, picture_name: str) -> Path:
    return labels / f"{Path(picture_name).stem}.txt"


def _link(source: Path, target: Path) -> None:
    """Give a picture a second name, or copy it where that cannot be.

    Raises:
        FileExistsError: The target is there; it may be another original's second name, so it is left alone.
    """
    try:
        # Of a symbolic link a second name would point nowhere from here.
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:
        with source.open("rb") as original, target.open("xb") as copy:
            shutil.copyfileobj(original, copy)


def _row(region: Region) -> str:
    polygon = region.polygon
    if len(polygon) != 4:
        polygon = np.asarray(cv2.boxPoints(cv2.minAreaRect(polygon)), np.float32)
    numbers = ",".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in polygon.reshape(-1))
    text = IGNORE_TEXT if region.ignore else " ".join(region.text.split())
    return f"{numbers},{text}\n"
