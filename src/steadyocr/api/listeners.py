"""The listening sockets: our own, or those that a service manager holds open across our restarts."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from steadyocr.errors import ConfigError
from steadyocr.settings import Settings

_BACKLOG = 512
# Where systemd's socket activation puts the first descriptor.
_FIRST_FD = 3


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where connections come in.

    Attributes:
        sockets: At least one, listening.
        inherited: Somebody else holds them open too, so what connects while nobody accepts waits in the kernel's
            queue instead of being refused.
    """

    sockets: list[socket.socket]
    inherited: bool

    @property
    def url(self) -> str:
        """Where the first of them is reached."""
        if self.sockets[0].family == socket.AF_UNIX:
            return f"unix:{self.sockets[0].getsockname()}"
        host, port = self.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def close(self) -> None:
        """Close our side of them. Safe to call twice."""
        for listener in self.sockets:
            listener.close()


def open_listeners(settings: Settings, environ: MutableMapping[str, str] | None = None) -> Listeners:
    """Take the sockets that were handed over, else open the configured one.

    Raises:
        ConfigError: The address is not ours, the port is taken, what was handed over is no listening socket, or the
            address is public and no API key is set.
    """
    inherited = _inherited(os.environ if environ is None else environ)
    listeners = Listeners(inherited, inherited=True) if inherited else None
    if listeners is None:
        settings.refuse_open_door()
        listeners = Listeners([bind(settings)], inherited=False)
    try:
        # What was handed over may be another address than the settings say; the rule is the same.
        for listener in listeners.sockets:
            if listener.family != socket.AF_UNIX:
                settings.refuse_open_door(listener.getsockname()[0])
                # Accepted connections inherit it. An answer is written in two pieces, head and body; with Nagle's
                # algorithm the second waits for the client's delayed acknowledgement: 40 ms on every request.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except ConfigError:
        listeners.close()
        raise
    return listeners


def bind(settings: Settings) -> socket.socket:
    """Open the listening socket.

    Raises:
        ConfigError: The address is not ours or the port is taken.
    """
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; is another service there?"
        ) from error
    listener.listen(_BACKLOG)
    return listener


def _inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Take the handed-over sockets; the names leave the environment, so that no child takes them for its own.

    Raises:
        ConfigError: A descriptor is not a listening stream socket.
    """
    meant_for, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant_for != str(os.getpid()) or not count.isdecimal():
        return []
    sockets: list[socket.socket] = []
    for descriptor in range(_FIRST_FD, _FIRST_FD + int(count)):
        try:
            os.set_inheritable(descriptor, False)
            listener = socket.socket(fileno=descriptor)
            listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConfigError(f"the service manager handed over descriptor {descriptor}: {error.strerror}") from error
        if not listening or listener.type != socket.SOCK_STREAM:
            raise ConfigError(f"the service manager handed over descriptor {descriptor}, which accepts no connections")
        listener.setblocking(False)
        sockets.append(listener)
    return sockets
