"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re
from typing import Final

from steadyocr.errors import InvalidOption

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str, option: str) -> int:
    """Read a size like ``900M``, ``3g`` or ``1.5 GiB`` that an option was given; units are powers of 1024.

    Raises:
        InvalidOption: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise InvalidOption(f"{option} is a size like 900M or 2G, not {text!r}")
    return round(float(match[1]) * _UNITS[match[2].upper()])
