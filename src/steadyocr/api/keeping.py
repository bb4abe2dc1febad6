"""The two wishes a request may have beside its page: keep the probability map, keep the page in the history."""

from __future__ import annotations

from typing import Any, Final

from steadyocr.errors import InvalidOption
from steadyocr.options import parse_boolean
from steadyocr.service.page import Wishes
from steadyocr.types import OcrOptions

KEEPING_PARAMETERS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "keep_map",
        "in": "query",
        "description": "keep the probability map for a while; the page gets a map_id for /v1/maps",
        "schema": {"type": "boolean", "default": False},
    },
    {
        "name": "keep",
        "in": "query",
        "description": "keep picture and page in the history; the page gets a history_id for /v1/history",
        "schema": {"type": "boolean", "default": False},
    },
)


def take_wishes(options: dict[str, Any]) -> Wishes:
    """Take the wishes out of a request's raw options.

    Raises:
        InvalidOption: One is neither true nor false.
    """
    values = {name: parse_boolean(options.pop(name, False), name) for name in ("keep_map", "keep")}
    return Wishes(**values)


def refuse_odd_wishes(wishes: Wishes, kind: str, options: OcrOptions) -> None:
    """Refuse wishes that do not go with the rest of the request.

    Raises:
        InvalidOption: They ask for an answer that has no place for an id, or for the map of a picture read in tiles.
    """
    if wishes.extras is None:
        return
    if kind != "json":
        raise InvalidOption(
            "keep_map and keep go with format=json only: the id is a field of the page", option="format"
        )
    if wishes.keep_map and options.quality == "tile":
        raise InvalidOption(
            "keep_map does not go with quality=tile: lines are looked for twice then, in tiles and in the whole, and "
            "no one map holds both; ask without keep_map, or with quality=shrink",
            option="keep_map",
        )
