"""What an item's outcome looks like to clients, wherever its result lies."""

from __future__ import annotations

import json
from typing import Any

from steadyocr.errors import InternalError, NotFoundError
from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.models import ErrorWire, Item, ItemState


def load_page(item: Item, blobs: BlobStore) -> dict[str, Any] | None:
    """Return the page that was read; ``None`` when there is none.

    Raises:
        NotFoundError: Its blob is gone.
        InternalError: Its blob is damaged.
        Unavailable: The blobs cannot be reached.
    """
    if item.state is not ItemState.DONE or item.kind == "expand":
        return None
    page: dict[str, Any] = item.result
    if item.result_ref is not None:
        with blobs.open(item.result_ref) as stream:
            try:
                page = json.load(stream)
            except ValueError as error:
                raise InternalError("the stored result is damaged") from error
    return page


def error_view(error: ErrorWire | None) -> dict[str, Any] | None:
    """Return an item's error as clients see it."""
    if error is None:
        return None
    return {"code": error["code"], "message": error["message"], "details": error.get("details") or {}}


def result_line(item: Item, blobs: BlobStore) -> dict[str, Any]:
    """Return an ended item with its page or its error: a line of the results.

    Raises:
        Unavailable: The blobs cannot be reached.
    """
    error = item.error if item.state is not ItemState.DONE else None
    try:
        page = load_page(item, blobs)
    except (NotFoundError, InternalError) as trouble:
        # This line's own: the ones behind it are in order.
        page, error = None, trouble.to_wire()
    return {
        "position": item.position,
        "name": item.name,
        "kind": item.kind,
        "state": item.state.value,
        "page": page,
        "error": error_view(error),
        "overlay": f"v1/jobs/{item.job_id}/items/{item.position}/overlay.png" if item.overlay_ref else None,
    }
