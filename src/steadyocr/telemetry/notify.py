"""Telling the service manager how the service is: systemd's notification protocol, datagrams of ``NAME=value`` lines.

Without a manager (no ``NOTIFY_SOCKET``) every message goes nowhere, so that callers need not ask.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import MutableMapping

_log = logging.getLogger("steadyocr.notify")

_MAX_STATUS_CHARS = 200


class Notifier:
    """Speaks to the service manager. Nothing here waits, and nothing here can fail its caller.

    Args:
        address: Path of the manager's socket; ``@name`` is one in the abstract namespace. ``None``: no manager.
        watchdog_s: The manager ends the service when :meth:`alive` is not called for so long; ``None``: it does not.

    Attributes:
        remark: Added to each status: what its reader should know until it is seen to.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self.remark = ""
        self._address = address
        self._complained = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] | None = None) -> Notifier:
        """Take what the manager said out of the environment, so that no child process takes it for itself."""
        environ = os.environ if environ is None else environ
        address = environ.pop("NOTIFY_SOCKET", None)
        meant_for = environ.pop("WATCHDOG_PID", None)
        interval = environ.pop("WATCHDOG_USEC", "")
        if address is not None and not address.startswith(("/", "@")):
            _log.warning("The service manager's address is not understood; it will hear nothing")
            address = None
        watched = interval.isdecimal() and int(interval) > 0 and meant_for in (None, str(os.getpid()))
        return cls(address, int(interval) / 1e6 if watched and address else None)

    @property
    def managed(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """Say that starting, or reloading, is done."""
        self._send("READY=1", _status_line(status))

    def status(self, text: str) -> None:
        """Say in one line what is going on."""
        self._send(_status_line(f"{text}; {self.remark}" if self.remark else text))

    def reloading(self) -> None:
        """Say that the settings are read again; :meth:`ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str, within_s: float) -> None:
        """Say that the end has begun and how long it may take, in seconds."""
        self._send("STOPPING=1", _status_line(status), _extension(within_s))

    def extend_timeout(self, seconds: float) -> None:
        """Ask for more time from now on, while starting or stopping."""
        self._send(_extension(seconds))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        target = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as channel:
                channel.connect(target)
                channel.send("\n".join(lines).encode())
        except OSError as error:
            # Once is enough: the manager is not likely to come back, and feeding goes on for ever.
            if not self._complained:
                _log.warning("The service manager cannot be told", extra={"reason": error.strerror})
            self._complained = True


def _status_line(text: str) -> str:
    return "STATUS=" + " ".join(text.split())[:_MAX_STATUS_CHARS]


def _extension(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"
