"""What is compared: this pipeline and rapidocr, each in a process of its own, behind one interface."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bench.agreement import Reading
from bench.pictures import Picture
from steadyocr.scheduling.engine import engine_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

Task = Literal["read", "detect", "recognise"]
Engine = Literal["openvino", "onnxruntime"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one picture.

    Attributes:
        answer: Until the answer.
        ready: Until the next picture could begin.
        cpu: Of all the process's threads together until then. Other processes hardly change it, so on a busy machine it
            is the steadier measure; threads that wait actively count as busy.
    """

    answer: float
    ready: float
    cpu: float


class Clock:
    """Takes a :class:`Timing`; starts when made."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._start = time.perf_counter()
        self._answer: float | None = None

    def answered(self) -> None:
        """The answer is there; house-keeping follows."""
        self._answer = time.perf_counter() - self._start

    def stop(self) -> Timing:
        """The next picture could begin."""
        ready = time.perf_counter() - self._start
        return Timing(self._answer or ready, ready, time.process_time() - self._cpu)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contender did with one picture."""

    timing: Timing
    readings: list[Reading]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a contender's process in bytes: now, and the most since it was last asked to forget."""

    rss: int
    peak: int


class Contender(Protocol):
    """One way to read pictures."""

    def read(self, picture: Picture) -> Outcome:
        """From encoded bytes to lines with text."""

    def detect(self, picture: Picture) -> Outcome:
        """From encoded bytes to lines without text."""

    def recognise(self, picture: Picture) -> Outcome:
        """Text of the picture's known lines; decoding is not in the time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender by name: how it is made, inside its process, and what is special about it.

    Attributes:
        name: Short and unique.
        make: Called in the child with the number of threads.
        note: Settings worth telling.
        environment: Set for the child in addition.
    """

    name: str
    make: Callable[[int], Contender]
    note: str
    environment: Mapping[str, str]


class Ours:
    """This project's pipeline, with the house-keeping that an engine process does after each item."""

    def __init__(self, backend: Engine, threads: int) -> None:
        import cv2

        from steadyocr.imaging.header import ImageLimits
        from steadyocr.pipeline.golden import check_golden
        from steadyocr.pipeline.ocr import OcrPipeline
        from steadyocr.runtime import memory
        from steadyocr.runtime.base import SessionOptions
        from steadyocr.runtime.loader import open_session
        from steadyocr.runtime.manifest import find_model
        from steadyocr.settings import Settings

        # As an engine's process begins.
        memory.refuse_huge_pages()
        memory.give_back_large_blocks(memory.LARGE_FOR_ENGINES)
        cv2.setNumThreads(threads)
        settings = Settings()
        self._slack = settings.engines.memory_slack_bytes
        models = settings.models
        options = SessionOptions(threads=threads)
        self._limits = ImageLimits()
        detector, self._recogniser = find_model(models.detector), find_model(models.recogniser)
        self._pipeline = OcrPipeline(
            detector, self._recogniser, backend=backend, session_options=options, limits=self._limits
        )
        self._open_recogniser = partial(open_session, self._recogniser, backend, options)
        self._lines: Any = None
        # As the worker does before its first item.
        check_golden(self._pipeline)
        self._pipeline.release_memory()
        memory.trim()
        memory.keep_all_there_is()
        self._baseline = memory.rss_bytes()

    def read(self, picture: Picture) -> Outcome:
        """See :class:`Contender`."""
        return self._page(picture, recognise=True)

    def detect(self, picture: Picture) -> Outcome:
        """See :class:`Contender`."""
        return self._page(picture, recognise=False)

    def recognise(self, picture: Picture) -> Outcome:
        """See :class:`Contender`."""
        import numpy as np

        from steadyocr.imaging.decode import decode
        from steadyocr.recognition.recognizer import Recognizer

        if self._lines is None:
            self._lines = Recognizer(self._open_recogniser(), self._recogniser)
        pixels = decode(picture.data, self._limits).pixels
        quads = np.array([line.quad for line in picture.lines], np.float32)
        clock = Clock()
        texts = self._lines.read(pixels, quads)
        timing = clock.stop()
        readings = [(line.text, quad) for line, quad in zip(texts, quads.tolist(), strict=True)]
        return Outcome(timing, readings)

    def _page(self, picture: Picture, *, recognise: bool) -> Outcome:
        from steadyocr.types import OcrOptions

        clock = Clock()
        page = self._pipeline.read(picture.data, OcrOptions(recognise=recognise)).page
        clock.answered()
        self._return_to_baseline()
        timing = clock.stop()
        return Outcome(timing, [(line.text, [list(corner) for corner in line.quad]) for line in page.lines])

    def _return_to_baseline(self) -> None:
        """What `steadyocr.scheduling.worker` does between two items."""
        from steadyocr.runtime import memory

        memory.trim()
        if memory.rss_bytes() > self._baseline + self._slack:
            self._pipeline.release_memory()
            memory.trim()


