"""Structured logs: one constant sentence plus fields, as JSON lines or for a human eye.

Never logged: a picture, a client's file name, text that was read, a key.

Lines go to standard error, with the journal's priorities where that is the journal, and to two rotated files when
asked for. Only one process writes the files: engines send their lines to the front (:mod:`steadyocr.telemetry.relay`).
A line that cannot be written (the disk is full, the terminal is gone) is dropped and counted; it harms nobody.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal

from steadyocr.telemetry.log_files import LogFiles, RotatedFileHandler, count_dropped, dropped_records

__all__ = [
    "ConsoleFormatter",
    "JsonFormatter",
    "LogFiles",
    "LogFormat",
    "configure",
    "dropped_records",
    "job_id_var",
    "request_id_var",
]

LogFormat = Literal["json", "console"]

_log = logging.getLogger("steadyocr.logging")

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)
job_id_var: ContextVar[str | None] = ContextVar("job_id", default=None)

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# What the journal calls the levels, from syslog.
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY: Final = 7
# Terminals obey control characters, and some readers of logs take these for the end of a line. What a library prints
# may hold some of a picture's bytes. JSON reads them back.
_CONTROLS: Final = {
    code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029) if chr(code) not in "\t\n"
}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    for name, variable in (("request_id", request_id_var), ("job_id", job_id_var)):
        value = variable.get()
        if value is not None:
            fields.setdefault(name, value)
    return fields


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return the trace that belongs to a record; an engine's comes as text."""
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return record.exc_text or ""


def _dump(value: object) -> str:
    """Write JSON.

    Raises:
        ValueError: JSON cannot hold it: a number that is none, a thing that holds itself.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str).translate(_CONTROLS)


def _writable(value: object) -> object:
    """Return what JSON can hold as it is, and the rest as text: a line that says less is worth more than none."""
    try:
        _dump(value)
    except ValueError:
        return str(value)
    return value


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record; its time is the event's, not the formatting's."""
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        # In front for whoever reads, and once more behind: a field by the same name must not take the place of these.
        entry = {**own, **_fields(record), **own}
        if trace := _trace(self, record):
            entry["trace"] = trace
        try:
            return _dump(entry)
        except ValueError:
            return _dump({key: _writable(value) for key, value in entry.items()})


class ConsoleFormatter(logging.Formatter):
    """A line for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record in local time."""
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}{'  ' if fields else ''}{fields}"
        if trace := _trace(self, record):
            line += "\n" + trace
        return line.translate(_CONTROLS)


class JournalFormatter(logging.Formatter):
    """Puts the journal's priority in front of every line of another formatter's."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY)
        return "\n".join(f"<{priority}>{line}" for line in self._inner.format(record).splitlines())


class _StderrHandler(logging.StreamHandler[IO[str]]):
    """Standard error, which may be full or gone."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the signature is the library's
        """Drop the record."""
        count_dropped()


def configure(log_format: LogFormat, level: str, files: LogFiles | None = None) -> None:
    """Send all logs of this process to standard error in one format, and to files when asked for.

    Args:
        log_format: Of standard error; files hold JSON lines always, for whoever searches them later.
        level: Threshold of everything.
        files: Where and how many; ``None`` for none.
    """
    handler = _StderrHandler(sys.stderr)
    formatter = JsonFormatter() if log_format == "json" else ConsoleFormatter()
    handler.setFormatter(JournalFormatter(formatter) if _stderr_is_the_journal() else formatter)
    root = logging.getLogger()
    for old in root.handlers:
        if isinstance(old, RotatedFileHandler):
            old.close()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Each request is logged once, by us, with its id.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    if files is not None:
        _add_files(root, files)


def _add_files(root: logging.Logger, files: LogFiles) -> None:
    for name, level in (("out.log", logging.NOTSET), ("error.log", logging.WARNING)):
        try:
            handler = RotatedFileHandler(files, name)
        except OSError as error:
            _log.error("A log file cannot be opened; standard error stays", extra={"file": name, "errno": error.errno})
            continue
        handler.setLevel(level)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)


def _stderr_is_the_journal() -> bool:
    """Whether systemd says that this very stream ends in the journal."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # replaced by something without a descriptor, or closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
