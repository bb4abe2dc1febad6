"""What is written in the pictures: slices of running text and made-up prices, dates, numbers and names."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from steadyocr.training.synth import words

CJK: Final = frozenset({"zh", "ja", "ko"})
_FILES: Final = {"zh": "zhwiki.txt", "en": "enwiki.txt", "ja": "jawiki.txt", "ko": "kowiki.txt"}
_STOPS: Final = re.compile(r"[\s，。、；：？！“”‘’（）《》〈〉【】「」『』…—·,.;:?!\"'()\[\]{}]+")

_UNITS: Final = ("kg", "g", "ml", "cm", "mm", "%", "W", "℃", "L", "GB", "Hz")
_ENDINGS: Final = ("%", "% OFF", "折", "号", "楼", "元起", "F")


def _built_in(lang: str) -> str:
    rng = np.random.default_rng(7)
    chosen = rng.choice(np.array(words.PLAIN[lang]), 4000)
    if lang == "zh":
        return "".join(str(w) + ("，" if rng.random() < 0.2 else "") for w in chosen)
    return " ".join(chosen)


def digits(rng: np.random.Generator, count: int) -> str:
    """Return so many random digits."""
    return "".join(str(d) for d in rng.integers(0, 10, count))


def _letters(rng: np.random.Generator, lo: int, hi: int) -> str:
    letters = rng.choice(list(string.ascii_lowercase), int(rng.integers(lo, hi + 1)))
    return "".join(letters)


def price(rng: np.random.Generator) -> str:
    """Return a price."""
    sign = str(rng.choice(["¥", "￥", "$", "RM", "", "€"], p=[0.35, 0.2, 0.2, 0.05, 0.17, 0.03]))
    amount = float(10 ** rng.uniform(0, 3.6))
    return (
        f"{sign}{amount:.2f}"
        if rng.random() < 0.7
        else f"{sign}{int(amount)}" + str(rng.choice(["", "元", "/件"], p=[0.7, 0.2, 0.1]))
    )


def date(rng: np.random.Generator) -> str:
    """Return a date, a time or both."""
    y, m, d = int(rng.integers(1985, 2030)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    clock = f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}"
    forms = (
        f"{y}-{m:02d}-{d:02d}",
        f"{d:02d}/{m:02d}/{y}",
        f"{y}年{m}月{d}日",
        f"{y}.{m}.{d}",
        clock,
        f"{y}-{m:02d}-{d:02d} {clock}:00",
    )
    return forms[int(rng.integers(len(forms)))]


def token(rng: np.random.Generator) -> str:
    """Return a made-up phone number, address of the net, code, measure or share."""
    kind = int(rng.integers(9))
    name = _letters(rng, 3, 9)
    forms = (
        lambda: f"1{digits(rng, 2)} {digits(rng, 4)} {digits(rng, 4)}",
        lambda: f"0{digits(rng, 2)}-{digits(rng, 8)}",
        lambda: f"{name}@{_letters(rng, 3, 7)}.com",
        lambda: f"www.{name}.{rng.choice(['com', 'cn', 'net', 'org'])}",
        lambda: f"{_letters(rng, 2, 3).upper()}{digits(rng, int(rng.integers(3, 9)))}",
        lambda: f"{int(rng.integers(1, 999))}{rng.choice(_UNITS)}",
        lambda: digits(rng, int(rng.integers(1, 14))),
        lambda: f"NO.{digits(rng, 5)}",
        lambda: f"{int(rng.integers(1, 100))}{rng.choice([*_ENDINGS, '-' + digits(rng, 2)])}",
    )
    return forms[kind]()


def plate(rng: np.random.Generator) -> str:
    """Return a number plate or a room or bus number."""
    first = str(rng.choice(list("京沪粤苏浙川鲁豫"))) + str(rng.choice(list("ABCDEF")))
    forms = (
        f"{first}·{digits(rng, 5)}",
        f"{_letters(rng, 2, 3).upper()} {digits(rng, 4)}",
        f"{_letters(rng, 1, 1).upper()}{digits(rng, 3)}",
        digits(rng, 3),
    )
    return forms[int(rng.integers(len(forms)))]


class TextSource:
    """Running text in several languages and phrases cut from it.

    Args:
        texts: Language to running text; languages that are missing use the built-in words.
    """

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        given = texts or {}
        self._texts = {lang: " ".join((given.get(lang) or _built_in(lang)).split()) for lang in _FILES}

    @classmethod
    def load(cls, folder: Path | None) -> TextSource:
        """Read ``zhwiki.txt``, ``enwiki.txt``, ``jawiki.txt`` and ``kowiki.txt`` where the folder holds them."""
        if folder is None:
            return cls()
        paths = {lang: folder / name for lang, name in _FILES.items()}
        return cls({lang: p.read_text(encoding="utf-8", errors="replace") for lang, p in paths.items() if p.is_file()})

    def run(self, rng: np.random.Generator, lang: str, chars: int) -> str:
        """Return a slice of running text; for ``mixed``, Chinese with Latin words and numbers in it."""
        if lang == "mixed":
            parts: list[str] = []
            while sum(len(part) for part in parts) < chars:
                parts.append(self.run(rng, "zh", int(rng.integers(3, 14))))
                parts.append(token(rng) if rng.random() < 0.4 else self.run(rng, "en", int(rng.integers(4, 12))))
            return "".join(parts)[:chars].strip()
        text = self._texts[lang]
        start = int(rng.integers(max(1, len(text) - chars - 40)))
        if lang in {"en", "ko"}:
            start = text.find(" ", start, start + 40) + 1 or start
            cut = text[start : start + chars + 1]
            return cut[: cut.rfind(" ")].strip() if " " in cut[1:] else cut.strip()
        return text[start : start + chars].strip().lstrip("，。、；：？！）》」』”")

    def phrase(self, rng: np.random.Generator, lang: str, lo: int = 2, hi: int = 8) -> str:
        """Return a short phrase as signs carry it: ``lo`` to ``hi`` characters, or words for Latin text."""
        if lang == "mixed":
            return (
                self.phrase(rng, "zh", lo, hi)
                + str(rng.choice(["", " "]))
                + (token(rng) if rng.random() < 0.5 else self.phrase(rng, "en", 1, 2))
            )
        listed = {"zh": words.SHOP_ZH, "en": words.SHOP_EN}.get(lang)
        count = int(rng.integers(lo, hi + 1))
        if lang == "en":
            pool = (
                list(rng.choice(np.array(listed), 3))
                if rng.random() < 0.4
                else _STOPS.split(self.run(rng, "en", 60))[1:]
            )
            text = " ".join(w for w in pool if w)[: 3 + 5 * count]
            text = text[: text.rfind(" ")] if " " in text and rng.random() < 0.9 else text
            style = rng.random()
            return text.upper() if style < 0.4 else text.title() if style < 0.8 else text
        if listed and rng.random() < 0.5:
            return str(rng.choice(np.array(listed)))
        return _STOPS.sub("", self.run(rng, lang, 3 * count))[:count] or str(words.PLAIN[lang][count])

    def word(self, rng: np.random.Generator, lang: str, listed: Mapping[str, tuple[str, ...]]) -> str:
        """Return a word of a list for the language, or a short phrase where the list has none."""
        key = "zh" if lang == "mixed" else lang
        if key in listed:
            return str(rng.choice(np.array(listed[key]))).replace("-", " ")
        return self.phrase(rng, lang, 2, 5)

    def item(self, rng: np.random.Generator, lang: str) -> str:
        """Return what a label, a badge or a cell carries: a phrase, a price, a date or a code."""
        kind = rng.random()
        if kind < 0.5:
            return self.phrase(rng, lang)
        return price(rng) if kind < 0.68 else date(rng) if kind < 0.8 else token(rng)
