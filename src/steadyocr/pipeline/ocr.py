"""One picture: bytes in, page out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from steadyocr.detection.detector import Detection, Detector
from steadyocr.detection.postprocess import PostprocessParams
from steadyocr.detection.tiling import detect_tiled
from steadyocr.imaging.decode import DecodedImage, decode
from steadyocr.imaging.draw import overlay_png
from steadyocr.imaging.header import ImageLimits
from steadyocr.pipeline.extras import Extras, pack_map, thumbnail_jpeg
from steadyocr.pipeline.ordering import reading_order
from steadyocr.pipeline.repost import ReadLines, Repost, RepostRequest, find_lines, with_texts
from steadyocr.recognition.recognizer import LineText, Recognizer, read_upwards
from steadyocr.runtime.base import Session, SessionOptions
from steadyocr.runtime.loader import Backend, open_session
from steadyocr.runtime.manifest import Manifest
from steadyocr.types import Degradation, ModelIdentity, OcrOptions, Page, Quad, SideCap, TextLine

StageListener = Callable[[str], None]

# Between signs of life within a stage: a message costs little, but not nothing.
_SIGN_OF_LIFE_S = 0.25

# On a CPU a line costs the same alone and in a batch (measured); a card idles between small pieces of work.
_LINES_AT_ONCE_ON_A_CARD = 8


@dataclass(frozen=True, slots=True)
class OcrResult:
    """A page and what was asked for beside it.

    Attributes:
        page: The page.
        overlay: The picture with the quads drawn in, PNG.
        parts: Files by name: ``map`` (PNG) and ``thumbnail`` (JPEG).
        map_plan: Where the map lies in the picture, the fields of a ``ResizePlan``; empty without a map.
    """

    page: Page
    overlay: bytes | None = None
    parts: dict[str, bytes] = field(default_factory=dict)
    map_plan: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """A loaded model: its session and what to call it in answers."""

    session: Session
    identity: ModelIdentity


def _open(manifest: Manifest, backend: Backend, options: SessionOptions) -> _Part:
    session = open_session(manifest, backend, options)
    return _Part(session, ModelIdentity(manifest.name, manifest.file.sha256, session.backend))


class OcrPipeline:
    """Decode, detect, order, recognise. One picture at a time; owned by one engine process.

    Args:
        detector: Manifest of the detection model.
        recogniser: Manifest of the recognition model.
        backend: Which library runs both.
        session_options: Threads and precision of both.
        limits: What a picture may be.
    """

    loads: ClassVar[int] = 0

    def __init__(
        self,
        detector: Manifest,
        recogniser: Manifest,
        *,
        backend: Backend,
        session_options: SessionOptions,
        limits: ImageLimits,
    ) -> None:
        parts = {
            "detector": _open(detector, backend, session_options),
            "recogniser": _open(recogniser, backend, session_options),
        }
        OcrPipeline.loads += 1
        self.models = {name: part.identity for name, part in parts.items()}
        self.defaults = detector.defaults
        self.builtin = detector.builtin and recogniser.builtin
        self._sessions = [part.session for part in parts.values()]
        self._detector = Detector(parts["detector"].session, detector)
        lines_at_once = 1 if session_options.device == "cpu" else _LINES_AT_ONCE_ON_A_CARD
        self._recognizer = Recognizer(parts["recogniser"].session, recogniser, lines_at_once=lines_at_once)
        self._limits = limits

    def read(
        self,
        data: bytes,
        options: OcrOptions,
        on_stage: StageListener | None = None,
        cap: SideCap | None = None,
        extras: Extras | None = None,
    ) -> OcrResult:
        """Turn the bytes of a picture into a page.

        Args:
            data: An encoded picture.
            options: What to do with it; ``None`` fields take the detector's defaults.
            on_stage: Told the name of each stage as it begins, and again at each sign of progress.
            cap: A side limit of the service's own, when memory is short.
            extras: What to return beside the page.

        Raises:
            InputError: A subclass of it, when the picture is at fault.
        """
        stages = _Stages(on_stage)
        with stages("decode"):
            image = decode(data, self._limits)
        with stages("detect"):
            effective = self._effective(options, cap)
            keep_map = extras is not None and extras.keep_map
            detection = self._detect(image, effective, lambda: stages.progress("detect"), keep_map=keep_map)
        with stages("order"):
            order = reading_order(detection.quads)
            quads, scores = detection.quads[order], detection.scores[order]
        texts: list[LineText] | None = None
        if options.recognise:
            with stages("recognise"):
                texts = self._recognizer.read(image.pixels, quads, lambda: stages.progress("recognise"))
                if read_upwards(texts):
                    order = reading_order(quads, upwards=True)
                    quads, scores, texts = quads[order], scores[order], [texts[index] for index in order]
        overlay = None
        if options.overlay:
            with stages("overlay"):
                overlay = overlay_png(image.pixels, quads)
        page = Page(
            image=image.info,
            lines=_lines(quads, scores, texts),
            degraded=_degradation(detection, cap),
            timings_ms=stages.timings_ms,
            models=self.models,
            options=effective,
        )
        if extras is None:
            return OcrResult(page, overlay)
        parts = {} if detection.kept is None else {"map": pack_map(detection.kept)}
        if extras.thumbnail:
            parts["thumbnail"] = thumbnail_jpeg(image.pixels)
        return OcrResult(page, overlay, parts, dataclasses.asdict(detection.plan) if "map" in parts else {})

    def repost(self, request: RepostRequest, on_stage: StageListener | None = None) -> Repost:
        """Post-process a kept map again, and read lines that have no text yet when the picture comes with it.

        Raises:
            InternalError: The map is damaged.
            InputError: A subclass of it, when the picture is at fault.
        """
        stages = _Stages(on_stage)

        def read(quads: np.ndarray[Any, np.dtype[np.float32]]) -> list[LineText]:
            with stages("decode"):
                image = decode(request.picture, self._limits)
            with stages("recognise"):
                return self._recognizer.read(image.pixels, quads, lambda: stages.progress("recognise"))

        with stages("postprocess"):
            quads, scores = find_lines(request)
        reader: ReadLines | None = read if request.picture else None
        lines, fresh = with_texts(quads, scores, request.known, reader)
        return Repost(lines, fresh, stages.timings_ms)

    def release_memory(self) -> None:
        """Give the sessions' scratch memory back."""
        for session in self._sessions:
            session.release_memory()

    def _effective(self, options: OcrOptions, cap: SideCap | None) -> dict[str, Any]:
        """The options with the model's defaults filled in and the cap applied."""
        defaults = self.defaults
        values = options.to_wire()
        for name in ("bin_threshold", "box_threshold", "unclip_ratio", "max_side"):
            if values[name] is None:
                values[name] = getattr(defaults, name)
        if cap is not None:
            values["max_side"] = min(values["max_side"], cap.max_side)
            values["quality"] = "shrink"
        return values

    def _detect(
        self, image: DecodedImage, effective: dict[str, Any], on_progress: Callable[[], None], *, keep_map: bool
    ) -> Detection:
        params = PostprocessParams(
            bin_threshold=effective["bin_threshold"],
            box_threshold=effective["box_threshold"],
            unclip_ratio=effective["unclip_ratio"],
        )
        if effective["quality"] == "tile":
            return detect_tiled(
                self._detector,
                image.pixels,
                params,
                effective["max_side"],
                stride=self._detector.manifest.input.stride,
                on_tile=lambda *_: on_progress(),
            )
        return self._detector.detect(image.pixels, params, effective["max_side"], keep_map=keep_map)


