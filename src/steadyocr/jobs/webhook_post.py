"""One signed POST to an address that was looked at first. The answer's status is all that is taken from it.

The name is looked up once, every address it has is checked, and the connection goes to what was checked: a name that
changes its mind in between changes nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from steadyocr import __version__
from steadyocr.jobs.webhook_address import Network, Target, as_address, is_allowed
from steadyocr.jobs.webhook_names import Names

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r|\n)")
_READ_MAX_BYTES: Final = 16 << 10
_READ_REST_S: Final = 0.5
_BASE64_MARK: Final = "whsec_"
# What a name's addresses beyond the first are worth, and how long each is given before the next one is tried.
_MAX_ADDRESSES: Final = 4
_NEXT_ADDRESS_S: Final = 3.0


class RefusedAddress(Exception):
    """The name leads to an address that is not public."""


class BadAnswer(Exception):
    """What answered does not speak HTTP/1."""


def signing_key(secret: str) -> bytes:
    """Return the key that a secret stands for: ``whsec_`` and base64, or any text as it is.

    Raises:
        ValueError: What follows ``whsec_`` is not base64.
    """
    if secret.startswith(_BASE64_MARK):
        return base64.b64decode(secret.removeprefix(_BASE64_MARK), validate=True)
    return secret.encode()


def signed_headers(key: bytes, delivery_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers by which a receiver knows that a delivery is ours and fresh.

    They are those of the Standard Webhooks specification: ``webhook-signature`` is ``v1,`` and the base64 form of the
    HMAC-SHA256 over ``webhook-id``, a dot, ``webhook-timestamp`` (seconds since 1970), a dot, and the body. A receiver
    compares signatures, refuses old timestamps and drops ids that it has had.
    """
    signed = f"{delivery_id}.{timestamp_s}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{signature}",
    }


async def post(
    target: Target, headers: Mapping[str, str], body: bytes, names: Names, networks: Sequence[Network] = ()
) -> int:
    """Send a body of JSON and return the status of the answer. Takes as long as it takes; bound it from outside.

    Raises:
        RefusedAddress: The host is not public.
        NamesBusy: Too many names are being looked up.
        BadAnswer: What came back is not HTTP/1.
        OSError: It cannot be reached, or its certificate is not right.
    """
    addresses = await _checked_addresses(target, names, networks)
    reader, writer = await _connect(addresses, target)
    try:
        writer.write(_request(target, headers, body))
        await writer.drain()
        return await _status(reader)
    finally:
        # All that counts has been read; a polite end could be made to take for ever.
        writer.transport.abort()


async def _connect(addresses: Sequence[str], target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that answers: a name may have one of a network that does not lead here."""
    tls = ssl.create_default_context() if target.secure else None
    *others, last = addresses
    slow: str | None = None
    for address in others:
        try:
            async with asyncio.timeout(_NEXT_ADDRESS_S):
                return await _open(address, target, tls)
        except TimeoutError:
            slow = slow or address
        except OSError:
            continue
    try:
        return await _open(last, target, tls)
    except OSError:
        if slow is None:
            raise
        # Slow is better than none.
        return await _open(slow, target, tls)


async def _open(
    address: str, target: Target, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        address,
        target.port,
        ssl=tls,
        server_hostname=target.host if tls else None,
        limit=_READ_MAX_BYTES,
    )


async def _checked_addresses(target: Target, names: Names, networks: Sequence[Network]) -> Sequence[str]:
    addresses = await names.look_up(target.host, target.port)
    # One that is not public among them is reason enough: names of honest receivers do not mix.
    if not addresses or not all(is_allowed(as_address(address), networks) for address in addresses):
        raise RefusedAddress
    return addresses[:_MAX_ADDRESSES]


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = {
        "Host": target.authority,
        "User-Agent": f"steadyocr/{__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


async def _status(reader: asyncio.StreamReader) -> int:
    try:
        line = await reader.readline()
    except ValueError as error:
        raise BadAnswer from error
    match = _STATUS_LINE.match(line)
    if match is None:
        raise BadAnswer
    # Some of the rest is taken off the line, so that the receiver can finish writing; none of it is looked at.
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_READ_REST_S):
            await reader.read(_READ_MAX_BYTES)
    return int(match[1])
