"""What the renderer draws from: fonts, texts, photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from steadyocr.errors import DatasetError
from steadyocr.training.synth import backgrounds
from steadyocr.training.synth.colours import Image
from steadyocr.training.synth.fonts import FONT_DIRS, Face, FontBook, discover
from steadyocr.training.synth.text import TextSource

_LANGUAGES: Final = (("zh", 0.55), ("en", 0.30), ("mixed", 0.10), ("ja", 0.03), ("ko", 0.02))


@dataclass(frozen=True, slots=True)
class Assets:
    """All that pictures are made of besides the random numbers.

    Attributes:
        fonts: Usable faces.
        text: Running text and phrases.
        photos: Photographs nearly free of text; may be empty.
        papers: Paper textures; may be empty.
    """

    fonts: FontBook
    text: TextSource
    photos: tuple[Path, ...] = ()
    papers: tuple[Path, ...] = ()

    @classmethod
    def load(
        cls,
        backgrounds_dir: Path | None = None,
        corpora_dir: Path | None = None,
        font_dirs: Sequence[Path] = FONT_DIRS,
    ) -> Assets:
        """Find fonts, read the texts and list the photographs.

        Raises:
            DatasetError: No usable font was found, or a folder is not there.
        """
        for folder in (backgrounds_dir, corpora_dir):
            if folder is not None and not folder.is_dir():
                raise DatasetError(f"{folder}: no such folder")
        faces = discover(font_dirs)
        if not faces:
            raise DatasetError("no usable font found: install one, fonts-dejavu and fonts-noto-cjk for example")
        photos, papers = backgrounds.list_pictures(backgrounds_dir) if backgrounds_dir else ([], [])
        return cls(FontBook(faces), TextSource.load(corpora_dir), tuple(photos), tuple(papers))

    def language(self, rng: np.random.Generator) -> str:
        """Choose a language that the fonts can write."""
        able = self.fonts.languages
        choices = [(name, weight) for name, weight in _LANGUAGES if (name if name != "mixed" else "zh") in able]
        if not choices:
            return "en"
        weights = np.array([w for _, w in choices])
        return choices[int(rng.choice(len(choices), p=weights / weights.sum()))][0]

    def face(self, rng: np.random.Generator, lang: str, role: str = "any") -> Face:
        """Choose a face for a language and a role."""
        if lang in {"zh", "mixed"}:
            lang = "zh-hant" if rng.random() < 0.15 else "zh"
        return self.fonts.pick(rng, lang, role)

    def scene(self, rng: np.random.Generator, width: int, height: int, photo_share: float = 0.75) -> Image:
        """Return a photograph, or a made ground where there is none or chance says so."""
        if self.photos and rng.random() < photo_share:
            return backgrounds.photo(rng, self.photos, width, height)
        return backgrounds.made(rng, width, height)

    def paper(self, rng: np.random.Generator, width: int, height: int) -> Image:
        """Return a sheet of paper."""
        return backgrounds.paper(rng, self.papers, width, height)
