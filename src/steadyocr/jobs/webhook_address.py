"""Which addresses a webhook may go to. Whoever gives us one must not reach through us what they cannot reach."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from steadyocr.errors import InvalidOption

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAX_URL: Final = 2048
_PORTS: Final = {"http": 80, "https": 443}
# Brackets hold the host as a whole, or there are none.
_BRACKETS: Final = re.compile(r"\[[^\[\]]*\](:\d*)?|[^\[\]]*")
# Translators carry IPv4 inside IPv6: who may not reach the one may not reach it as the other either.
_NAT64: Final = ip_network("64:ff9b::/96")
# Of IPv6, only this part is given out for public use; older Pythons call other parts public too (site-local, say).
_PUBLIC_V6: Final = ip_network("2000::/3")
# Protocol assignments, where a cloud's metadata service lives, and documentation; older Pythons call these public.
_NOT_PUBLIC: Final = (ip_network("192.0.0.0/24"), ip_network("3fff::/20"))
_LOOPBACK: Final = (ip_address("127.0.0.1"), ip_address("::1"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook goes.

    Attributes:
        host: A name or an address, as the certificate must say it.
        path: Path and query, from the slash on.
    """

    secure: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.secure else "http"] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Take a webhook's URL apart.

    Raises:
        InvalidOption: It cannot be one.
    """
    if len(url) > _MAX_URL:
        raise InvalidOption(f"a webhook's URL has at most {_MAX_URL} characters")
    if not url.isascii() or any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise InvalidOption("a webhook's URL has ASCII characters only and no blanks; percent-encode the rest")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidOption("this is not a URL for a webhook; write https://host/path") from error
    if not _BRACKETS.fullmatch(parts.netloc):
        # Some Pythons take the part in brackets for the host, whatever stands around it.
        raise InvalidOption("this is not a URL for a webhook; write https://host/path")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InvalidOption("a webhook's URL starts with https:// (or http://) and names a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidOption("a webhook's URL has no user, password or fragment; deliveries are signed instead")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", parts.hostname, port or _PORTS[parts.scheme], path)


def is_allowed(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Return whether deliveries may go to an address: a public one, or one in a network that was allowed."""
    inner = _inner(address)
    if any(inner in network for network in networks):
        return True
    if inner.version == 6 and inner not in _PUBLIC_V6:
        return False
    public = inner.is_global and not inner.is_multicast and not inner.is_reserved
    return public and not any(inner in network for network in _NOT_PUBLIC)


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def refuse_literal(target: Target, networks: Sequence[Network] = ()) -> None:
    """Refuse a host that says by itself that it is not public; what other names lead to is seen at delivery.

    Raises:
        InvalidOption: It is an address that deliveries may not go to, or names this machine.
    """
    addresses = literal_addresses(target.host)
    if addresses and not any(is_allowed(address, networks) for address in addresses):
        raise InvalidOption(
            "this address is not public; whoever runs the service can allow its network in jobs.webhook_networks",
            option="callback_url",
        )


def literal_addresses(host: str) -> Sequence[Address]:
    """Return what a host stands for without any look-up: nothing for a usual name.

    The short and the numeric forms of IPv4 (``127.1``, ``2130706433``) count, since look-ups understand them.
    """
    with contextlib.suppress(ValueError):
        return [as_address(host)]
    with contextlib.suppress(OSError):
        return [ip_address(socket.inet_aton(host))]
    name = host.rstrip(".").lower()
    return _LOOPBACK if name == "localhost" or name.endswith(".localhost") else ()


def as_address(text: str) -> Address:
    """Return the address that a look-up gave, without its zone."""
    return ip_address(text.partition("%")[0])
