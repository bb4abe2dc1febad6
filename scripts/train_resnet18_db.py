"""Train the shipped detector again: pack the pictures small, render a pool, train, all in a bounded time.

    python -m scripts.train_resnet18_db pack TRAIN PACKED     # once, where the pictures are; ours come to 70 MB
    python -m scripts.train_resnet18_db train --train PACKED --val VAL --backgrounds DIR --corpora DIR --out RUN \
        --device cuda --workers 14 --batch 64 --crop 512 --lr 3e-3 --minutes 9

``TRAIN`` and ``VAL`` are folders of ``images/``, ``labels/`` and a ``manifest.jsonl`` that names the data sets of
``SHARES``. Needs torch, OpenCV, pyclipper and Pillow, nothing of the service. ``RUN/run/best.pt`` is then judged and
exported with ``steadyocr evaluate`` and ``steadyocr export``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from steadyocr.training.labels import read_folder
from steadyocr.training.pictures import read_image

SHARES = {"ic15": 0.33, "mlt17": 0.27, "td500": 0.16, "sroie": 0.07, "funsd": 0.07, "web": 0.08, "pdf": 0.02}
# What the neck of PP-OCRv6 hands to its heads.
TEACHER_FEATURES = "p2o.pd_op.concat.1.0"


def pack(source: Path, out: Path, side: int, quality: int) -> None:
    """Copy a data set with smaller pictures: the longer side at most so long, as WebP; labels are scaled alike."""
    for name in ("images", "labels"):
        (out / name).mkdir(parents=True)
    rows = [json.loads(line) for line in (source / "manifest.jsonl").read_text(encoding="utf-8").splitlines() if line]
    with (out / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for row in rows:
            stem = Path(row["file"]).stem
            image = read_image(source / row["file"])
            scale = min(1.0, side / max(image.shape[:2]))
            if scale < 1.0:
                image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            _, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
            (out / "images" / f"{stem}.webp").write_bytes(data.tobytes())
            label = source / (row.get("label") or f"labels/{stem}.txt")
            lines = "".join(_scaled(line, scale) for line in label.read_text(encoding="utf-8-sig").splitlines() if line)
            (out / "labels" / f"{stem}.txt").write_text(lines, encoding="utf-8")
            kept = {"file": f"images/{stem}.webp", "label": f"labels/{stem}.txt", "dataset": row["dataset"]}
            manifest.write(json.dumps(kept) + "\n")


def _scaled(line: str, scale: float) -> str:
    *corners, text = line.split(",", 8)
    return ",".join(f"{float(value) * scale:.1f}" for value in corners) + f",{text}\n"


def recipe(options: argparse.Namespace, pool: Path, minutes: float) -> dict[str, Any]:
    """Return the configuration of the run, as ``steadyocr train --train-config`` takes it."""
    cuda = options.device.startswith("cuda")
    return {
        "sources": [
            {
                "path": str(options.train),
                "weight": 1.0 - options.pool_share,
                "dataset_weights": _present(options.train),
            },
            {"path": str(pool), "weight": options.pool_share},
        ],
        "inner_channels": 64,
        "init_weights": str(options.start or ""),
        "crop_size": options.crop,
        "batch_size": options.batch,
        # Never reached: time ends the run, and the rate has fallen to zero by then.
        "epochs": 100_000,
        "crops_per_epoch": 4096,
        "max_minutes": minutes,
        "seed": options.seed,
        "bf16": options.bf16,
        "device": options.device,
        "num_workers": options.workers,
        "cache_bytes": options.cache_mb << 20,
        "ema_decay": 0.999 if cuda else 0.998,
        "log_every_steps": 50,
        "checkpoint_minutes": 5,
        "optimiser": {"kind": "adamw", "lr": options.lr, "warmup_steps": 300 if cuda else 100},
        # A long line's target is then a quarter of its height and not a sixth, which small text needs.
        "targets": {"shrink_ratio": 0.5},
        "distillation": {
            "teacher": str(options.teacher or ""),
            "features": TEACHER_FEATURES if options.teacher else "",
        },
        "validation": {
            "sources": [{"path": str(options.val)}],
            "every_steps": options.judge_every,
            "max_side": 1280,
            "bin_thresholds": [0.2, 0.3],
            "unclip_ratios": [0.7, 0.85],
            "box_threshold": 0.4,
        },
    }


def _present(train: Path) -> Mapping[str, float]:
    """The shares of the sets that are there."""
    there = {image.dataset for image in read_folder(train)}
    return {name: share for name, share in SHARES.items() if name in there}


def train(options: argparse.Namespace) -> int:
    """Render the pool, then train for what is left of the time; returns the exit status of the run."""
    from steadyocr.training.run import main as run
    from steadyocr.training.synth.writer import write_dataset

    started = time.monotonic()
    pool = options.pool or options.out / "pool"
    if not pool.exists():
        write_dataset(
            pool,
            options.count,
            options.seed,
            max(1, options.workers),
            backgrounds_dir=options.backgrounds,
            corpora_dir=options.corpora,
            progress=_show,
        )
    rendering = (time.monotonic() - started) / 60
    sys.stderr.write(f"\nrendered in {rendering:.1f} minutes\n")
    left = options.minutes - rendering
    if left <= 0:
        sys.stderr.write("no time is left to train\n")
        return 1
    config = options.out / "config.json"
    config.write_text(json.dumps(recipe(options, pool, left), indent=2), encoding="utf-8")
    return run(["--config", str(config), "--out", str(options.out / "run")])


def _show(done: int, wanted: int) -> None:
    if done % 100 == 0 or done == wanted:
        sys.stderr.write(f"\rrendered {done} of {wanted}")
        sys.stderr.flush()


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="make the pictures small enough to carry")
    packing.add_argument("source", type=Path)
    packing.add_argument("out", type=Path)
    packing.add_argument("--side", type=int, default=768)
    packing.add_argument("--quality", type=int, default=60)
    training = commands.add_parser("train", help="render and train")
    for name in ("--train", "--val", "--out"):
        training.add_argument(name, type=Path, required=True)
    for name in ("--backgrounds", "--corpora", "--pool", "--start", "--teacher"):
        training.add_argument(name, type=Path)
    training.add_argument("--minutes", type=float, default=60.0, help="rendering and training together")
    training.add_argument("--count", type=int, default=6000, help="rendered pictures")
    training.add_argument(
        "--pool-share", type=float, default=0.4, help="share of the crops that are of rendered pictures"
    )
    training.add_argument("--device", default="cpu")
    training.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    training.add_argument("--workers", type=int, default=1)
    training.add_argument("--cache-mb", type=int, default=3000, help="decoded pictures that each worker keeps")
    training.add_argument("--batch", type=int, default=8)
    training.add_argument("--crop", type=int, default=448)
    training.add_argument("--lr", type=float, default=1.5e-3)
    training.add_argument("--seed", type=int, default=1)
    training.add_argument("--judge-every", type=int, default=1000, help="steps between validations")
    options = parser.parse_args()
    if options.command == "pack":
        if options.out.exists():
            raise SystemExit(f"{options.out}: is there already")
        pack(options.source, options.out, options.side, options.quality)
        return 0
    options.out.mkdir(parents=True, exist_ok=False)
    return train(options)


if __name__ == "__main__":
    raise SystemExit(main())
