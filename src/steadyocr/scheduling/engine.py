"""The front's handle on one engine process. Imports no pixel or inference library."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from steadyocr.errors import EngineDied, MemoryPressure, ModelError, SteadyOCRError, from_wire
from steadyocr.runtime.starvation import CpuClock
from steadyocr.scheduling.child import Child
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.deaths import signal_name
from steadyocr.scheduling.engine_stderr import EngineStderr
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.scheduling.protocol import BrokenFrame, Message, receive, send

# The descriptor of the channel follows as the last argument.
WORKER_COMMAND: Final = (sys.executable, "-m", "steadyocr.scheduling.worker")
# One heap: malloc_trim() gives back the top of the main one only, and networks run in a thread of the library's; with
# two 20 to 30 MiB came and went. torch's idle threads sleep, as spinning ones burn the cores that others wait for.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# What a thread keeps by for itself counts as in use, and each piece of it holds a page that could go back: 4 to 5 MiB.
_TUNABLES: Final = "glibc.malloc.tcache_count=0"
_STREAM_LIMIT_BYTES = 1 << 20
_STOP_GRACE_S = 3.0
# What reading a frame raises that is a message, but not the one that should come now.
_MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_BROKEN: Final = (BrokenFrame, ConnectionError, *_MALFORMED)


def engine_environment() -> dict[str, str]:
    """Return the environment of an engine: ours, and what makes its memory go back."""
    tunables = ":".join(filter(None, (os.environ.get("GLIBC_TUNABLES"), _TUNABLES)))  # of two of a name the last counts
    return {**os.environ, **_ENVIRONMENT, "GLIBC_TUNABLES": tunables}


class EngineState(StrEnum):
    """Where an engine is in its life: models are loaded while it starts, the golden picture is read to warm it."""

    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    DEAD = "dead"


class EngineProcess:
    """One engine: started, spoken to, watched, ended. Works on one item at a time.

    Attributes:
        on_state: Told each step in its life, as the state before and the one after.
        proven_at: Event-loop time at which it had read the golden picture right, before its first item.
        ready: What it said when it became ready: models, defaults, golden result, memory.
        rss_bytes: Resident memory after its last item.
        heap_bytes: Of it, what was in use in the C heap when it last tidied up: a leak grows here too, memory in
            pieces only in ``rss_bytes``. 0 where the C library does not tell.
        device_bytes: What it holds on an accelerator, after its last item.
        device_peak_bytes: The most it held there with that item.
        stage: What it is doing with the item in hand, ``None`` when idle.
        items: How many items it has finished.
        model_loads: How many times it has loaded its models; anything but 1 is a fault.
        allocation_failed: It has run out of memory once and is not to be trusted any more.
        misreads: It read the golden picture wrongly when it was asked last.
        slow_golden_runs: So many times in a row that took far longer than at its start.
        untidy: It has kept scratch memory of its last item for the next one.
    """

    def __init__(self, config: EngineConfig, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._config = config
        self._command = command
        self._process: Child | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._stderr: EngineStderr | None = None
        self._state = EngineState.STARTING
        self.on_state: Callable[[EngineState, EngineState], None] | None = None
        self.proven_at: float | None = None
        self.ready: Message = {}
        self.rss_bytes = 0
        self.peak_rss_bytes = 0
        self.heap_bytes = 0
        self.device_bytes = 0
        self.device_peak_bytes = 0
        self.stage: str | None = None
        self.items = 0
        self.model_loads = 0
        self.allocation_failed = False
        self.misreads = False
        self.slow_golden_runs = 0
        self.untidy = False

    @property
    def state(self) -> EngineState:
        """Where it is in its life."""
        return self._state

    @state.setter
    def state(self, state: EngineState) -> None:
        before, self._state = self._state, state
        if self.on_state is not None and state is not before:
            self.on_state(before, state)

    @property
    def pid(self) -> int | None:
        """Process id, once started."""
        return self._process.pid if self._process else None

    def cpu_clock(self) -> CpuClock:
        """Start watching how much processor time it gets, of what it can count on."""
        return CpuClock(self.pid, core_share=self._config.core_share)

    @property
    def golden_yardstick(self) -> str | None:
        """What its reading of the golden picture is compared with, once ready: ``known`` or ``self``."""
        yardstick: str | None = self.ready.get("golden", {}).get("yardstick")
        return yardstick

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; ``None`` while it lives."""
        return self._process.returncode if self._process else None

    @property
    def taken_bytes(self) -> int:
        """Once it has ended: the most it held since it was given its last item, or 0 where that is not known."""
        # Where the kernel does not let an engine reset its peak, it is that of an item before.
        return self._process.peak_bytes(self.peak_rss_bytes) if self._process else 0

    async def start(self, timeout_s: float) -> None:
        """Start the process and wait until its models are loaded and the golden picture came out right.

        Raises:
            SteadyOCRError: What the engine said is wrong (a missing or damaged model, say).
            ModelError: The golden picture did not come out right.
            EngineDied: It ended or took too long; nothing more is known.
        """
        try:
            self._reader, self._writer = await self._spawn()
        except OSError as error:
            raise EngineDied(f"an engine process could not be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(timeout_s):
                await send(self._writer, {"kind": "configure", "config": self._config.to_wire()})
                message = await self._receive_verdict(self._reader)
            self._take_verdict(message)
        except TimeoutError as error:
            raise EngineDied(f"an engine was not ready after {timeout_s:.0f} s") from error
        except _BROKEN as error:
            raise EngineDied(f"an engine ended while starting ({await self._describe_exit()})") from error
        self.proven_at = asyncio.get_running_loop().time()
        self.state = EngineState.READY

    async def _receive_verdict(self, reader: asyncio.StreamReader) -> Message:
        while True:
            message, _ = await receive(reader)
            if message["kind"] != "warming":
                return message
            self.state = EngineState.WARMING

    def _take_verdict(self, message: Message) -> None:
        if message["kind"] == "failed":
            raise from_wire(message["error"])
        if not message["golden"]["ok"]:
            raise ModelError(f"the models misread the golden picture: {message['golden']['problem']}")
        self.rss_bytes = int(message["rss_bytes"])
        self.device_bytes = int(message.get("device_bytes", 0))
        self.model_loads = int(message.get("model_loads", 1))
        self.ready = message

    async def _spawn(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        stderr = self._stderr = EngineStderr()
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as until_handed_over:
            until_handed_over.enter_context(ours)
            self._process = Child(
                [*self._command, str(theirs.fileno())],
                env=engine_environment(),
                stderr=stderr.write_end,
                pass_fds=[theirs.fileno()],
            )
            stderr.attach(self._process.pid)
            streams = await asyncio.open_connection(sock=ours, limit=_STREAM_LIMIT_BYTES)
            until_handed_over.pop_all()
            return streams

    async def run(self, item: WorkItem, on_frame: Callable[[], None] = lambda: None) -> None:
        """Hand an item over, settle it with the engine's answer, wait for the engine's memory report.

        Args:
            item: The work.
            on_frame: Called whenever the engine says something: the sign of progress.

        Raises:
            EngineDied: The engine ended with this item in hand; the item is not settled.
        """
        if self._reader is None or self._writer is None:
            raise EngineDied("the engine was never started")
        self.state = EngineState.BUSY
        header: dict[str, Any] = {
            "kind": item.kind,
            "id": item.id,
            "request_id": item.request_id,
            "job_id": item.job_id,
            "options": item.options.to_wire(),
            "cap": dataclasses.asdict(item.cap) if item.cap else None,
            "keep_scratch": item.course.keep_scratch,
            **item.extra,
        }
        try:
            await send(self._writer, header, item.payload)
            await self._settle(item, self._reader, on_frame)
        except _BROKEN as error:
            self.state = EngineState.DEAD
            raise EngineDied(f"the engine ended with this picture in hand ({await self._describe_exit()})") from error
        # The client has its answer; what follows is the engine's house-keeping.
        try:
            await self._read_idle(self._reader)
        except _BROKEN:
            self.state = EngineState.DEAD

    async def _settle(self, item: WorkItem, reader: asyncio.StreamReader, on_frame: Callable[[], None]) -> None:
        while True:
            message, payload = await receive(reader)
            on_frame()
            match message["kind"]:
                case "stage":
                    self.stage = str(message["stage"])
                case "error":
                    return _settle_error(item, from_wire(message["error"]))
                case _:
                    return item.succeed(Reply(message, payload))

    async def _read_idle(self, reader: asyncio.StreamReader) -> None:
        message, _ = await receive(reader)
        self.peak_rss_bytes = int(message["peak_rss_bytes"])
        self.device_peak_bytes = int(message.get("device_peak_bytes", 0))
        self.model_loads = int(message.get("model_loads", self.model_loads))
        self._note_memory(message)
        self.items += 1
        self.stage = None
        self.state = EngineState.READY

    def _note_memory(self, message: Message) -> None:
        self.rss_bytes = int(message["rss_bytes"])
        self.heap_bytes = int(message.get("heap_bytes", self.heap_bytes))
        self.device_bytes = int(message.get("device_bytes", 0))
        self.allocation_failed = bool(message.get("allocation_failed", False))
        self.untidy = bool(message.get("untidy", False))

    async def ping(self) -> None:
        """Make sure that an idle engine answers; it tidies up if it has not. The caller sets the time limit.

        Raises:
            EngineDied: It has ended.
        """
        if self._reader is None or self._writer is None:
            raise EngineDied("the engine was never started")
        try:
            await send(self._writer, {"kind": "ping", "id": 0})
            message, _ = await receive(self._reader)
            if message["kind"] != "pong":
                raise BrokenFrame("something else than the answer to a ping")
            self._note_memory(message)
        except _BROKEN as error:
            self.state = EngineState.DEAD
            raise EngineDied(f"the engine ended while idle ({await self._describe_exit()})") from error

    async def exited(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """End the process: ask first, then kill. Safe to call twice."""
        self.state = EngineState.DRAINING
        try:
            if self._writer is not None and self.exit_code is None:
                with contextlib.suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(_STOP_GRACE_S):
                        await send(self._writer, {"kind": "stop"})
                        await self.exited()
        finally:
            # Also for who is cancelled meanwhile: nobody else would end it.
            await self.kill()

    async def kill(self) -> None:
        """End the process at once and release what belongs to it. Safe to call twice."""
        self.state = EngineState.DEAD
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        if self._stderr is not None:
            self._stderr.close()
        # Taken first: who is cancelled while waiting here cancels what is waited for, and the next must not meet that.
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _describe_exit(self) -> str:
        """Say how the process ended, in words."""
        if self._process is None:
            return "not started"
        try:
            async with asyncio.timeout(_STOP_GRACE_S):
                code = await self._process.wait()
        except TimeoutError:
            return "channel closed, process still there"
        return f"signal {signal_name(-code)}" if code < 0 else f"exit code {code}"


def _settle_error(item: WorkItem, error: SteadyOCRError) -> None:
    """Pass an engine's error on; the first time that memory was short is left to the owner, who may try smaller."""
    if isinstance(error, MemoryPressure) and not item.cautious:
        item.short_of_memory = True
    else:
        item.fail(error)
