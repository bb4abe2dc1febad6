"""A kept probability map post-processed again, without the network: what moving a slider on the page does.

Lines that were read before keep their text as long as they stay roughly where they were; a moved threshold changes
each outline a little, and reading them all again would cost a hundred times as much as finding them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from steadyocr.detection.postprocess import PostprocessParams, quads_from_probability_map
from steadyocr.errors import InternalError
from steadyocr.imaging.geometry import FloatArray, quad_iou
from steadyocr.imaging.plan import ResizePlan
from steadyocr.imaging.resize import to_source
from steadyocr.pipeline.extras import unpack_map
from steadyocr.pipeline.ordering import reading_order, was_read_upwards
from steadyocr.recognition.recognizer import LineText, read_upwards

# A line that was grown from a ratio of 1.5 to 2.2 still overlaps itself by so much (IoU); two words that became one
# line do not.
_SAME_LINE: Final = 0.7
# Quads that are compared with all known ones at the same time; each pair takes some 30 bytes.
_COMPARED_AT_ONCE: Final = 100

ReadLines = Callable[[FloatArray], list[LineText]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepostRequest:
    """What is asked for.

    Attributes:
        map_png: From :func:`~steadyocr.pipeline.extras.pack_map`.
        plan: How the picture was resized for the network.
        params: Post-processing knobs.
        known: Lines read before: ``quad``, ``text``, ``text_score``.
        picture: The encoded picture, to read lines that have no text yet; empty to leave them unread.
    """

    map_png: bytes
    plan: ResizePlan
    params: PostprocessParams
    known: Sequence[Mapping[str, Any]] = ()
    picture: bytes = b""

    @classmethod
    def from_wire(cls, message: Mapping[str, Any], payload: bytes) -> RepostRequest:
        """Build from a frame: plain values, and the map followed by the picture as the payload."""
        split = int(message["map_bytes"])
        return cls(
            map_png=payload[:split],
            plan=ResizePlan(**message["plan"]),
            params=PostprocessParams(**message["params"]),
            known=message["known"],
            picture=payload[split:],
        )


@dataclass(frozen=True, slots=True)
class Repost:
    """The answer.

    Attributes:
        lines: In reading order: ``id``, ``quad``, ``score``, ``text`` and ``text_score`` (both ``None`` when unread).
        fresh: Ids of the lines that were read for this answer.
        timings_ms: Milliseconds by stage.
    """

    lines: list[dict[str, Any]]
    fresh: list[int]
    timings_ms: dict[str, float] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def find_lines(request: RepostRequest) -> tuple[FloatArray, FloatArray]:
    """Post-process a kept map; quads (N, 4, 2) in pixels of the picture, in reading order, and their scores (N,).

    Raises:
        InternalError: The map is damaged or not the plan's.
    """
    probability = unpack_map(request.map_png)
    if probability.shape != (request.plan.content_height, request.plan.content_width):
        raise InternalError("the kept probability map is not of the announced size; send the picture again")
    quads, scores = quads_from_probability_map(probability, request.params)
    quads = to_source(quads, request.plan)
    order = reading_order(quads)
    return quads[order], scores[order]


def with_texts(
    quads: FloatArray, scores: FloatArray, known: Sequence[Mapping[str, Any]], read: ReadLines | None
) -> tuple[list[dict[str, Any]], list[int]]:
    """Give each line the text it is known by, or read it.

    Args:
        quads: (N, 4, 2) float32 in pixels of the picture.
        scores: (N,) float32.
        known: Lines read before.
        read: Reads the quads it is given; ``None`` leaves unknown lines without a text.

    Returns:
        The lines as plain values, in reading order, and the ids of those read now.
    """
    texts = _recall(quads, known)
    fresh = [index for index, text in enumerate(texts) if text is None] if read is not None else []
    if read is not None and fresh:
        for index, text in zip(fresh, read(quads[fresh]), strict=True):
            texts[index] = text
    if read_upwards(filter(None, texts)):
        order = reading_order(quads, upwards=True)
        places = np.argsort(order)
        fresh = sorted(places[fresh].tolist())
        quads, scores, texts = quads[order], scores[order], [texts[index] for index in order]
    lines = [
        {
            "id": index,
            "quad": [[round(x, 2), round(y, 2)] for x, y in corners],
            "score": round(score, 4),
            "text": text.text if text else None,
            "text_score": round(text.score, 4) if text else None,
        }
        for index, (corners, score, text) in enumerate(zip(quads.tolist(), scores.tolist(), texts, strict=True))
    ]
    return lines, fresh


def _recall(quads: FloatArray, known: Sequence[Mapping[str, Any]]) -> list[LineText | None]:
    """What is known of each quad: the text of the known line that it overlaps best."""
    texts: list[LineText | None] = [None] * len(quads)
    if not known or not len(quads):
        return texts
    before = np.array([line["quad"] for line in known], np.float32).reshape(-1, 4, 2)
    upwards = was_read_upwards(before)
    # Some at a time: all pairs of a dense page are hundreds of megabytes.
    for first in range(0, len(quads), _COMPARED_AT_ONCE):
        overlaps = quad_iou(quads[first : first + _COMPARED_AT_ONCE], before, at_least=_SAME_LINE)
        for index, best in enumerate(overlaps.argmax(axis=1).tolist()):
            if overlaps[index, best] >= _SAME_LINE:
                texts[first + index] = LineText(str(known[best]["text"]), float(known[best]["text_score"]), upwards)
    return texts
