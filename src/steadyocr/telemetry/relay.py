"""Lines that an engine wrote to its standard error, logged again by the front.

So one process writes the log files and knows the journal, and what a native library prints in an engine, or an engine
says before it dies, is found where all the rest is.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from steadyocr.telemetry.log_files import count_dropped

_log = logging.getLogger("steadyocr.engine")

MAX_LINE_BYTES: Final = 64 << 10
_MAX_FOREIGN_CHARS: Final = 500
_MAX_LINES_PER_S: Final = 200
_OWN_KEYS: Final = frozenset({"time", "level", "logger", "message", "trace"})


class LineRelay:
    """Takes an engine's bytes in as they come and logs them line by line, within bounds.

    Args:
        fields: Said with each line: slot, process id.
        clock: Seconds, for the bound on lines a second.
    """

    def __init__(self, fields: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._fields = dict(fields)
        self._clock = clock
        self._rest = b""
        self._second = 0
        self._lines = 0

    def feed(self, data: bytes) -> None:
        """Take bytes in; empty ones say that no more will come."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES or not data:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            if line.strip():
                self._relay(line[:MAX_LINE_BYTES])

    def _relay(self, line: bytes) -> None:
        second = int(self._clock())
        self._lines = self._lines + 1 if second == self._second else 1
        self._second = second
        if self._lines > _MAX_LINES_PER_S:
            count_dropped()
            return
        record = self._own_record(line) or self._foreign_record(line)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)

    def _own_record(self, line: bytes) -> logging.LogRecord | None:
        """Rebuild the record that an engine's own logger wrote."""
        try:
            entry = json.loads(line)
            level = logging.getLevelNamesMapping()[entry["level"].upper()]
            created = datetime.fromisoformat(entry["time"]).timestamp()
            name, message, trace = str(entry["logger"]), str(entry["message"]), entry.get("trace")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        record = _record(name, level, message)
        record.created = created
        record.exc_text = str(trace) if trace else None
        for key, value in {**self._fields, **entry}.items():
            if key not in _OWN_KEYS and not hasattr(record, key):
                setattr(record, key, value)
        return record

    def _foreign_record(self, line: bytes) -> logging.LogRecord:
        record = _record(_log.name, logging.WARNING, "An engine wrote to its standard error")
        text = line[: 4 * _MAX_FOREIGN_CHARS].decode("utf-8", "replace")[:_MAX_FOREIGN_CHARS]
        vars(record).update(self._fields, line=text.rstrip())
        return record


def _record(name: str, level: int, message: str) -> logging.LogRecord:
    # Without arguments the message is not formatted, whatever is in it.
    return logging.LogRecord(name, level, "", 0, message, None, None)
