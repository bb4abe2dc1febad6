"""The optional page at /gradio, for those who are used to the original: two tabs, thin over the same admission.

gradio brings numpy and PIL into the front. That is the price of this extra alone, and why it is off by default; here
no picture is decoded either: files are handed to the engines as they came, and what comes back is a file.

It is mounted in a hardened way. A mounted gradio does not check that a file it is given was uploaded (its check asks
whether the page was *launched*), so any client could read any file of this machine: `has_launched` is set here, and a
test posts a foreign path.
"""

from __future__ import annotations

import asyncio
import hmac
import importlib.util
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from steadyocr.errors import ConfigError, SteadyOCRError
from steadyocr.scheduling.items import Priority
from steadyocr.service import Service
from steadyocr.telemetry.loops import Loops
from steadyocr.types import OcrOptions

if TYPE_CHECKING:
    import gradio as gr

_log = logging.getLogger("steadyocr.gradio")

PREFIX: Final = "/gradio"
# The original advises so many; here they are a bound.
MAX_FILES: Final = 50
_DEFAULT_THRESHOLD: Final = 0.2
_SWEEP_S: Final = 30.0
# Read before gradio is imported. It would call home with the first, and ask its model hub with the others.
_QUIET: Final = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
_HEADERS: Final = ["#", "text", "text score", "box score", "x1,y1 x2,y2 x3,y3 x4,y4"]
_CSS: Final = ".gradio-container h1 {background: linear-gradient(90deg, #6a5acd, #4169e1); color: #fff; padding: 1rem}"


def mount_gradio(app: FastAPI, service: Service) -> frozenset[str]:
    """Mount the page where the settings want it.

    Returns:
        Path prefixes that check who comes by themselves; none when the page is off.

    Raises:
        ConfigError: It is wanted and the package is not installed.
    """
    if not service.settings.page.gradio:
        return frozenset()
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("page.gradio is on, but gradio is not installed: pip install 'steadyocr[gradio]'")
    folder = service.settings.data_dir / "cache" / "gradio"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.update(_QUIET, GRADIO_TEMP_DIR=str(folder))
    import gradio as gr

    desk = Desk(service, folder)
    service.attach(desk)
    blocks = _build(desk)
    keys = [key.get_secret_value() for key in service.settings.auth.api_keys]
    gr.mount_gradio_app(
        app,
        blocks,
        PREFIX,
        auth=_door(keys) if keys else None,
        auth_message="Any name, and an API key as the password.",
        allowed_paths=[],
        show_error=False,
        max_file_size=service.settings.limits.max_bytes,
        root_path=f"{service.settings.server.root_path}{PREFIX}",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        css=_CSS,
    )
    # Without this a mounted page takes any file of this machine for an uploaded one.
    blocks.has_launched = True
    mounted = next(route for route in app.routes if isinstance(route, Mount) and route.path == PREFIX)
    mounted.app = UploadQuota(mounted.app, folder, service.settings.page.max_gradio_bytes)
    return frozenset({PREFIX})


def _door(keys: Sequence[str]) -> Callable[[str, str], bool]:
    def check(_: str, password: str) -> bool:
        # Every key is compared, each in constant time, so that timing tells nothing.
        matches = [hmac.compare_digest(password.encode(), key.encode()) for key in keys]
        return any(matches)

    return check


class UploadQuota:
    """Refuses uploads while the page's files take more room than they may.

    Args:
        app: The mounted page.
        folder: Its files.
        max_bytes: What they may take.
    """

    def __init__(self, app: ASGIApp, folder: Path, max_bytes: int) -> None:
        self._app = app
        self._folder = folder
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["method"] == "POST":
            used = await asyncio.to_thread(used_bytes, self._folder)
            if used > self._max_bytes:
                answer = PlainTextResponse("too many files at the moment; try again later", 507, {"Retry-After": "60"})
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Desk:
    """What the page's buttons do.

    Args:
        service: What answers.
        folder: Where files for the browser are written.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder

    def threshold(self) -> float:
        """The serving detector's own."""
        return float(self._service.option_defaults().get("bin_threshold", _DEFAULT_THRESHOLD))

    async def read(self, path: str, threshold: float, client: str, priority: Priority) -> tuple[str, dict[str, Any]]:
        """Read one uploaded file; returns the annotated picture's path and the page.

        Raises:
            SteadyOCRError: See :meth:`Service.read`.
        """
        data = await asyncio.to_thread(Path(path).read_bytes)
        options = OcrOptions(bin_threshold=threshold, overlay=True)
        reply = await self._service.read(data, options, client=client, priority=priority)
        overlay = self._folder / f"{secrets.token_urlsafe(16)}.png"
        await asyncio.to_thread(overlay.write_bytes, reply.payload)
        return str(overlay), reply.message["page"]

    def start(self, loops: Loops) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        loops.start("gradio-files", self._sweep())

    async def stop(self) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""

    async def _sweep(self) -> None:
        """Remove files that are too old, for ever."""
        while True:
            try:
                await asyncio.to_thread(remove_old, self._folder, self._service.settings.page.gradio_keep_s)
            except OSError:
                # A loop that died would make the service unready, for files that nobody needs.
                _log.exception("Old files of the Gradio page cannot be removed; it is tried again")
            await asyncio.sleep(_SWEEP_S)


