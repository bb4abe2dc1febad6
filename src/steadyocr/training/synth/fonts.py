"""The fonts of this machine: where they are, which characters they hold, what they look like."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

FONT_DIRS: Final = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".fonts")
ROLES: Final = (
    ("skip", r"symbol|dingbat|d050000l|math|emoji|awesome|standardsymbols"),
    ("mono", r"mono|courier|code|hack|typewriter|ocr|terminus|dseg"),
    (
        "hand",
        r"dancing|kaushan|breip|femke|aoyagi|kouzan|mouhitsu|seto|yusei|klee|comic|humor|wenkai|z003|kai",
    ),
    (
        "display",
        r"lobster|bebas|cabin|leckerli|rampart|reggae|stick|staypuft|dotgothic|smiley|yanone|roadgeek|league|yen",
    ),
    (
        "serif",
        r"serif|ming|song|garamond|caladea|roman|romande|vollkorn|slab|oldstandard|bookman|schola|p052|bsmi|gbsn|myeongjo|cwfs|fs",
    ),
)
SAMPLES: Final = {
    "en": "AZaz09.,:-/",
    "zh": "的一是不了在人有我他这中大来上",
    "zh-hant": "的一是不了在人有我他這中大來上",
    "ja": "のはをにアイウ日本",
    "ko": "가나다라한국의이",
}
_TABLE_SIZE: Final = 0x10000


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face of a font file.

    Attributes:
        path: The file.
        index: Place of the face in a collection.
        family: Name that groups the weights of a family.
        role: ``sans``, ``serif``, ``mono``, ``hand`` or ``display``.
        languages: Keys of :data:`SAMPLES` that the face can write.
        table: Which of the first 65536 code points have a glyph, bool (65536,).
    """

    path: str
    index: int
    family: str
    role: str
    languages: frozenset[str]
    table: NDArray[np.bool_]

    def covers(self, text: str) -> bool:
        """Tell whether every character of the text has a glyph."""
        return all(ord(c) < _TABLE_SIZE and bool(self.table[ord(c)]) for c in text)

    def fit(self, text: str) -> str:
        """Return the text without the characters that have no glyph."""
        return "".join(c for c in text if ord(c) < _TABLE_SIZE and bool(self.table[ord(c)])).strip()


@functools.lru_cache(maxsize=600)
def load(path: str, index: int, size_px: int) -> ImageFont.FreeTypeFont:
    """Open a face at an em size in pixels."""
    return ImageFont.truetype(path, size_px, index=index, layout_engine=ImageFont.Layout.BASIC)


def _mark_ranges(table: NDArray[np.bool_], firsts: NDArray[np.int64], lasts: NDArray[np.int64]) -> None:
    """Mark the closed ranges of code points, as far as the table goes."""
    steps = np.zeros(_TABLE_SIZE + 1, dtype=np.int32)
    kept = (firsts < _TABLE_SIZE) & (firsts <= lasts)
    np.add.at(steps, firsts[kept], 1)
    np.add.at(steps, np.minimum(lasts[kept] + 1, _TABLE_SIZE), -1)
    table |= np.cumsum(steps[:-1]) > 0


