"""Everything that is wrong with a data folder, with file and line; reads all layouts that training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steadyocr.errors import DatasetError
from steadyocr.training.files import replace_whole, write_first
from steadyocr.training.json_labels import read_json_labels
from steadyocr.training.label_lines import Finding, Severity, inspect_line, repaired, shape_findings
from steadyocr.training.label_parts import is_file, read_text, rows_of
from steadyocr.training.labels import (
    IMAGE_SUFFIXES,
    has_json,
    is_images_and_labels,
    parse_manifest_row,
    resolve_entry,
)
from steadyocr.training.pictures import read_image

_BOM: Final = "\ufeff".encode()
_SPLITS: Final = ("train", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem and where it is; ``line`` counts from 1 and is ``None`` for a whole file."""

    path: Path
    line: int | None
    finding: Finding

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        return f"{where}: {self.finding.severity}: {self.finding.message} [{self.finding.kind}]"


@dataclass(frozen=True, slots=True)
class LabelText:
    """A checked text file and what it should be; the same text where nothing can be mended."""

    path: Path
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of a check."""

    pictures: int
    problems: tuple[Problem, ...]
    texts: tuple[LabelText, ...]

    def count(self, severity: Severity) -> int:
        """How many problems of a severity."""
        return sum(problem.finding.severity == severity for problem in self.problems)


@dataclass(frozen=True, slots=True)
class _Pair:
    image: Path
    label: Path


class _Check:
    """What has been found so far."""

    def __init__(self, advance: Callable[[], object]) -> None:
        self.problems: list[Problem] = []
        self.texts: list[LabelText] = []
        self.pictures = 0
        self._labelled: dict[Path, Path] = {}
        self._advance = advance

    def say(self, path: Path, line: int | None, kind: str, severity: Severity, message: str) -> None:
        self.problems.append(Problem(path, line, Finding(kind, severity, message)))

    def picture_size(self, path: Path) -> tuple[int, int] | None:
        """Decode a picture; width and height, or ``None`` after saying what is wrong."""
        self.pictures += 1
        self._advance()
        if not is_file(path):
            self.say(path, None, "missing_picture", "error", "no such picture")
            return None
        try:
            image = read_image(path)
        except DatasetError as error:
            self.say(path, None, "unreadable_picture", "error", error.message.removeprefix(f"{path}: "))
            return None
        return image.shape[1], image.shape[0]

    def pair(self, pair: _Pair) -> None:
        """Check a picture and its label file."""
        size = self.picture_size(pair.image)
        if not is_file(pair.label):
            self.say(pair.label, None, "missing_label", "error", f"no label file for {pair.image.name}")
            return
        first = self._labelled.setdefault(pair.label, pair.image)
        # Pictures of different stems share one only where a manifest or a list says so, on purpose.
        if first != pair.image and first.stem == pair.image.stem:
            message = f"has the same label file as {first.name}: {pair.label.name}"
            self.say(pair.image, None, "shared_label", "error", message)
            return
        lines = self.lines(pair.label)
        if lines is None:
            return
        if not any(line.strip() for line in lines):
            self.say(pair.label, None, "empty", "note", "no label: taken as a picture without text")
        self.texts.append(LabelText(pair.label, pair.label.read_bytes(), self._rows(pair.label, lines, size)))

    def _rows(self, path: Path, lines: list[str], size: tuple[int, int] | None) -> bytes:
        """Check the rows of a label file; returns the file as it should be."""
        kept: list[str] = []
        seen: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            findings, region = inspect_line(line, f"{path}:{number}", size)
            mended = line if region is None else repaired(line, region, findings, size)
            if mended in seen:
                message = f"the same row as line {seen[mended]}"
                self.problems.append(Problem(path, number, Finding("duplicate", "warning", message, fixable=True)))
                continue
            seen[mended] = number
            self.problems += [Problem(path, number, finding) for finding in findings]
            kept.append(mended)
        return "".join(f"{line}\n" for line in kept).encode()

    def lines(self, path: Path) -> list[str] | None:
        """Lines of a text file, or ``None`` after saying why there are none."""
        try:
            text = read_text(path)
        except DatasetError as error:
            line = error.message.removeprefix(f"{path}:").split(":")[0]
            if line.isdigit():
                self.say(path, int(line), "not_utf8", "error", "not UTF-8; save it as UTF-8")
            else:
                self.say(path, None, "unreadable", "error", error.message.removeprefix(f"{path}: "))
            return None
        if path.read_bytes().startswith(_BOM):
            message = "starts with a byte order mark; other tools take it for part of the first number"
            self.problems.append(Problem(path, 1, Finding("bom", "warning", message, fixable=True)))
        return rows_of(text)

    def rows_stay(self, path: Path, lines: list[str]) -> None:
        """Keep a text of which only a byte order mark and blank lines may be mended."""
        rows = "".join(f"{line}\n" for line in lines if line.strip()).encode()
        self.texts.append(LabelText(path, path.read_bytes(), rows))


def check_folder(root: Path, advance: Callable[[], object] = lambda: None) -> Report:
    """Check a folder in any layout.

    Args:
        root: The folder.
        advance: Called for each picture.

    Raises:
        DatasetError: There is no such folder or nothing in it is a data set.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    check = _Check(advance)
    lists = [split for split in _SPLITS if (root / f"{split}_list.txt").is_file()]
    if lists:
        for split in lists:
            for pair in _listed(check, root, split):
                check.pair(pair)
    elif is_images_and_labels(root):
        for pair in _beside(check, root):
            check.pair(pair)
    elif has_json(root):
        _check_json(check, root)
    else:
        raise DatasetError(f"{root}: neither train_list.txt nor an images folder nor *.json labels are here")
    return Report(check.pictures, tuple(check.problems), tuple(check.texts))


