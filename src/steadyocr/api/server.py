"""Running the application: the socket, the signals, the order of starting and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
from collections.abc import Callable, Collection, Iterator, Sequence

import uvicorn
from fastapi import APIRouter, FastAPI

from steadyocr.api.app import Mounting, create_app
from steadyocr.api.connections import ConnectionLimits, guarded_protocol
from steadyocr.api.listeners import Listeners, open_listeners
from steadyocr.api.reloading import Reloader
from steadyocr.errors import SteadyOCRError
from steadyocr.runtime import memory
from steadyocr.service import Service
from steadyocr.service.claim import claimed
from steadyocr.service.companions import Companion
from steadyocr.service.lifesigns import LifeSigns
from steadyocr.settings import Settings
from steadyocr.telemetry.notify import Notifier

_log = logging.getLogger("steadyocr.server")

_CLOSE_CONNECTIONS_S = 5
# A connection may have been accepted just before the end, its request still on the way.
_ARRIVING_S = 0.2
# With a handed-over socket: requests that have begun get so long before new pictures are refused.
_BEGUN_S = 2.0
# With a handed-over socket, whoever connects while models load waits for them, but not longer than this for an answer.
_QUIET_START_S = 15.0
# Beyond the drain: jobs let go, engines end, connections close.
STOP_MARGIN_S = 20.0


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: draining comes before closing, and that is ours to order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let what was accepted last arrive, then close."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(_ARRIVING_S)
        await super().shutdown(sockets)


async def serve(
    settings: Settings,
    *,
    extra_routers: Sequence[APIRouter] = (),
    open_paths: Collection[str] = (),
    open_prefixes: Collection[str] = (),
    mounts: Sequence[Mounting] = (),
    reread: Callable[[], Settings] | None = None,
    companions: Sequence[Callable[[Service], Companion]] = (),
    make_app: Callable[[Service], FastAPI] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    On a socket of our own, probes answer from the first moment and pictures are taken once an engine is ready. On one
    that a service manager handed over, connections wait in the kernel's queue until then, and those that come while
    we stop wait for our successor: a restart refuses nobody.

    Args:
        settings: The whole tree.
        extra_routers: See :func:`create_app`.
        open_paths: See :func:`create_app`.
        open_prefixes: See :func:`create_app`.
        mounts: See :func:`create_app`.
        reread: Reads the settings again; what SIGHUP does under a service manager.
        companions: Make what lives beside the service.
        make_app: Builds another application than the whole one.

    Raises:
        ConfigError: The settings do not allow serving.
        ConflictError: Another process keeps its state in the same data folder.
        SteadyOCRError: No engine could be had.
    """
    memory.give_back_large_blocks()
    with claimed(settings.data_dir):
        notifier = Notifier.from_environment()
        listeners = open_listeners(settings)
        service = Service(settings, with_jobs=True, with_page=make_app is None)
        for make in companions:
            service.attach(make(service))
        whole = functools.partial(
            create_app,
            extra_routers=extra_routers,
            open_paths=open_paths,
            open_prefixes=open_prefixes,
            mounts=mounts,
        )
        server = _Server(_configure((make_app or whole)(service), settings))
        if notifier.managed and reread is not None:
            reloader = Reloader(settings, reread, notifier, lambda: service.detector)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.reload)
        await _Run(service, listeners, server, notifier).until_told_to_stop()


def _configure(app: FastAPI, settings: Settings) -> uvicorn.Config:
    limits = ConnectionLimits(
        max_connections=settings.server.max_connections, write_stall_s=settings.server.write_stall_s
    )
    return uvicorn.Config(
        app,
        http=guarded_protocol(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.server.drain_timeout_s) + _CLOSE_CONNECTIONS_S,
    )


class _Run:
    """One life of the service: the order of starting and stopping."""

    def __init__(self, service: Service, listeners: Listeners, server: _Server, notifier: Notifier) -> None:
        self._service = service
        self._listeners = listeners
        self._server = server
        self._notifier = notifier
        self._signs = LifeSigns(service, notifier)
        self._loops = service.branch_loops()

    async def until_told_to_stop(self) -> None:
        """Start, serve, and stop on a signal or when starting fails.

        Raises:
            SteadyOCRError: No engine could be had.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        starting = asyncio.create_task(self._start(), name="service-start")
        serving = asyncio.create_task(self._serve(starting), name="http-server")
        stopping = asyncio.create_task(stop.wait(), name="stop-signal")
        try:
            await asyncio.wait({serving, stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            _log.info("Stopping: finishing what was accepted")
        finally:
            await self._stop(starting, serving)
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
        _log.info("Stopped")

    async def _start(self) -> None:
        _log.info("Listening; loading models", extra={"url": self._listeners.url})
        try:
            async with self._signs.starting():
                await self._service.start()
        except SteadyOCRError:
            _log.critical("The service could not be started")
            raise
        memory.keep_all_there_is()
        self._notifier.ready(self._signs.status())
        if self._notifier.managed:
            self._loops.start("life-signs", self._signs.run())
        _log.info("Ready", extra={"url": self._listeners.url})

    async def _serve(self, starting: asyncio.Task[None]) -> None:
        if self._listeners.inherited:
            await asyncio.wait({starting}, timeout=_QUIET_START_S)
            if self._server.should_exit or (starting.done() and not _succeeded(starting)):
                return
        await self._server.serve(sockets=self._listeners.sockets)

    async def _stop(self, starting: asyncio.Task[None], serving: asyncio.Task[None]) -> None:
        drain_s = self._service.settings.server.drain_timeout_s
        self._notifier.stopping("finishing what was accepted", within_s=drain_s + STOP_MARGIN_S)
        # A drain may take longer than the watchdog's patience; from here on the manager counts the stop time instead.
        await self._loops.stop()
        # Our successor takes the new connections. Without one they are answered until the end, with a refusal.
        self._server.should_exit = self._listeners.inherited
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if self._listeners.inherited:
            await asyncio.wait({serving}, timeout=min(_BEGUN_S, drain_s))
        await self._service.stop()
        self._server.should_exit = True
        await asyncio.wait({serving}, timeout=_CLOSE_CONNECTIONS_S)
        # An answer that still flows (a client that reads slowly, a stream of events) is cut off.
        self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            # From Python 3.12 on a closed server waits for them as well.
            connection.transport.abort()
        await serving
        self._listeners.close()


def _succeeded(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is None
