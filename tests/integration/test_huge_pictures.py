"""Pictures far larger than the network's side, over HTTP: all lines found where they are, and what was lost is said."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from PIL import Image, ImageDraw, ImageFont

from support import RunningServer, encoded, overlaps, quads_of, texts_of, wait_until

SIDE = 1280
# Tiles take half a minute on a machine that others use as well.
PATIENCE_S = 110


@dataclass(frozen=True, slots=True)
class Scene:
    """A large picture, the texts drawn into it from top to bottom, and the boxes of their lines."""

    size: tuple[int, int]
    texts: tuple[str, ...]
    letters: int

    def draw(self) -> tuple[bytes, list[list[list[float]]]]:
        width, height = self.size
        image = Image.new("RGB", self.size, "white")
        pen = ImageDraw.Draw(image)
        font = ImageFont.load_default(self.letters)
        assert isinstance(font, ImageFont.FreeTypeFont)
        quads = []
        for index, text in enumerate(self.texts):
            # From edge to edge, so that a scale that is slightly off shows.
            part = index / (len(self.texts) - 1)
            wide = pen.textlength(text, font)
            margin = self.letters / 3
            at = (margin + (width - wide - 2 * margin) * part, margin + (height - 2 * self.letters) * part)
            pen.text(at, text, "black", font)
            # The line, not its ink: a detector gives letters with and without tails the same height.
            (left, top), (right, bottom) = at, (at[0] + wide, at[1] + sum(font.getmetrics()))
            quads.append([[left, top], [right, top], [right, bottom], [left, bottom]])
        return encoded(image), quads


SCENES = {
    "4K": Scene((3840, 2160), ("Invoice 2024", "Total amount", "Thank you", "Page seven"), 72),
    "15 megapixels": Scene((5000, 3000), ("Invoice 2024", "Total amount", "Thank you", "Page seven"), 96),
    "1:20 strip": Scene((400, 8000), ("Top 10", "Road 66", "Mid 77", "End 99"), 110),
}


@pytest.mark.parametrize("quality", ["shrink", "tile"])
@pytest.mark.parametrize("name", SCENES)
def test_all_lines_of_a_huge_picture_are_found_where_they_are(server: RunningServer, name: str, quality: str) -> None:
    scene = SCENES[name]
    picture, quads = scene.draw()
    # A tiled picture takes many times what others take; the next is not to be judged by it while it is tidied up.
    wait_until(lambda: server.info()["engines"][0]["state"] == "ready")
    # The default is to shrink; it is not asked for.
    options = {"quality": "tile"} if quality == "tile" else {}
    patience = {"X-Request-Timeout": str(PATIENCE_S)}
    answer = server.client.post("/v1/ocr", content=picture, params=options, headers=patience, timeout=PATIENCE_S)
    page = answer.raise_for_status().json()
    assert (page["image"]["width"], page["image"]["height"]) == scene.size
    assert texts_of(page) == list(scene.texts)
    assert overlaps(quads_of(page), quads).min() > 0.5
    if quality == "tile":
        assert page["degraded"] is None, "nothing is taken away from who asks for all of it"
    else:
        scale = round(SIDE / max(scene.size), 4)
        assert page["degraded"] == {"reason": "max_side", "steps": ["shrink"], "effective_scale": scale}
