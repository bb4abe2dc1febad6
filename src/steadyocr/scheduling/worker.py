"""The engine process: the only place where pixels and models live.

Started as a fresh interpreter by :mod:`steadyocr.scheduling.engine`. It reads one frame at a time from its channel,
works on it, answers, gives memory back and reports how much it holds. It ends when the channel closes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import logging
import os
import platform
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadyocr import __version__
from steadyocr.errors import InternalError, MemoryPressure, SteadyOCRError
from steadyocr.imaging.header import ImageLimits
from steadyocr.pipeline import calibration
from steadyocr.pipeline.extras import Extras
from steadyocr.pipeline.golden import GoldenCheck
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.pipeline.repost import RepostRequest
from steadyocr.runtime import device, memory
from steadyocr.runtime.base import DeviceMemoryError, SessionOptions
from steadyocr.runtime.manifest import find_model
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.protocol import Message, receive_blocking, send_blocking
from steadyocr.telemetry import logging as logs
from steadyocr.types import OcrOptions, SideCap

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_log = logging.getLogger("steadyocr.engine")

_PR_SET_PDEATHSIG = 1
# In a row.
_MOST_UNTIDY_ITEMS = 50


class Worker:
    """Serves frames from one channel, one item at a time."""

    def __init__(self, channel: socket.socket, config: EngineConfig) -> None:
        self._channel = channel
        self._config = config
        self._allocation_failed = False
        self._device_ran_out = False
        self._untidy_items = 0
        started = time.perf_counter()
        self._pipeline = _build_pipeline(config)
        self._golden = GoldenCheck(self._pipeline, strict=self._pipeline.builtin)
        golden = self._golden.run()
        self._pipeline.release_memory()
        memory.trim()
        self._baseline_bytes = memory.rss_bytes()
        self._device_baseline_bytes = device.held_bytes()
        self._send(
            {
                "kind": "ready",
                "pid": os.getpid(),
                "models": {part: _plain(identity) for part, identity in self._pipeline.models.items()},
                "defaults": self._pipeline.defaults.model_dump(),
                "golden": _plain(golden),
                "model_loads": OcrPipeline.loads,
                "memory_fit": self._cached_fit(),
                "rss_bytes": self._baseline_bytes,
                "device_bytes": self._device_baseline_bytes,
                "start_ms": round((time.perf_counter() - started) * 1000),
            }
        )

    def serve(self) -> None:
        """Work until the front closes the channel or asks to stop."""
        while (frame := receive_blocking(self._channel)) is not None:
            message, payload = frame
            if message["kind"] == "stop":
                return
            if message["kind"] == "ping":
                self._send({"kind": "pong", "id": message["id"]})
                continue
            memory.reset_peak_rss()
            device.reset_peak()
            self._handle(message, bytes(payload))
            del frame, payload
            peak_bytes, device_peak_bytes = memory.peak_rss_bytes(), device.peak_bytes()
            untidy = self._may_stay_untidy(message)
            if not untidy and not self._small(message):
                self._return_to_baseline()
            self._untidy_items = self._untidy_items + 1 if untidy else 0
            self._send(
                {
                    "kind": "idle",
                    "id": message["id"],
                    "rss_bytes": memory.rss_bytes(),
                    "peak_rss_bytes": peak_bytes,
                    "device_bytes": device.held_bytes(),
                    "device_peak_bytes": device_peak_bytes,
                    "model_loads": OcrPipeline.loads,
                    "allocation_failed": self._allocation_failed,
                    "untidy": untidy,
                }
            )

    def _handle(self, message: Message, payload: bytes) -> None:
        item_id = message["id"]
        token = logs.request_id_var.set(message.get("request_id"))
        job_token = logs.job_id_var.set(message.get("job_id"))
        try:
            if message["kind"] == "run":
                self._read(message, payload)
            elif message["kind"] == "postprocess":
                self._repost(message, payload)
            else:
                self._send({"kind": "result", "id": item_id, **self._internal(message)})
        except SteadyOCRError as error:
            self._send({"kind": "error", "id": item_id, "error": error.to_wire()})
        except MemoryError as error:
            _log.exception("Out of memory on one picture")
            # What a card could not give is given back at once; whether it came back is seen below.
            self._device_ran_out = isinstance(error, DeviceMemoryError)
            self._allocation_failed = self._allocation_failed or not self._device_ran_out
            refusal = MemoryPressure("not enough memory for this picture now; try again or send a smaller one")
            self._send({"kind": "error", "id": item_id, "error": refusal.to_wire()})
        except Exception:  # noqa: BLE001 - the edge of the process: whatever a library raises must become an answer
            _log.exception("Unexpected failure on one picture")
            fault = InternalError("an unexpected fault; the log has the trace under this request id")
            self._send({"kind": "error", "id": item_id, "error": fault.to_wire()})
        finally:
            logs.request_id_var.reset(token)
            logs.job_id_var.reset(job_token)

    def _read(self, message: Message, payload: bytes) -> None:
        item_id = message["id"]
        cap = message["cap"]
        result = self._pipeline.read(
            payload,
            OcrOptions(**message["options"]),
            on_stage=lambda stage: self._send({"kind": "stage", "id": item_id, "stage": stage}),
            cap=SideCap(cap["max_side"], tuple(cap["steps"])) if cap else None,
            extras=Extras(**message["extras"]) if "extras" in message else None,
        )
        answer = {"kind": "result", "id": item_id, "page": result.page.to_wire()}
        if result.parts:
            # The files follow each other in the payload, in this order; an overlay is never asked for with them.
            answer["parts"] = {name: len(data) for name, data in result.parts.items()}
            answer["map_plan"] = result.map_plan
        self._send(answer, (result.overlay or b"") + b"".join(result.parts.values()))

    def _repost(self, message: Message, payload: bytes) -> None:
        item_id = message["id"]
        answer = self._pipeline.repost(
            RepostRequest.from_wire(message, payload),
            on_stage=lambda stage: self._send({"kind": "stage", "id": item_id, "stage": stage}),
        )
        self._send({"kind": "result", "id": item_id, **answer.to_wire()})

    def _internal(self, message: Message) -> Message:
        """Do what the service asks for itself: read the golden picture, measure memory, fit the measurements."""
        match message["kind"]:
            case "golden":
                return {"golden": _plain(self._golden.run())}
            case "calibrate":
                sample = calibration.measure(self._pipeline, calibration.SHAPES[message["step"]])
                return {"sample": _plain(sample), "steps": len(calibration.SHAPES)}
            case "fit":
                samples = [calibration.MemorySample(**sample) for sample in message["samples"]]
                return {"memory_fit": self._store_fit(calibration.fit(samples, self._baseline_bytes))}
        raise InternalError("the front asked for something unknown")

    def _fit_file(self) -> Path | None:
        """Where the fit for these models, backend and machine is kept."""
        if self._config.cache_dir is None:
            return None
        parts = [f"{name}-{identity.sha256}-{identity.backend}" for name, identity in self._pipeline.models.items()]
        parts += [__version__, platform.node(), platform.machine(), str(self._config.threads), self._config.precision]
        key = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
        return Path(self._config.cache_dir) / f"memory-model-{key}.json"

    def _cached_fit(self) -> dict[str, float] | None:
        path = self._fit_file()
        try:
            fit: dict[str, float] | None = json.loads(path.read_text()) if path and path.is_file() else None
        except (OSError, ValueError):
            return None
        return fit

    def _store_fit(self, fit: dict[str, float]) -> dict[str, float]:
        path = self._fit_file()
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_suffix(f".{os.getpid()}.tmp")
                temporary.write_text(json.dumps(fit))
                temporary.replace(path)
            except OSError:
                # It is measured again at the next start; nothing is lost but the time.
                _log.exception("The memory fit cannot be kept")
        return fit

    def _small(self, message: Message) -> bool:
        """Whether an item was a slider's, which leaves next to nothing behind: tidying up costs as much as the work."""
        slack = self._config.memory_slack_bytes
        return message["kind"] == "postprocess" and memory.rss_bytes() <= self._baseline_bytes + slack

    def _may_stay_untidy(self, message: Message) -> bool:
        """Whether scratch memory stays for the next item. Now and then it goes all the same, so that growth shows."""
        if not message.get("keep_scratch") or self._untidy_items >= _MOST_UNTIDY_ITEMS:
            return False
        config = self._config
        if self._allocation_failed or device.held_bytes() > self._device_baseline_bytes + config.memory_slack_bytes:
            return False
        return memory.rss_bytes() <= self._baseline_bytes + config.scratch_bytes

    def _return_to_baseline(self) -> None:
        slack = self._config.memory_slack_bytes
        memory.trim()
        grown = memory.rss_bytes() > self._baseline_bytes + slack
        if grown or device.held_bytes() > self._device_baseline_bytes + slack:
            self._pipeline.release_memory()
            memory.trim()
        if self._device_ran_out:
            self._device_ran_out = False
            self._allocation_failed |= device.held_bytes() > self._device_baseline_bytes + slack

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
        session_options=SessionOptions(
            threads=config.threads,
            precision=config.precision,
            device=config.device,
            device_memory_share=config.device_memory_share,
        ),
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
        # The front reads these lines and logs them again, in its own format and to its own files.
        logs.configure("json", config.log_level)
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
