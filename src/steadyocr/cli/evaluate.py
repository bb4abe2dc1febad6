"""``steadyocr evaluate``: detectors side by side on labelled pictures."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.table import Table

from steadyocr.cli.progress import counting_bar
from steadyocr.cli.tables import print_table
from steadyocr.detection.detector import Detector
from steadyocr.errors import InvalidOption
from steadyocr.options import parse_options
from steadyocr.runtime.base import Precision, SessionOptions
from steadyocr.runtime.cpu import available_threads
from steadyocr.runtime.loader import Backend, open_session
from steadyocr.runtime.manifest import (
    MANIFEST_NAME,
    DetectionDefaults,
    FileEntry,
    InputEntry,
    Manifest,
    find_model,
    load_manifest,
    sha256_of,
)
from steadyocr.training.evaluate import Evaluation, InputSize, candidates, evaluate, find_quads
from steadyocr.training.labels import read_folders
from steadyocr.training.metrics import Counts, total
from steadyocr.training.pictures import read_image
from steadyocr.training.regions import LabelledImage
from steadyocr.training.verdict_picture import draw_verdict

_MEAN: Final = "mean of sets"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRun:
    """What was asked on the command line; ``None`` and empty mean the model's own default."""

    data: list[Path]
    split: str
    limit: int
    manifests: list[Manifest]
    bin_thresholds: list[float]
    box_thresholds: list[float]
    unclip_ratios: list[float]
    max_side: int | None
    min_side: int
    backend: Backend
    precision: Precision
    threads: int
    json_file: Path | None
    worst: int
    worst_dir: Path | None


def run_evaluation(run: EvaluateRun) -> None:
    """Judge every detector, print one table, write what else was asked for."""
    if not run.manifests:
        raise InvalidOption("name a detector: --model NAME or --onnx FILE")
    if run.worst and run.worst_dir is None:
        raise InvalidOption("--worst needs a folder: add --worst-dir DIR")
    _refuse_nonsense(run)
    images = _images(run)
    done: list[Evaluation] = []
    for name, manifest in _told_apart(run.manifests):
        detector = _open(manifest, run)
        found = replace(_judge(detector, images, run), detector=name)
        done.append(found)
        if run.worst and run.worst_dir is not None:
            _draw_worst(detector, found, run.worst, run.worst_dir / name)
    print_table(_table(done))
    if run.json_file is not None:
        values = {
            "data": [str(folder) for folder in run.data],
            "pictures": len(images),
            "iou": 0.5,
            "backend": run.backend,
            "precision": run.precision,
            "detectors": [entry.to_dict() for entry in done],
        }
        run.json_file.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _refuse_nonsense(run: EvaluateRun) -> None:
    """Refuse what cannot come out well before any work is done.

    Raises:
        InvalidOption: A model is no detector, a threshold is beyond what the service takes, or there is no folder for
            the figures.
    """
    for manifest in run.manifests:
        if manifest.task != "detection":
            raise InvalidOption(f"{manifest.name} is no detector")
    for name, values in (
        ("bin_threshold", run.bin_thresholds),
        ("box_threshold", run.box_thresholds),
        ("unclip_ratio", run.unclip_ratios),
    ):
        for value in values:
            parse_options({name: value})
    if run.json_file is not None and not run.json_file.absolute().parent.is_dir():
        raise InvalidOption(f"--json: there is no folder {run.json_file.parent}")


