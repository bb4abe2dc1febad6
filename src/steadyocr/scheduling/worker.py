"""The engine process: the only place where pixels and models live.

Started as a fresh interpreter by :mod:`steadyocr.scheduling.engine`. It reads one frame at a time from its channel,
works on it, answers, gives memory back and reports how much it holds. It ends when the channel closes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadyocr.errors import InternalError, MemoryPressure, SteadyOCRError
from steadyocr.imaging.header import ImageLimits
from steadyocr.pipeline.golden import check_golden
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime import memory
from steadyocr.runtime.base import SessionOptions
from steadyocr.runtime.manifest import find_model
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.protocol import Message, receive_blocking, send_blocking
from steadyocr.telemetry import logging as logs
from steadyocr.types import OcrOptions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_log = logging.getLogger("steadyocr.engine")

_PR_SET_PDEATHSIG = 1


class Worker:
    """Serves frames from one channel, one item at a time."""

    def __init__(self, channel: socket.socket, config: EngineConfig) -> None:
        self._channel = channel
        self._config = config
        started = time.perf_counter()
        self._pipeline = _build_pipeline(config)
        golden = check_golden(self._pipeline)
        self._pipeline.release_memory()
        memory.trim()
        self._baseline_bytes = memory.rss_bytes()
        self._send(
            {
                "kind": "ready",
                "pid": os.getpid(),
                "models": {part: _plain(identity) for part, identity in self._pipeline.models.items()},
                "defaults": self._pipeline.defaults.model_dump(),
                "golden": _plain(golden),
                "rss_bytes": self._baseline_bytes,
                "start_ms": round((time.perf_counter() - started) * 1000),
            }
        )

    def serve(self) -> None:
        """Work until the front closes the channel or asks to stop."""
        while (frame := receive_blocking(self._channel)) is not None:
            message, payload = frame
            if message["kind"] == "stop":
                return
            memory.reset_peak_rss()
            self._handle(message, bytes(payload))
            del frame, payload
            self._return_to_baseline()
            self._send(
                {
                    "kind": "idle",
                    "id": message["id"],
                    "rss_bytes": memory.rss_bytes(),
                    "peak_rss_bytes": memory.peak_rss_bytes(),
                }
            )

    def _handle(self, message: Message, payload: bytes) -> None:
        item_id = message["id"]
        token = logs.request_id_var.set(message.get("request_id"))
        try:
            if message["kind"] == "golden":
                golden = check_golden(self._pipeline)
                self._send({"kind": "result", "id": item_id, "golden": _plain(golden)})
                return
            result = self._pipeline.read(
                payload,
                OcrOptions(**message["options"]),
                on_stage=lambda stage: self._send({"kind": "stage", "id": item_id, "stage": stage}),
            )
            self._send({"kind": "result", "id": item_id, "page": result.page.to_wire()}, result.overlay or b"")
        except SteadyOCRError as error:
            self._send({"kind": "error", "id": item_id, "error": error.to_wire()})
        except MemoryError:
            _log.exception("Out of memory on one picture")
            refusal = MemoryPressure("not enough memory for this picture now; try again or send a smaller one")
            self._send({"kind": "error", "id": item_id, "error": refusal.to_wire()})
        except Exception:  # noqa: BLE001 - the edge of the process: whatever a library raises must become an answer
            _log.exception("Unexpected failure on one picture")
            fault = InternalError("an unexpected fault; the log has the trace under this request id")
            self._send({"kind": "error", "id": item_id, "error": fault.to_wire()})
        finally:
            logs.request_id_var.reset(token)

    def _return_to_baseline(self) -> None:
        memory.trim()
        if memory.rss_bytes() > self._baseline_bytes + self._config.memory_slack_bytes:
            self._pipeline.release_memory()
            memory.trim()

    def _send(self, message: Message, payload: bytes = b"") -> None:
        send_blocking(self._channel, message, payload)


def _build_pipeline(config: EngineConfig) -> OcrPipeline:
    import cv2

    cv2.setNumThreads(config.threads)
    user_models = Path(config.user_models) if config.user_models else None
    return OcrPipeline(
        find_model(config.detector, user_models),
        find_model(config.recogniser, user_models),
        backend=config.backend,
        session_options=SessionOptions(threads=config.threads, precision=config.precision),
        limits=ImageLimits(
            max_bytes=config.max_bytes, max_pixels=config.max_pixels, max_side_ratio=config.max_side_ratio
        ),
    )


def _plain(value: DataclassInstance) -> dict[str, Any]:
    return dataclasses.asdict(value)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when the front dies: an orphan would hold memory for nobody."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):  # not Linux: the closing channel ends us all the same
        return


def main() -> int:
    """Serve the channel whose file descriptor is the first argument."""
    _die_with_parent()
    # Ctrl-C reaches the whole terminal group; the front decides when engines end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        frame = receive_blocking(channel)
        if frame is None:
            return 0
        config = EngineConfig(**frame[0]["config"])
        logs.configure(config.log_format, config.log_level)
        try:
            worker = Worker(channel, config)
        except SteadyOCRError as error:
            send_blocking(channel, {"kind": "failed", "error": error.to_wire()})
            return 1
        try:
            worker.serve()
        except (BrokenPipeError, ConnectionError):
            return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
