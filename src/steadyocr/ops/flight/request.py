"""Asking a running service for a record: a signal to the process that the folder names, and to no other."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Final

from steadyocr.errors import AccessError, Unavailable
from steadyocr.ops.flight.front import front_file, start_ticks
from steadyocr.ops.flight.store import FlightStore

_WAIT_S: Final = 10.0
_POLL_S: Final = 0.05


def request_record(store: FlightStore) -> Path:
    """Have the running service write a record.

    Returns:
        The record.

    Raises:
        Unavailable: No service runs over this data folder, or it does not answer.
        AccessError: It belongs to another user.
    """
    try:
        known = json.loads(front_file(store.folder).read_text(encoding="utf-8"))
        pid, ticks = int(known["pid"]), int(known["start_ticks"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable("no service runs over this data folder") from error
    if start_ticks(pid) != ticks:
        raise Unavailable("no service runs over this data folder; the last one ended without a word")
    before = store.next_number()
    try:
        os.kill(pid, signal.SIGUSR2)
    except PermissionError as error:
        raise AccessError("the service belongs to another user; ask as that one") from error
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        if store.next_number() > before:
            return store.paths()[-1]
        time.sleep(_POLL_S)
    raise Unavailable("the service did not write a record in time")