def _mark_format4(data: bytes, table: NDArray[np.bool_]) -> None:
    count = struct.unpack_from(">H", data, 6)[0] // 2
    words = np.frombuffer(data, dtype=">u2", count=len(data) // 2).astype(np.int64)
    ends, starts = words[7 : 7 + count], words[8 + count : 8 + 2 * count]
    deltas, offsets = words[8 + 2 * count : 8 + 3 * count], words[8 + 3 * count : 8 + 4 * count]
    direct = offsets == 0
    found = np.zeros_like(table)
    _mark_ranges(found, starts[direct], ends[direct])
    # With a delta, the one code point that it sends to glyph 0 has no glyph.
    missing = (-deltas[direct]) & 0xFFFF
    found[missing[(missing >= starts[direct]) & (missing <= ends[direct])]] = False
    for i in np.flatnonzero(~direct):
        codes = np.arange(starts[i], ends[i] + 1)
        places = 8 + 3 * count + i + offsets[i] // 2 + codes - starts[i]
        codes, places = codes[places < len(words)], places[places < len(words)]
        found[codes[words[places] != 0]] = True
    table |= found


def _mark_format12(data: bytes, table: NDArray[np.bool_]) -> None:
    count = struct.unpack_from(">I", data, 12)[0]
    groups = np.frombuffer(data, dtype=">u4", count=3 * count, offset=16).reshape(-1, 3).astype(np.int64)
    _mark_ranges(table, groups[:, 0], groups[:, 1])


def read_tables(path: Path, max_faces: int = 4) -> list[NDArray[np.bool_]]:
    """Read which code points each face of a font file maps to a glyph.

    Args:
        path: A ``.ttf``, ``.otf`` or ``.ttc`` file.
        max_faces: How many faces of a collection are read.

    Returns:
        One bool array (65536,) for each face; faces that share a character map share the array.
    """
    found: dict[int, NDArray[np.bool_]] = {}
    tables = []
    with path.open("rb") as file:
        head = file.read(12)
        offsets: Sequence[int] = (0,)
        if head[:4] == b"ttcf":
            count = min(struct.unpack(">I", head[8:12])[0], max_faces)
            offsets = struct.unpack(f">{count}I", file.read(4 * count))
        for offset in offsets:
            file.seek(offset + 4)
            records = file.read(8 + 16 * struct.unpack(">H", file.read(2))[0])[6:]
            place = next(
                (r for r in struct.iter_unpack(">4sIII", records[: len(records) // 16 * 16]) if r[0] == b"cmap"),
                None,
            )
            if place is None:
                continue
            if place[2] not in found:
                file.seek(place[2])
                found[place[2]] = _parse_cmap(file.read(place[3]))
            tables.append(found[place[2]])
    return tables


def _parse_cmap(data: bytes) -> NDArray[np.bool_]:
    table = np.zeros(_TABLE_SIZE, dtype=np.bool_)
    count = struct.unpack_from(">H", data, 2)[0]
    records = struct.iter_unpack(">HHI", data[4 : 4 + 8 * count])
    usable = {(3, 10), (3, 1), (0, 3), (0, 4), (0, 6)}
    for offset in {place for platform, encoding, place in records if (platform, encoding) in usable}:
        kind = struct.unpack_from(">H", data, offset)[0]
        if kind == 4:
            length = struct.unpack_from(">H", data, offset + 2)[0]
            _mark_format4(data[offset : offset + length // 2 * 2], table)
        elif kind == 12:
            _mark_format12(data[offset:], table)
    return table


def _role(name: str) -> str:
    return next((role for role, pattern in ROLES if re.search(pattern, name.lower())), "sans")


def _faces(path: Path) -> list[Face]:
    role = _role(path.stem)
    if role == "skip":
        return []
    try:
        tables = read_tables(path)
    except (OSError, struct.error, IndexError, ValueError):
        return []
    faces = []
    family = re.split(r"[-_]", path.stem)[0].lower()
    for index, table in enumerate(tables):
        able = frozenset(k for k, sample in SAMPLES.items() if all(table[ord(c)] for c in sample))
        # A Latin face is used only when it holds the whole of printable ASCII.
        if "en" in able and not table[0x21:0x7F].all():
            able -= {"en"}
        if able:
            faces.append(Face(str(path), index, family, role, able, table))
    return faces


class FontBook:
    """The usable faces, grouped for choosing.

    Args:
        faces: What :func:`discover` found.
    """

    def __init__(self, faces: Iterable[Face]) -> None:
        self._families: dict[tuple[str, str], dict[str, list[Face]]] = {}
        for face in faces:
            for lang in face.languages:
                for role in (face.role, "any"):
                    group = self._families.setdefault((lang, role), {})
                    group.setdefault(face.family, []).append(face)

    @property
    def languages(self) -> frozenset[str]:
        """Languages that at least one face can write."""
        return frozenset(lang for lang, _ in self._families if lang in {"en", "zh", "ja", "ko"})

    def pick(self, rng: np.random.Generator, lang: str, role: str = "any") -> Face:
        """Choose a family, then a face of it; a role that no face has falls back to any face."""
        group = self._families.get((lang, role)) or self._families.get((lang, "any"))
        if not group:
            group = next(iter(self._families.values()))
        if lang in {"zh", "ja", "ko"} and role in {"any", "sans", "serif"} and rng.random() < 0.35:
            # Noto has nine weights, the other families one or two.
            group = {k: v for k, v in group.items() if k.startswith("noto")} or group
        names = list(group)
        faces = group[names[int(rng.integers(len(names)))]]
        if len(faces) > 3 and lang in {"zh", "ja", "ko"}:
            wanted = {"zh": (2, 3), "ja": (0,), "ko": (1,)}[lang]
            faces = [f for f in faces if f.index in wanted] or faces
        return faces[int(rng.integers(len(faces)))]


def discover(folders: Sequence[Path] = FONT_DIRS) -> tuple[Face, ...]:
    """Find the usable faces under the folders, in a stable order."""
    paths = sorted(
        p for d in folders if d.is_dir() for p in d.rglob("*") if p.suffix.lower() in {".ttf", ".otf", ".ttc"}
    )
    return tuple(face for path in paths for face in _faces(path))
