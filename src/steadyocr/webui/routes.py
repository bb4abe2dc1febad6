"""The router of the web page: a handful of small files, held in memory, with strict headers.

The page itself is asked for at each visit. All else lies under a path that names the version, so a browser keeps it for
good and asks for nothing that it has; links between these files are relative and stay within a version.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from steadyocr.webui.slim import slim_page, slim_script, slim_style

_STATIC: Final = Path(__file__).parent / "static"
_INDEX: Final = "index.html"
# Everything but the page itself lies under this path; links are relative, so a proxy may put any prefix in front.
_PREFIX: Final = "/ui"
# Files whose links start at the page and not at themselves.
_LINKED_FROM_PAGE: Final = frozenset({_INDEX, "js/early.js"})
_VERSION_LENGTH: Final = 6

MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

_SLIM: Final[dict[str, Callable[[str], str]]] = {".html": slim_page, ".js": slim_script, ".css": slim_style}

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
    "Vary": "Accept-Encoding",
}
# Kept, but asked for again each time: a new version is seen at once, an unchanged file costs one small answer.
_ASK_AGAIN: Final = "no-cache"
_FOR_GOOD: Final = "max-age=31536000, immutable"


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


@dataclass(frozen=True, slots=True)
class Assets:
    """All files of the page.

    Attributes:
        version: A hash of them all.
        page: What is served at ``/``.
        files: The others, by their name below the version's path.
    """

    version: str
    page: Asset
    files: dict[str, Asset]

    @property
    def base(self) -> str:
        """The path that the files lie under."""
        return f"{_PREFIX}/{self.version}"


@cache
def load_assets() -> Assets:
    """Read the page's files once; about 200 kB in all."""
    slim = {
        file.relative_to(_STATIC).as_posix(): _SLIM.get(file.suffix, str)(file.read_text(encoding="utf-8"))
        for file in sorted(_STATIC.rglob("*"))
        if file.suffix in MEDIA_TYPES
    }
    version = hashlib.sha256(repr(slim).encode()).hexdigest()[:_VERSION_LENGTH]
    files = {name: _asset(name, text, version) for name, text in slim.items()}
    return Assets(version, files.pop(_INDEX), files)


def open_paths() -> frozenset[str]:
    """Paths that need no API key: the page asks for one, so it must load without, and it holds no secret."""
    return frozenset({"/"})


def open_prefixes() -> frozenset[str]:
    """The same, for all paths below these."""
    return frozenset({_PREFIX})


def page_router() -> APIRouter:
    """Build the router: one route for each file, so no path is ever made from what a client sends."""
    router = APIRouter(include_in_schema=False)
    assets = load_assets()
    router.add_api_route("/", _answer_with(assets.page), methods=["GET", "HEAD"])
    for name, asset in assets.files.items():
        # A page that is older than its server, or comes from another one behind the same name, is served what there is.
        router.add_api_route(f"{_PREFIX}/{{version}}/{name}", _answer_with(asset), methods=["GET", "HEAD"])
    return router


def _asset(name: str, text: str, version: str) -> Asset:
    if name in _LINKED_FROM_PAGE:
        text = text.replace("ui/", f"ui/{version}/")
    body = text.encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return Asset(body, gzip.compress(body, 9, mtime=0), MEDIA_TYPES[Path(name).suffix], tag)


def _answer_with(asset: Asset) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    version = load_assets().version

    async def answer(request: Request) -> Response:
        kept = _FOR_GOOD if request.path_params.get("version") == version else _ASK_AGAIN
        # Weak: the packed and the plain form share it.
        headers = {**_HEADERS, "Cache-Control": kept, "ETag": f"W/{asset.tag}"}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if asset.tag in known:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.media_type)
        return Response(asset.body, headers=headers, media_type=asset.media_type)

    return answer