def used_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(size for _, size, _ in _files(folder))


def remove_old(folder: Path, keep_s: float) -> None:
    """Remove files that nobody has changed for so long, and folders that are empty then."""
    for path, _, changed_at in _files(folder):
        if time.time() - changed_at > keep_s:
            path.unlink(missing_ok=True)
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _files(folder: Path) -> list[tuple[Path, int, float]]:
    found = []
    for path in folder.rglob("*"):
        try:
            info = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found.append((path, info.st_size, info.st_mtime))
    return found


def _build(desk: Desk) -> gr.Blocks:
    import gradio as gr

    def client_of(request: gr.Request) -> str:
        return f"gradio {request.client.host if request.client else ''}"

    async def single(path: str | None, threshold: float, request: gr.Request) -> tuple[Any, ...]:
        if not path:
            raise gr.Error("choose a picture first / 请先选择图片")
        try:
            overlay, page = await desk.read(path, threshold, client_of(request), Priority.INTERACTIVE)
        except SteadyOCRError as error:
            raise gr.Error(error.message) from error
        return overlay, rows_of(page), numbered(page), page

    async def batch(paths: list[str] | None, threshold: float, request: gr.Request) -> tuple[Any, ...]:
        if not paths:
            raise gr.Error("choose some pictures first / 请先选择图片")
        if len(paths) > MAX_FILES:
            raise gr.Error(f"at most {MAX_FILES} files at once; /v1/jobs takes more")
        return await read_all(desk, paths, threshold, client_of(request))

    for handler in (single, batch):
        # gradio fills a parameter of this type in; as a text it cannot be looked up, gradio being imported late.
        handler.__annotations__ = {"request": gr.Request}
    blocks: gr.Blocks
    with gr.Blocks(title="steadyocr", analytics_enabled=False) as blocks:
        gr.Markdown("# OCR 文字检测与识别 · steadyocr")
        with gr.Tab("单图检测 · Single"), gr.Row():
            with gr.Column():
                picture = gr.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], buttons=[])
                one = gr.Slider(0.0, 1.0, _DEFAULT_THRESHOLD, label="检测阈值 · Detection threshold")
                start = gr.Button("开始检测 · Start", variant="primary")
            with gr.Column():
                annotated = gr.Image(label="检测结果 · Result", type="filepath", buttons=["download"])
                table = gr.Dataframe(headers=_HEADERS, wrap=True)
                text = gr.Textbox(label="文本 · Text", lines=6)
                whole = gr.JSON(label="JSON")
        with gr.Tab("批量检测 · Batch"):
            files = gr.File(file_count="multiple", label=f"≤ {MAX_FILES}")
            many = gr.Slider(0.0, 1.0, _DEFAULT_THRESHOLD, label="检测阈值 · Detection threshold")
            start_all = gr.Button("批量检测 · Start", variant="primary")
            gallery = gr.Gallery(label="检测结果 · Results")
            summary = gr.Dataframe(headers=["file", "lines", "text", "error"], wrap=True)
        # Waiting is the admission's business, so gradio's own queue stays out of it.
        plain: dict[str, Any] = {"queue": False, "api_visibility": "private"}
        start.click(single, [picture, one], [annotated, table, text, whole], **plain)
        start_all.click(batch, [files, many], [gallery, summary], **plain)
        blocks.load(lambda: [desk.threshold()] * 2, None, [one, many], **plain)
    return blocks


async def read_all(
    desk: Desk, paths: Sequence[str], threshold: float, client: str
) -> tuple[list[tuple[str, str]], list[list[Any]]]:
    """Read files one after the other, behind those who wait for one; a bad one harms no other."""
    pictures, rows = [], []
    for path in paths:
        name = Path(path).name
        try:
            overlay, page = await desk.read(path, threshold, client, Priority.BATCH)
        except SteadyOCRError as error:
            rows.append([name, 0, "", error.message])
            continue
        pictures.append((overlay, name))
        rows.append([name, len(page["lines"]), page["text"], ""])
    return pictures, rows


def rows_of(page: dict[str, Any]) -> list[list[Any]]:
    """Return the table of a page."""
    return [
        [
            line["id"] + 1,
            line["text"],
            line["text_score"],
            line["score"],
            " ".join(f"{x:.0f},{y:.0f}" for x, y in line["quad"]),
        ]
        for line in page["lines"]
    ]


def numbered(page: dict[str, Any]) -> str:
    """Return the texts of a page, numbered as the original does."""
    return "\n".join(f"{line['id'] + 1}. {line['text']}" for line in page["lines"])
