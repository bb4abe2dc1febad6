"""Running the application: the socket, the signals, the order of starting and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn

from steadyocr.api.app import create_app
from steadyocr.errors import ConfigError, SteadyOCRError
from steadyocr.service import Service
from steadyocr.settings import Settings

_log = logging.getLogger("steadyocr.server")

_BACKLOG = 512
_CLOSE_CONNECTIONS_S = 5


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: draining comes before closing, and that is ours to order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


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


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Probes answer from the first moment; pictures are taken once an engine is ready.

    Raises:
        ConfigError: The settings do not allow serving.
        SteadyOCRError: No engine could be had.
    """
    settings.refuse_open_door()
    listener = bind(settings)
    service = Service(settings)
    config = uvicorn.Config(
        create_app(service),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_CONNECTIONS_S,
    )
    server = _Server(config)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
    stopping = asyncio.create_task(stop.wait(), name="stop-signal")
    starting = asyncio.create_task(_start(service, listener), name="service-start")
    try:
        await asyncio.wait({serving, stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        _log.info("Stopping: finishing what was accepted")
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.stop()
        server.should_exit = True
        await serving
        stopping.cancel()
        listener.close()
    _log.info("Stopped")


async def _start(service: Service, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    _log.info("Listening; loading models", extra={"host": host, "port": port})
    try:
        await service.start()
    except SteadyOCRError:
        _log.critical("No engine could be started")
        raise
    _log.info("Ready", extra={"url": f"http://{host}:{port}"})
