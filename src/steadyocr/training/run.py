"""Command line of a training run: ``python -m steadyocr.training.run --config FILE.json --out RUN [--resume]``.

A process of its own, so that training can be killed, niced and measured apart from any service.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from steadyocr.errors import SteadyOCRError
from steadyocr.training.config import TrainConfig
from steadyocr.training.loop import train
from steadyocr.training.progress import Progress, one_line
from steadyocr.training.rundir import CONFIG_NAME


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and return the exit status: 0 finished, 1 refused, 3 stopped on request with a checkpoint written."""
    parser = argparse.ArgumentParser(prog="python -m steadyocr.training.run", description=__doc__)
    parser.add_argument("--config", type=Path, help="JSON file; when resuming, the run's own unless given")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--resume", action="store_true", help="go on with the run folder's last checkpoint")
    options = parser.parse_args(arguments)
    if options.config is None and not options.resume:
        parser.error("--config is needed to start a run")
    try:
        config = TrainConfig.from_file(options.config or options.out / CONFIG_NAME)
        with stop_on_signal() as should_stop:
            outcome = train(config, options.out, resume=options.resume, report=_say, should_stop=should_stop)
    except SteadyOCRError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    best = "none" if outcome.best_hmean is None else f"{outcome.best_hmean:.4f}"
    sys.stderr.write(f"{'finished' if outcome.finished else 'stopped'} at step {outcome.step}, best H-mean {best}\n")
    return 0 if outcome.finished else 3


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a wish to stop; a second one ends the process at once."""
    asked = False

    def note(number: int, _: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt(f"signal {number}")
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(at: Progress) -> None:
    sys.stderr.write(one_line(at) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