def _listed(check: _Check, root: Path, split: str) -> Iterator[_Pair]:
    """Pairs of an ICDAR-2015 list."""
    list_path = root / f"{split}_list.txt"
    lines = check.lines(list_path)
    if lines is None:
        return
    check.rows_stay(list_path, lines)
    seen: dict[Path, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            image, label = resolve_entry(root, split, line, list_path, number)
        except DatasetError as error:
            check.say(list_path, number, "missing_file", "error", error.message.removeprefix(f"{list_path}:{number}: "))
            continue
        if image in seen:
            check.say(list_path, number, "listed_twice", "warning", f"the same picture as line {seen[image]}")
            continue
        seen[image] = number
        yield _Pair(image, label)
    if not seen:
        check.say(list_path, None, "no_pictures", "error", "lists no picture that is there")


def _beside(check: _Check, root: Path) -> Iterator[_Pair]:
    """Pairs of an ``images`` and a ``labels`` folder, or of its manifest."""
    manifest = root / "manifest.jsonl"
    if manifest.is_file():
        yield from _in_manifest(check, root, manifest)
        return
    names = set()
    for path in sorted((root / "images").iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            names.add(path.stem)
            yield _Pair(path, root / "labels" / f"{path.stem}.txt")
    if not names:
        check.say(root / "images", None, "no_pictures", "error", "no picture is here")
    for label in sorted((root / "labels").glob("*.txt")):
        if label.stem not in names:
            check.say(label, None, "orphan_label", "warning", "no picture of this name")


def _in_manifest(check: _Check, root: Path, manifest: Path) -> Iterator[_Pair]:
    lines = check.lines(manifest)
    if lines is None:
        return
    check.rows_stay(manifest, lines)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            file, label, _ = parse_manifest_row(root, line, f"{manifest}:{number}")
        except DatasetError as error:
            check.say(manifest, number, "bad_row", "error", error.message.removeprefix(f"{manifest}:{number}: "))
            continue
        yield _Pair(file, label)


def _check_json(check: _Check, root: Path) -> None:
    """LabelMe and COCO files; their regions have numbers instead of lines."""
    for path in sorted(root.glob("*.json")):

        def complain(error: DatasetError, path: Path = path) -> None:
            check.say(path, None, "bad_json", "error", error.message.removeprefix(f"{path}: "))

        try:
            images = read_json_labels(path, complain)
        except DatasetError as error:
            complain(error)
            continue
        for labelled in images:
            size = check.picture_size(labelled.path)
            for index, region in enumerate(labelled.regions):
                for finding in shape_findings(region.polygon, size):
                    message = f"{labelled.path.name}, region {index}: {finding.message}"
                    check.say(path, None, finding.kind, finding.severity, message)


def apply_fixes(report: Report) -> list[Path]:
    """Write what :func:`check_folder` mended; each file's first version is kept beside it as ``NAME.orig``.

    A kill leaves each file as it was or as it should be, and what was mended has its first version.

    Returns:
        The files that were changed.

    Raises:
        DatasetError: One cannot be written; it is as it was.
    """
    changed = []
    # A row break at the end and Unix row ends are put in order along with other repairs, and for their own sake not.
    flawed = {problem.path for problem in report.problems if problem.finding.fixable}
    for text in report.texts:
        if text.after == text.before or text.path not in flawed:
            continue
        original = text.path.with_name(f"{text.path.name}.orig")
        try:
            write_first(original, text.before, rights_of=text.path)
            replace_whole(text.path, text.after)
        except OSError as error:
            raise DatasetError(f"{text.path}: cannot be repaired: {error.strerror or error}") from error
        changed.append(text.path)
    return changed