class _Stages:
    """Times the stages and tells a listener where the work stands."""

    def __init__(self, listener: StageListener | None) -> None:
        self.timings_ms: dict[str, float] = {}
        self._listener = listener
        self._told, self._told_at = "", 0.0

    def progress(self, name: str) -> None:
        """Tell the listener that the stage goes on, now and then."""
        now = time.monotonic()
        if self._listener is not None and (name, True) != (self._told, now - self._told_at < _SIGN_OF_LIFE_S):
            self._told, self._told_at = name, now
            self._listener(name)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.progress(name)
        start = time.perf_counter()
        yield
        self.timings_ms[name] = round((time.perf_counter() - start) * 1000, 2)


def _lines(
    quads: np.ndarray[Any, np.dtype[np.float32]],
    scores: np.ndarray[Any, np.dtype[np.float32]],
    texts: list[LineText] | None,
) -> tuple[TextLine, ...]:
    lines = []
    for index, (corners, score) in enumerate(zip(quads.tolist(), scores.tolist(), strict=True)):
        top_left, top_right, bottom_right, bottom_left = ((round(x, 2), round(y, 2)) for x, y in corners)
        quad: Quad = (top_left, top_right, bottom_right, bottom_left)
        read = texts[index] if texts is not None else None
        lines.append(
            TextLine(
                id=index,
                quad=quad,
                score=round(score, 4),
                text=read.text if read else "",
                text_score=round(read.score, 4) if read else None,
            )
        )
    return tuple(lines)


def _degradation(detection: Detection, cap: SideCap | None) -> Degradation | None:
    scale = detection.plan.effective_scale
    if scale >= 1.0:
        return None
    if cap is not None:
        return Degradation(cap.reason, (*cap.steps, "shrink"), round(scale, 4))
    return Degradation("max_side", ("shrink",), round(scale, 4))
