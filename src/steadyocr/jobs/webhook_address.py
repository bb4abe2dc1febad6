"""Which addresses a webhook may go to. Whoever gives us one must not reach through us what they cannot reach."""

from __future__ import annotations

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
# Translators carry IPv4 inside IPv6: who may not reach the one may not reach it as the other either.
_NAT64: Final = ip_network("64:ff9b::/96")
# Protocol assignments; a cloud's metadata service lives here, and older Pythons call it public.
_ASSIGNMENTS: Final = ip_network("192.0.0.0/24")


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
    return inner.is_global and not inner.is_multicast and not inner.is_reserved and inner not in _ASSIGNMENTS


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def as_address(text: str) -> Address:
    """Return the address that a look-up gave, without its zone."""
    return ip_address(text.partition("%")[0])