def _told_apart(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name each detector; of several with one name (two ``best.onnx``, say) the later ones get a number."""
    names: set[str] = set()
    for manifest in manifests:
        numbered = (f"{manifest.name}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([manifest.name], numbered) if name not in names)
        names.add(name)
        yield name, manifest


def _images(run: EvaluateRun) -> list[LabelledImage]:
    images = read_folders(run.data, run.split)
    if not run.limit:
        return images
    taken: dict[str, int] = {}
    kept = []
    for image in images:
        taken[image.dataset] = taken.get(image.dataset, 0) + 1
        if taken[image.dataset] <= run.limit:
            kept.append(image)
    return kept


def _open(manifest: Manifest, run: EvaluateRun) -> Detector:
    options = SessionOptions(threads=run.threads or available_threads(), precision=run.precision)
    return Detector(open_session(manifest, run.backend, options), manifest)


def _judge(detector: Detector, images: Sequence[LabelledImage], run: EvaluateRun) -> Evaluation:
    own = detector.manifest.defaults
    params = candidates(
        run.bin_thresholds or [own.bin_threshold],
        run.box_thresholds or [own.box_threshold],
        run.unclip_ratios or [own.unclip_ratio],
    )
    size = InputSize(max_side=run.max_side or own.max_side, min_side=run.min_side)
    with counting_bar(detector.manifest.name, len(images)) as advance:
        return evaluate(detector, images, params, size, advance)


def _draw_worst(detector: Detector, found: Evaluation, count: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, labelled in enumerate(found.worst(count), start=1):
        image = read_image(labelled.path)
        quads = next(iter(find_quads(detector, image, [found.params], found.size)))
        name = f"{place:02d}-{labelled.dataset}-{labelled.path.stem}.jpg".replace("/", "-")
        (folder / name).write_bytes(draw_verdict(image, labelled.regions, list(quads)))


def _table(done: Sequence[Evaluation]) -> Table:
    """Sets down, detectors across, precision / recall / H-mean in each cell."""
    table = Table(box=None, pad_edge=False)
    table.add_column("set")
    table.add_column("regions", justify="right")
    for entry in done:
        params, size = entry.params, entry.size
        table.add_column(
            f"{entry.detector}\nP / R / H\nside {size.max_side}{f' (min {size.min_side})' if size.min_side else ''}\n"
            f"{params.bin_threshold:g} {params.box_threshold:g} {params.unclip_ratio:g}",
            justify="right",
            no_wrap=True,
        )
    for name in sorted(done[0].counts):
        row = [entry.counts[name] for entry in done]
        table.add_row(name, str(row[0].wanted), *map(_cell, row))
    table.add_row("all", str(_all(done[0]).wanted), *(_cell(_all(entry)) for entry in done))
    table.add_row(_MEAN, "", *(f"{entry.hmean:.4f}" for entry in done), style="bold")
    table.add_row("ms per picture", "", *(f"{entry.ms_per_picture:.0f}" for entry in done))
    return table


def _all(entry: Evaluation) -> Counts:
    return total(entry.counts.values())


def _cell(counts: Counts) -> str:
    return f"{counts.precision:.3f} / {counts.recall:.3f} / {counts.hmean:.3f}"


def named_manifests(names: Iterable[str], user_models: Path) -> list[Manifest]:
    """Find models by name, or by the folder that holds a manifest."""
    return [
        load_manifest(Path(name)) if (Path(name) / MANIFEST_NAME).is_file() else find_model(name, user_models)
        for name in names
    ]


def raw_manifest(onnx: Path, channel_order: str, mean: str, std: str) -> Manifest:
    """Describe a bare ONNX file for this one run.

    Raises:
        InvalidOption: What is given for its input is none of the choices, or no numbers, or cannot be divided by.
    """
    if channel_order not in ("RGB", "BGR"):
        raise InvalidOption("--channel-order is RGB or BGR")
    means, deviations = _triple(mean, "--mean"), _triple(std, "--std")
    if min(deviations) <= 0:
        raise InvalidOption(f"--std: pixels are divided by it, so it must be above 0, not {std}")
    return Manifest(
        name=_plain_name(onnx.stem),
        task="detection",
        licence="unknown",
        source=str(onnx),
        file=FileEntry(path=onnx.name, sha256=sha256_of(onnx)),
        input=InputEntry(channel_order=channel_order, mean=means, std=deviations, stride=32),
        defaults=DetectionDefaults(),
        folder=onnx.parent,
    )


def _plain_name(text: str) -> str:
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text.lower())
    return plain.strip("-") or "detector"


def _triple(text: str, name: str) -> tuple[float, float, float]:
    values = numbers(text, name)
    if not all(map(math.isfinite, values)):
        raise InvalidOption(f"{name}: {text!r} is not a list of numbers")
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise InvalidOption(f"{name} takes one number or three with commas between")
    return values[0], values[1], values[2]


def numbers(text: str, name: str) -> list[float]:
    """Read numbers with commas between."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InvalidOption(f"{name}: {text!r} is not a list of numbers") from error
