"""TIFF files of kinds that Pillow does not write."""

from __future__ import annotations

import struct

_CODES = {3: "H", 4: "I", 9: "i"}
_FIRST_BYTE = 8


def tiff_file(tags: dict[int, int | tuple[int, ...]], *pieces: bytes, order: str = "<", kind: int = 4) -> bytes:
    """Make a file of one page.

    Args:
        tags: Values of each tag, without where the pieces are.
        pieces: Strips, or tiles if the tags say so.
        order: Byte order, as in `struct`.
        kind: Type of all values: 3 is SHORT, 4 LONG, 9 SLONG.
    """
    offsets, sizes = (324, 325) if 322 in tags else (273, 279)
    starts = tuple(_FIRST_BYTE + sum(map(len, pieces[:index])) for index in range(len(pieces)))
    entries = {**tags, offsets: starts, sizes: tuple(map(len, pieces))}
    body = b"".join(pieces)
    start = _FIRST_BYTE + len(body)
    far = start + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(order + "H", len(entries)), b""
    for tag, value in sorted(entries.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        raw = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        held = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", far + len(values))
        values += raw if len(raw) > 4 else b""
        directory += struct.pack(order + "HHI", tag, kind, len(numbers)) + held
    mark = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    return mark + body + directory + bytes(4) + values