class RapidOcr:
    """The rapidocr package on the model files in its wheel; nothing is downloaded."""

    def __init__(self, engine: Engine, threads: int, *, classify: bool, defaults: bool) -> None:
        from pathlib import Path

        import cv2
        import rapidocr
        from rapidocr import EngineType, RapidOCR

        cv2.setNumThreads(threads)
        models = Path(rapidocr.__file__).parent / "models"
        kind = EngineType.OPENVINO if engine == "openvino" else EngineType.ONNXRUNTIME
        params: dict[str, Any] = {
            "Global.log_level": "error",
            "EngineConfig.openvino.inference_num_threads": threads,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
            "Cls.model_path": str(models / "ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
            "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
        } | {f"{part}.engine_type": kind for part in ("Det", "Cls", "Rec")}
        if not defaults:
            # The detector sees what ours sees, and lines are cut from the full picture, as ours are.
            params |= {"Global.max_side_len": 100_000, "Det.limit_type": "max", "Det.limit_side_len": 1280}
        # Its answers are a union of four classes that its calls narrow by argument.
        self._engine: Any = RapidOCR(params=params)
        self._classify = classify

    def read(self, picture: Picture) -> Outcome:
        """See :class:`Contender`."""
        return self._page(picture, classify=self._classify, recognise=True)

    def detect(self, picture: Picture) -> Outcome:
        """See :class:`Contender`."""
        return self._page(picture, classify=False, recognise=False)

    def recognise(self, picture: Picture) -> Outcome:
        """See :class:`Contender`."""
        import numpy as np

        pixels = self._engine.load_img(picture.data)
        quads = np.array([line.quad for line in picture.lines], np.float32)
        clock = Clock()
        crops = self._engine.crop_text_regions(pixels, quads)
        if self._classify:
            crops, _ = self._engine.cls_and_rotate(crops)
        texts = self._engine.recognize_txt(crops).txts
        timing = clock.stop()
        return Outcome(timing, list(zip(texts, quads.tolist(), strict=True)))

    def _page(self, picture: Picture, *, classify: bool, recognise: bool) -> Outcome:
        clock = Clock()
        result = self._engine(picture.data, use_det=True, use_cls=classify, use_rec=recognise)
        timing = clock.stop()
        boxes = [] if result.boxes is None else result.boxes.tolist()
        texts = list(result.txts or ()) if recognise else [""] * len(boxes)
        return Outcome(timing, list(zip(texts, boxes, strict=True)))


@dataclass(frozen=True, slots=True)
class _MakeOurs:
    backend: Engine

    def __call__(self, threads: int) -> Contender:
        return Ours(self.backend, threads)


@dataclass(frozen=True, slots=True)
class _MakeRapidOcr:
    engine: Engine
    classify: bool = False
    defaults: bool = False

    def __call__(self, threads: int) -> Contender:
        return RapidOcr(self.engine, threads, classify=self.classify, defaults=self.defaults)


def entries(*, quick: bool = False) -> list[Entry]:
    """Return all contenders, ours with OpenVINO first; the quick set has no variants of rapidocr."""
    ours = engine_environment()
    listed = [
        Entry("ours openvino", _MakeOurs("openvino"), "max_side 1280", ours),
        Entry("ours onnxruntime", _MakeOurs("onnxruntime"), "max_side 1280, arena off", ours),
    ]
    engines: tuple[Engine, ...] = ("openvino", "onnxruntime")
    for engine in engines:
        same = "limit_type max, limit_side_len 1280, max_side_len off"
        plain = Entry(f"rapidocr {engine}", _MakeRapidOcr(engine), f"{same}, no cls", {})
        variants = [
            Entry(f"rapidocr {engine} +cls", _MakeRapidOcr(engine, classify=True), f"{same}, cls", {}),
            Entry(
                f"rapidocr {engine} defaults",
                _MakeRapidOcr(engine, classify=True, defaults=True),
                "limit_type min, limit_side_len 736, max_side_len 2000, cls",
                {},
            ),
        ]
        listed += [plain] if quick else [plain, *variants]
    return listed


class Child:
    """A contender in a fresh process, asked for one thing at a time."""

    def __init__(self, entry: Entry, threads: int) -> None:
        self.entry = entry
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, entry.make, threads), daemon=True)
        with _environment(entry.environment):
            self._process.start()
        theirs.close()
        self.start_seconds: float = self._answer()

    def run(self, task: Task, picture: Picture) -> Outcome:
        """Do a task on a picture."""
        self._pipe.send((task, picture))
        outcome: Outcome = self._answer()
        return outcome

    def memory(self, *, forget: bool = False) -> Memory:
        """Ask how much memory the process holds; `forget` lets the peak count from now on."""
        self._pipe.send(("memory", forget))
        held: Memory = self._answer()
        return held

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def _answer(self) -> Any:  # noqa: ANN401 - whatever the child was asked for
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise SystemExit(f"{self.entry.name}: its process ended; its message is above") from None
        return answer


@contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(pipe: Connection, make: Callable[[int], Contender], threads: int) -> None:
    from steadyocr.runtime import memory

    start = time.perf_counter()
    contender = make(threads)
    pipe.send(time.perf_counter() - start)
    while True:
        try:
            task, argument = pipe.recv()
        except EOFError:
            return
        if task == "memory":
            pipe.send(Memory(memory.rss_bytes(), memory.peak_rss_bytes()))
            if argument:
                memory.reset_peak_rss()
        else:
            pipe.send(getattr(contender, task)(argument))
