"""A line between a node and its database that can be cut: a proxy that goes silent, or a network of the node's own."""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Iterator

_numbers = itertools.count(os.getpid() % 200)


class Proxy:
    """Carries connections to a port of this machine. While cut it carries nothing and says nothing."""

    def __init__(self, target_port: int, host: str = "127.0.0.1") -> None:
        self._target_port = target_port
        self._listener = socket.create_server((host, 0))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._open = threading.Event()
        self._open.set()
        self._ended = False
        self._drop_all = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return host, port

    def cut(self) -> None:
        self._open.clear()
        self._wake.send(b".")

    def mend(self) -> None:
        """Carry new connections again; those of before have been given up by whoever held them."""
        self._drop_all = True
        self._open.set()

    def _run(self) -> None:
        while not self._ended:
            self._open.wait()
            if self._drop_all:
                self._drop_all = False
                for end in list(self._pairs):
                    self._drop(end)
            for key, _ in self._selector.select(0.2):
                if not self._open.is_set():
                    break
                assert isinstance(key.fileobj, socket.socket)
                one: socket.socket = key.fileobj
                if one is self._listener:
                    self._accept()
                elif one is self._woken:
                    one.recv(100)
                elif one in self._pairs:
                    self._carry(one)

    def _accept(self) -> None:
        ours, _ = self._listener.accept()
        try:
            theirs = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
        except OSError:
            ours.close()
            return
        for one, other in ((ours, theirs), (theirs, ours)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, one: socket.socket) -> None:
        try:
            data = one.recv(65_536)
            if data:
                self._pairs[one].sendall(data)
                return
        except OSError:
            pass
        self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        for end in (one, self._pairs.get(one)):
            if end is not None and self._pairs.pop(end, None) is not None:
                self._selector.unregister(end)
                end.close()

    def close(self) -> None:
        self._ended = True
        self._drop_all = True
        self._open.set()
        self._wake.send(b".")
        self._thread.join(5)
        for one in list(self._pairs):
            self._drop(one)
        self._selector.close()
        for one in (self._listener, self._wake, self._woken):
            one.close()


class Wire:
    """What a node is started with, and how its line is cut.

    Attributes:
        prefix: Goes before the node's command.
        address: Where the node finds the database.
    """

    def __init__(self, proxy: Proxy, prefix: tuple[str, ...], interface: str | None) -> None:
        self.prefix = prefix
        self.address = proxy.address
        self._proxy = proxy
        self._interface = interface

    def cut(self) -> None:
        if self._interface is None:
            self._proxy.cut()
        else:
            _ip("link", "set", self._interface, "down")

    def mend(self) -> None:
        if self._interface is None:
            self._proxy.mend()
        else:
            _ip("link", "set", self._interface, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@contextlib.contextmanager
def proxy_wire(port: int) -> Iterator[Wire]:
    with contextlib.closing(Proxy(port)) as proxy:
        yield Wire(proxy, (), None)


@contextlib.contextmanager
def namespace_wire(port: int) -> Iterator[Wire | None]:
    """A network namespace with one line out; ``None`` where it cannot be made."""
    number = next(_numbers)
    name, here, net = f"socr{number}", f"socr{number}a", f"10.213.{number % 250}"
    try:
        if not _made_namespace(name, here, net):
            yield None
            return
        with contextlib.closing(Proxy(port, f"{net}.1")) as proxy:
            yield Wire(proxy, ("ip", "netns", "exec", name), here)
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            _ip("netns", "delete", name)


def _made_namespace(name: str, here: str, net: str) -> bool:
    there = f"{here[:-1]}b"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _ip("netns", "add", name)
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _ip("address", "add", f"{net}.1/24", "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", name, "address", "add", f"{net}.2/24", "dev", there)
        _ip("-n", name, "link", "set", there, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        return True
    return False
