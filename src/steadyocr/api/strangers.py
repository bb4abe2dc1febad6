"""What other people's web pages may do here: nothing.

Where no API key is asked for, whoever reaches the service may use it, and a browser reaches it from every page that
its owner looks at. Such a page can send forms and plain requests anywhere (cross-site request forgery), and with a
name of its own that suddenly stands for 127.0.0.1 it counts as the service's own page and reads answers, too (DNS
rebinding). Programs that are no browsers send neither header and are not concerned.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers

from steadyocr.errors import AccessError

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class StrangerRules:
    """Tells requests of foreign pages from others.

    Args:
        names: Host names by which the service may be asked for, besides addresses, ``localhost`` and the machine's
            own name; ``None`` for every name.
    """

    def __init__(self, names: Collection[str] | None) -> None:
        self._names: frozenset[str] | None = None
        if names is not None:
            self._names = frozenset(name.lower() for name in (*names, "localhost", socket.gethostname()))

    def check(self, method: str, headers: Headers) -> None:
        """Let a request pass or not.

        Raises:
            AccessError: A foreign page sent it, or it asks for a host that is not this one.
        """
        # Every browser that the page supports sends it to secure addresses and to this machine.
        if method not in _SAFE_METHODS and headers.get("sec-fetch-site") == "cross-site":
            raise AccessError("this was sent by a page of another site; without API keys only the service's own may")
        name = _host_name(headers.get("host", ""))
        if self._names is None or name in self._names or name.endswith(".localhost") or _is_address(name):
            return
        raise AccessError(
            f"this service does not know itself as {name[:80]!r}; if that is its name, put it into server.allowed_hosts"
        )


def _host_name(host: str) -> str:
    """Return the part before the port, without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()


def _is_address(name: str) -> bool:
    """Whether it is an address, which nobody can make stand for another one; HTTP/1.0 need not say any."""
    if not name:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
