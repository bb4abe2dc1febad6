"""``python -m steadyocr.training.synth``: renders a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from steadyocr.errors import DatasetError
from steadyocr.training.synth.picture import KINDS
from steadyocr.training.synth.writer import write_dataset


def _show(done: int, wanted: int) -> None:
    if done % 100 == 0 or done == wanted:
        sys.stderr.write(f"\r{done}/{wanted}")
        sys.stderr.flush()


def main() -> int:
    """Read the arguments and render; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m steadyocr.training.synth", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new folder for the data set")
    parser.add_argument("--count", type=int, default=1000, help="how many pictures (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--backgrounds", type=Path, help="folder of photographs nearly free of text")
    parser.add_argument("--corpora", type=Path, help="folder with zhwiki.txt, enwiki.txt, jawiki.txt, kowiki.txt")
    parser.add_argument("--kinds", help=f"comma-separated, among {', '.join(KINDS)} (default all)")
    args = parser.parse_args()
    kinds = tuple(args.kinds.split(",")) if args.kinds else None
    try:
        write_dataset(
            args.out,
            args.count,
            args.seed,
            args.workers,
            backgrounds_dir=args.backgrounds,
            corpora_dir=args.corpora,
            kinds=kinds,
            progress=_show,
        )
    except DatasetError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
