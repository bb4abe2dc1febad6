"""The engine process: the only place where pixels and models live.

Started as a fresh interpreter by :mod:`steadyocr.scheduling.engine`. It reads one frame at a time from its channel,
works on it, answers, gives memory back and reports how much it holds. It ends when the channel closes.
"""

from __future__ import annotations

import ctypes
import dataclasses
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
from steadyocr.pipeline.fit_store import FitStore
from steadyocr.pipeline.golden import GoldenCheck
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.pipeline.repost import RepostRequest
from steadyocr.runtime import device, memory
from steadyocr.runtime.base import SessionOptions
from steadyocr.runtime.cpu import cpu_flags, cpu_model
from steadyocr.runtime.manifest import find_model
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.deaths import EXIT_UNSOUND
from steadyocr.scheduling.housekeeping import Housekeeping
from steadyocr.scheduling.protocol import Message, receive_blocking, send_blocking
from steadyocr.telemetry import logging as logs
from steadyocr.types import OcrOptions, SideCap

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_log = logging.getLogger("steadyocr.engine")

# What runs beside serving (training) stands higher still.
_OOM_SCORE_ABOVE_FRONT = 300
_PR_SET_PDEATHSIG = 1


class Unsound(Exception):
    """After a fault this engine does not work any more; only a new process helps."""


class Unforeseen(InternalError):
    """Something failed that nobody has thought of."""


class Worker:
    """Serves frames from one channel, one item at a time."""

    def __init__(self, channel: socket.socket, config: EngineConfig) -> None:
        self._channel = channel
        self._config = config
        started = time.perf_counter()
        self._pipeline = _build_pipeline(config)
        self._send({"kind": "warming"})
        self._golden = GoldenCheck(self._pipeline, strict=self._pipeline.builtin)
        golden = self._golden.run()
        self._housekeeping = Housekeeping(self._pipeline, config)
        self._fit_store = _fit_store(config, self._pipeline)
        self._send(
            {
                "kind": "ready",
                "pid": os.getpid(),
                "models": {part: _plain(identity) for part, identity in self._pipeline.models.items()},
                "defaults": self._pipeline.defaults.model_dump(),
                "golden": _plain(golden),
                "model_loads": OcrPipeline.loads,
                "memory_fit": self._fit_store.load(),
                "rss_bytes": self._housekeeping.baseline_bytes,
                "device_bytes": self._housekeeping.device_baseline_bytes,
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
                # Asked for when nothing has come for a while.
                self._send({"kind": "pong", "id": message["id"], **self._housekeeping.rest()})
                continue
            self._housekeeping.begin()
            self._handle(message, bytes(payload))
            del frame, payload
            report = self._housekeeping.finish(message)
            self._send({"kind": "idle", "id": message["id"], "model_loads": OcrPipeline.loads, **report})

    def _handle(self, message: Message, payload: bytes) -> None:
        token = logs.request_id_var.set(message.get("request_id"))
        job_token = logs.job_id_var.set(message.get("job_id"))
        try:
            refusal = self._answer(message, payload)
            if isinstance(refusal, Unforeseen):
                # By now the failed attempt and all it held are gone.
                self._prove_sound(message["id"])
            if refusal is not None:
                self._send({"kind": "error", "id": message["id"], "error": refusal.to_wire()})
        finally:
            logs.request_id_var.reset(token)
            logs.job_id_var.reset(job_token)

    def _answer(self, message: Message, payload: bytes) -> SteadyOCRError | None:
        """Work on an item and send its result; returns what it is refused with instead."""
        try:
            if message["kind"] == "run":
                self._read(message, payload)
            elif message["kind"] == "postprocess":
                self._repost(message, payload)
            else:
                self._send({"kind": "result", "id": message["id"], **self._internal(message)})
        except SteadyOCRError as error:
            return error
        except MemoryError as error:
            _log.exception("Out of memory on one picture")
            self._housekeeping.note_shortage(error)
            return MemoryPressure("not enough memory for this picture now; try again or send a smaller one")
        except Exception:  # noqa: BLE001 - the edge of the process: whatever a library raises must become an answer
            _log.exception("Unexpected failure on one picture")
            return Unforeseen("an unexpected fault; the log has the trace under this request id")
        return None

    def _prove_sound(self, item_id: int) -> None:
        """Read the golden picture after a fault that nobody foresaw.

        A fault of ours in one picture leaves the engine as it was. A card whose context has died answers everything
        with an error from then on: then this process ends with the item in hand, which another one tries again.

        Raises:
            Unsound: It came out wrong or not at all.
        """
        self._send({"kind": "stage", "id": item_id, "stage": "self_test"})
        try:
            problem = self._golden.run().problem
        except MemoryError as error:
            # Short of memory, not broken.
            self._housekeeping.note_shortage(error)
            return
        except Exception as error:
            _log.exception("The test after an unexpected failure failed too")
            raise Unsound from error
        if problem:
            _log.error("The golden picture is misread after an unexpected failure", extra={"problem": problem})
            raise Unsound(problem)

    def _read(self, message: Message, payload: bytes) -> None:
        item_id = message["id"]
        cap = message["cap"]
        result = self._pipeline.read(
            payload,
            OcrOptions(**message["options"]),
            on_stage=lambda stage: self._send({"kind": "stage", "id": item_id, "stage": stage}),
            cap=SideCap(cap["max_side"], tuple(cap["steps"]), cap["reason"]) if cap else None,
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
                fit = calibration.fit(samples, self._housekeeping.baseline_bytes)
                self._fit_store.save(fit)
                return {"memory_fit": fit}
        raise InternalError("the front asked for something unknown")

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


def _fit_store(config: EngineConfig, pipeline: OcrPipeline) -> FitStore:
    """Where the memory fit is kept for these models and settings on this machine, its processor and its card."""
    models = [f"{name}-{identity.sha256}-{identity.backend}" for name, identity in pipeline.models.items()]
    machine = [platform.node(), platform.machine(), cpu_model(), *sorted(cpu_flags()), device.card_name(config.device)]
    return FitStore(
        Path(config.cache_dir) if config.cache_dir else None,
        [*models, *machine, __version__, str(config.threads), config.precision],
    )


def _plain(value: DataclassInstance) -> dict[str, Any]:
    return dataclasses.asdict(value)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when the front dies: an orphan would hold memory for nobody."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):  # not Linux: the closing channel ends us all the same
        return


def _go_before_the_front() -> None:
    """Be the kernel's choice when memory runs out, whatever is larger just then: an engine costs a retry."""
    score = Path("/proc/self/oom_score_adj")
    try:
        score.write_text(str(min(1000, int(score.read_text()) + _OOM_SCORE_ABOVE_FRONT)))
    except (OSError, ValueError):  # not Linux, or a sandbox
        return


def main() -> int:
    """Serve the channel whose file descriptor is the first argument."""
    _die_with_parent()
    _go_before_the_front()
    memory.refuse_huge_pages()
    memory.give_back_large_blocks(memory.LARGE_FOR_ENGINES)
    # Ctrl-C reaches the whole terminal group, and so does a group's SIGTERM; the front decides when engines end, and
    # needs them to finish what it has accepted. It asks by a frame and ends them with SIGKILL.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
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
        memory.keep_all_there_is()
        try:
            worker.serve()
        except (BrokenPipeError, ConnectionError):
            return 0
        except Unsound:
            return EXIT_UNSOUND
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
