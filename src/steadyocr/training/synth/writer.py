"""Writes rendered pictures as a data set, on several processes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from steadyocr.errors import DatasetError
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.picture import IGNORED, KINDS, Line, choose_kind, render_picture

_QUALITY: Final = 88
_CHUNK: Final = 8


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to render any picture of a set.

    Attributes:
        out_dir: Folder of the set.
        seed: Of the set.
        backgrounds_dir: Folder of photographs.
        corpora_dir: Folder of running text.
        kinds: Kinds to choose among; ``None`` for all.
    """

    out_dir: Path
    seed: int
    backgrounds_dir: Path | None = None
    corpora_dir: Path | None = None
    kinds: tuple[str, ...] | None = None


_state: dict[str, Any] = {}


def _start(job: Job) -> None:
    """Prepare a worker process: its assets are loaded once."""
    cv2.setNumThreads(1)
    _state["job"] = job
    _state["assets"] = Assets.load(job.backgrounds_dir, job.corpora_dir)


def _work(index: int) -> dict[str, Any]:
    return write_picture(_state["job"], _state["assets"], index)


def language_of(lines: list[Line]) -> str:
    """Return ``zh``, ``en``, ``zh+en`` or ``none`` by the letters in the labels."""
    text = "".join(line.text for line in lines)
    wide, narrow = sum(ord(c) > 0x2E80 for c in text), sum(c.isascii() and c.isalpha() for c in text)
    if wide + narrow == 0:
        return "none"
    share = wide / (wide + narrow)
    return "zh" if share > 0.9 else "en" if share < 0.05 else "zh+en"


def write_picture(job: Job, assets: Assets, index: int) -> dict[str, Any]:
    """Render picture ``index`` of a set, write it with its labels and return its manifest row.

    The picture depends on the seed, the index and the assets alone.
    """
    rng = np.random.default_rng([job.seed, index])
    kind = choose_kind(rng, job.kinds)
    image, lines = render_picture(rng, assets, kind)
    name = f"synth_{job.seed}_{index:06d}"
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    payload = data.tobytes()
    (job.out_dir / "images" / f"{name}.jpg").write_bytes(payload)
    rows = [
        ",".join(f"{v:.1f}" for v in line.quad.ravel()) + "," + (IGNORED if line.ignore else line.text)
        for line in lines
    ]
    (job.out_dir / "labels" / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return {
        "file": f"images/{name}.jpg",
        "label": f"labels/{name}.txt",
        "dataset": f"synth-{kind}",
        "granularity": "line",
        "lang": language_of(lines),
        "kind": kind,
        "w": int(image.shape[1]),
        "h": int(image.shape[0]),
        "boxes": len(lines),
        "ignored": sum(line.ignore for line in lines),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }


def _rows(job: Job, assets: Assets, count: int, workers: int) -> Iterator[dict[str, Any]]:
    if workers <= 1:
        for index in range(count):
            yield write_picture(job, assets, index)
        return
    context = multiprocessing.get_context("spawn")
    # Not multiprocessing.Pool, which replaces workers that cannot start for ever.
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(job,)) as pool:
        try:
            yield from pool.map(_work, range(count), chunksize=_CHUNK)
        except BrokenProcessPool as error:
            raise DatasetError("a process that renders has died, of memory perhaps: try fewer workers") from error


def write_dataset(
    out_dir: Path,
    count: int,
    seed: int,
    workers: int = 1,
    *,
    backgrounds_dir: Path | None = None,
    corpora_dir: Path | None = None,
    kinds: tuple[str, ...] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render a data set: ``images/``, ``labels/`` and ``manifest.jsonl``.

    Args:
        out_dir: Must not exist or be empty.
        count: How many pictures.
        seed: Same seed, same assets: same pictures, whatever the number of workers.
        workers: Processes.
        backgrounds_dir: Folder of photographs; made grounds alone when ``None``.
        corpora_dir: Folder with ``zhwiki.txt`` and its like; built-in words when ``None``.
        kinds: Kinds to choose among; ``None`` for all.
        progress: Called with pictures done and pictures wanted.

    Raises:
        DatasetError: The folder holds something, a kind is unknown, the seed is negative, no font was found, a folder
            to draw from is not there, or a process died.
    """
    if seed < 0:
        raise DatasetError("the seed must not be negative")
    unknown = [k for k in kinds or () if k not in KINDS]
    if unknown:
        raise DatasetError(f"unknown kind {unknown[0]!r}: choose among {', '.join(KINDS)}")
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise DatasetError("the output folder is not empty: name a new one")
    assets = Assets.load(backgrounds_dir, corpora_dir)
    for part in ("images", "labels"):
        (out_dir / part).mkdir(parents=True, exist_ok=True)
    job = Job(out_dir, seed, backgrounds_dir, corpora_dir, kinds)
    with (out_dir / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for done, row in enumerate(_rows(job, assets, count, workers), start=1):
            manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
            if progress is not None:
                progress(done, count)
