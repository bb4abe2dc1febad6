"""Looks up names in threads of its own, so that a slow name server holds up nothing but the webhook that asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Final

from steadyocr.jobs.webhook_address import as_address

_MAX_LOOKUPS: Final = 8


class NamesBusy(Exception):
    """So many look-ups are under way already that one more is refused."""


class Names:
    """Looks names up, a few at a time. Belongs to one event loop.

    A look-up cannot be called off: one that nobody waits for any more keeps its place until the resolver gives up,
    half a minute later perhaps. Each has a thread of its own that ends with it and that no process waits for at its
    end, so there is nothing to close; threads of a pool would be waited for.

    Args:
        max_lookups: Look-ups under way at the same time, those included that nobody waits for any more.
    """

    def __init__(self, max_lookups: int = _MAX_LOOKUPS) -> None:
        self._places = threading.BoundedSemaphore(max_lookups)

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host; one that is an address already costs no place.

        Raises:
            NamesBusy: Too many look-ups are under way.
            OSError: There is no such name, or nobody who knows.
            ValueError: It cannot be a name.
        """
        with contextlib.suppress(ValueError):
            return [str(as_address(host))]
        if not self._places.acquire(blocking=False):
            raise NamesBusy
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()

        def settle(addresses: Sequence[str], error: Exception | None) -> None:
            if found.done():
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(addresses)

        def work() -> None:
            addresses: Sequence[str] = ()
            error: Exception | None = None
            try:
                addresses = _addresses(host, port)
            except Exception as problem:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                error = problem
            finally:
                self._places.release()
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, addresses, error)

        try:
            threading.Thread(target=work, name="webhook-name", daemon=True).start()
        except RuntimeError as error:
            self._places.release()
            raise NamesBusy from error
        return await found


def _addresses(host: str, port: int) -> Sequence[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
