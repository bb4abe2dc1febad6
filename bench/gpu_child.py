"""Other processes on the same card, for :mod:`bench.gpu`: one takes all its memory, one lets its own context die."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from steadyocr.runtime.base import SessionOptions
from steadyocr.runtime.faults import is_out_of_memory
from steadyocr.runtime.loader import open_session
from steadyocr.runtime.manifest import find_model

_MIB: Final = 1 << 20
_END_S: Final = 60.0


@contextmanager
def child(role: str, device: str) -> Iterator[dict[str, Any]]:
    """Run a role until it has said what it did; it ends with the block.

    Raises:
        RuntimeError: It ended before that.
    """
    command = [sys.executable, "-m", "bench.gpu_child", role, device]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            if not said:
                raise RuntimeError(f"the process that was to {role} said nothing")
            yield json.loads(said)
        finally:
            try:
                process.communicate(timeout=_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def take(device: str) -> None:
    """Take what there is, down to the last MiB, and hold it until the input ends."""
    held, chunk = [], 1 << 34
    while chunk >= _MIB:
        try:
            held.append(torch.empty(chunk, dtype=torch.uint8, device=device))
        except torch.OutOfMemoryError:
            chunk //= 2
    print(json.dumps({"taken_mib": sum(tensor.numel() for tensor in held) // _MIB}), flush=True)
    sys.stdin.read()


def die(device: str) -> None:
    """Kill the own context by an index out of range; then run a network, as an engine does that tests itself."""
    session = open_session(find_model("resnet18-db"), "torch", SessionOptions(threads=1, device=device))
    picture = torch.zeros(1, 3, 64, 64).numpy()
    session.run(picture)
    fault, verdict = "none", "works"
    try:
        torch.zeros(4, device=device)[torch.tensor([1 << 20], device=device)]
        torch.cuda.synchronize()
    except RuntimeError as error:
        fault = str(error).splitlines()[0]
    try:
        session.run(picture)
    except Exception as error:  # noqa: BLE001 - whatever it is, an engine would end
        verdict = f"{'memory' if is_out_of_memory(error) else 'fault'}: {str(error).splitlines()[0]}"
    print(json.dumps({"fault": fault, "afterwards": verdict}), flush=True)


if __name__ == "__main__":
    {"take": take, "die": die}[sys.argv[1]](sys.argv[2])
