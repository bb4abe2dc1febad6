"""The router of the web page: a handful of small files, held in memory, with strict headers."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from steadyocr.webui.slim import slim_script, slim_style

_STATIC: Final = Path(__file__).parent / "static"
_INDEX: Final = "index.html"
# Everything but the page itself lies under this path; links are relative, so a proxy may put any prefix in front.
_PREFIX: Final = "/ui"

MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

_SLIM: Final[dict[str, Callable[[str], str]]] = {".js": slim_script, ".css": slim_style}

# Nothing from elsewhere, no inline script or style, nobody's frame. Pictures are shown from memory (blob:).
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob: data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, but asked for again each time: a new version is seen at once, an unchanged file costs one small answer.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page.

    Attributes:
        body: As stored, less comments and indentation.
        packed: The same, gzip.
        media_type: From the file's suffix.
        tag: Entity tag, a hash of the content.
    """

    body: bytes
    packed: bytes
    media_type: str
    tag: str


@cache
def load_assets() -> dict[str, Asset]:
    """Read the page's files once; keys are the paths that they are served at. About 200 kB in all."""
    return dict(_read_assets(_STATIC))


def open_paths() -> frozenset[str]:
    """Paths that need no API key: the page asks for one, so it must load without, and it holds no secret."""
    return frozenset(load_assets())


def page_router() -> APIRouter:
    """Build the router: one route for each file, so no path is ever made from what a client sends."""
    router = APIRouter(include_in_schema=False)
    for path, asset in load_assets().items():
        router.add_api_route(path, _answer_with(asset), methods=["GET", "HEAD"])
    return router


def _read_assets(folder: Path) -> Iterator[tuple[str, Asset]]:
    for file in sorted(folder.rglob("*")):
        if file.suffix not in MEDIA_TYPES:
            continue
        name = file.relative_to(folder).as_posix()
        body = _SLIM.get(file.suffix, str)(file.read_text(encoding="utf-8")).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        packed = gzip.compress(body, 9, mtime=0)
        yield "/" if name == _INDEX else f"{_PREFIX}/{name}", Asset(body, packed, MEDIA_TYPES[file.suffix], tag)


def _answer_with(asset: Asset) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        # Weak: the packed and the plain form share it.
        headers = {**_HEADERS, "ETag": f"W/{asset.tag}"}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if asset.tag in known:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.media_type)
        return Response(asset.body, headers=headers, media_type=asset.media_type)

    return answer
