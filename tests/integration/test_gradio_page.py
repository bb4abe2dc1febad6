"""The optional page at /gradio: a thin desk over the same admission, with its doors shut."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

# Looked up and not imported: every process that collects tests would load it.
if importlib.util.find_spec("gradio") is None:
    pytest.skip("the extra is not installed", allow_module_level=True)

from steadyocr.api.app import create_app
from steadyocr.errors import ConfigError, QueueFull, UndecodableImage
from steadyocr.scheduling.items import Reply
from steadyocr.service import Service
from steadyocr.settings import Settings
from steadyocr.types import ImageInfo, Page, TextLine
from steadyocr.webui import gradio_page
from steadyocr.webui.gradio_page import MAX_FILES, PREFIX, remove_old, used_bytes
from support import KnownPicture, known_picture

QUAD = ((1.0, 1.0), (9.0, 1.0), (9.0, 5.0), (1.0, 5.0))
PAGE = Page(ImageInfo(10, 10), (TextLine(0, QUAD, 0.9, "读 it", 0.8),)).to_wire()
SINGLE, BATCH, LOAD = range(3)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class Visitor:
    """A browser, as far as the page's own API goes."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        # One loop, and everything in it: gradio makes itself one, and never closes it, where none runs.
        self.runner = asyncio.Runner()
        values = {"data_dir": folder, "page": {"gradio": True, **settings.pop("page", {})}, **settings}
        self.service = Service(Settings.model_validate(values))
        self.seen: list[bytes] = []
        self.service.read = self.read  # type: ignore[method-assign]
        self.folder = folder / "cache" / "gradio"
        self.app = self.runner.run(self._make())

    async def _make(self) -> FastAPI:
        return create_app(self.service, mounts=(gradio_page.mount_gradio,))

    async def read(self, data: bytes, *_: Any, **__: Any) -> Reply:
        self.seen.append(data)
        if data == b"bad":
            raise UndecodableImage("this one is damaged")
        if data == b"busy":
            raise QueueFull("too many wait")
        return Reply({"page": PAGE}, known_picture("english").data)

    def ask(self, method: str, path: str, **values: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **values)

        return self.runner.run(go())

    def upload(self, data: bytes, name: str = "a.png") -> dict[str, Any]:
        answer = self.ask("POST", f"{PREFIX}/gradio_api/upload", files={"files": (name, data, "image/png")})
        assert answer.status_code == 200, answer.text
        return self.file(answer.json()[0])

    @staticmethod
    def file(path: str | Path) -> dict[str, Any]:
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": Path(path).name}

    def press(self, button: int, *data: Any) -> httpx.Response:
        body = {"data": list(data), "fn_index": button, "session_hash": "visitor"}
        return self.ask("POST", f"{PREFIX}/gradio_api/run/predict", json=body)


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    before = dict(os.environ)
    visiting = Visitor(tmp_path_factory.mktemp("gradio"))
    yield visiting
    visiting.runner.close()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    """Visitors of pages with other settings."""
    before, visitors = dict(os.environ), []

    def make(**settings: Any) -> Visitor:
        visitors.append(Visitor(tmp_path, **settings))
        return visitors[-1]

    yield make
    for visiting in visitors:
        visiting.runner.close()
    os.environ.clear()
    os.environ.update(before)


def test_the_page_loads_and_asks_the_detector_for_its_threshold(visitor: Visitor) -> None:
    assert visitor.ask("GET", f"{PREFIX}/").status_code == 200
    config = visitor.ask("GET", f"{PREFIX}/config").json()
    assert [entry["queue"] for entry in config["dependencies"]] == [False] * 3
    assert visitor.press(LOAD).json()["data"] == [0.2, 0.2]


def test_single(visitor: Visitor, english: KnownPicture) -> None:
    answer = visitor.press(SINGLE, visitor.upload(english.data), 0.3)
    assert answer.status_code == 200, answer.text
    picture, table, text, page = answer.json()["data"]
    assert visitor.seen[-1] == english.data
    assert table["data"] == [[1, "读 it", 0.8, 0.9, "1,1 9,1 9,5 1,5"]]
    assert text == "1. 读 it"
    assert page["image"]["width"] == 10
    shown = visitor.ask("GET", f"{PREFIX}/gradio_api/file={picture['path']}")
    assert shown.content == english.data


def test_a_bad_file_of_a_batch_harms_no_other(visitor: Visitor, english: KnownPicture) -> None:
    files = [visitor.upload(data, name) for data, name in ((english.data, "good.png"), (b"bad", "bad.png"))]
    answer = visitor.press(BATCH, files, 0.3)
    assert answer.status_code == 200, answer.text
    gallery, table = answer.json()["data"]
    assert [entry["caption"] for entry in gallery] == ["good.png"]
    assert table["data"] == [["good.png", 1, "读 it", ""], ["bad.png", 0, "", "this one is damaged"]]


def test_too_many_files_are_refused(visitor: Visitor, english: KnownPicture) -> None:
    file = visitor.upload(english.data)
    before = len(visitor.seen)
    assert visitor.press(BATCH, [file] * (MAX_FILES + 1), 0.3).status_code == 500
    assert len(visitor.seen) == before


def test_a_file_that_was_not_uploaded_is_never_read(visitor: Visitor, english: KnownPicture, tmp_path: Path) -> None:
    """The hole of a mounted gradio: a client names a file of the server instead of uploading one."""
    foreign = tmp_path / "secret.png"
    foreign.write_bytes(english.data)
    own = visitor.upload(english.data)
    traversal = str(Path(own["path"]).parent / ".." / ".." / ".." / ".." / "secret.png")
    (visitor.service.settings.data_dir / "secret.png").write_bytes(english.data)
    before = len(visitor.seen)
    for path in (foreign, "/etc/passwd", __file__, traversal, visitor.service.settings.data_dir / "secret.png"):
        for button, value in ((SINGLE, visitor.file(path)), (BATCH, [visitor.file(path)])):
            assert visitor.press(button, value, 0.3).status_code == 500
        assert visitor.ask("GET", f"{PREFIX}/gradio_api/file={path}").status_code in (403, 404)
    assert len(visitor.seen) == before
    # The same request with an uploaded file goes through: it was the path that was refused.
    assert visitor.press(SINGLE, own, 0.3).status_code == 200


def test_an_address_is_not_fetched(visitor: Visitor) -> None:
    before = len(visitor.seen)
    for path in ("http://127.0.0.1:9/x.png", "file:///etc/passwd"):
        assert visitor.press(SINGLE, visitor.file(path), 0.3).status_code == 500
    assert len(visitor.seen) == before


def test_files_beyond_the_quota_are_refused_until_old_ones_are_gone(
    visit: Callable[..., Visitor], english: KnownPicture
) -> None:
    visitor = visit(page={"max_gradio_bytes": 1 << 20})
    visitor.upload(bytes(1 << 20))
    visitor.upload(b"the last that fits")
    refused = visitor.ask("POST", f"{PREFIX}/gradio_api/upload", files={"files": ("a", english.data)})
    assert refused.status_code == 507
    assert refused.headers["retry-after"] == "60"
    remove_old(visitor.folder, keep_s=60)
    assert used_bytes(visitor.folder) > 1 << 20
    remove_old(visitor.folder, keep_s=-1)
    assert list(visitor.folder.iterdir()) == []
    visitor.upload(b"room again")


def test_with_keys_nobody_comes_in_without_one(visit: Callable[..., Visitor]) -> None:
    key = "a-long-enough-key"
    visitor = visit(auth={"api_keys": [key]})
    assert visitor.ask("GET", "/v1/info").status_code == 401
    assert visitor.ask("GET", f"{PREFIX}x").status_code == 401
    assert visitor.ask("GET", f"{PREFIX}/config").status_code == 401
    assert visitor.ask("POST", f"{PREFIX}/gradio_api/upload", files={"files": ("a", b"x")}).status_code == 401
    assert visitor.press(SINGLE, None, 0.3).status_code == 401
    login = {"username": "anybody", "password": "wrong"}
    assert visitor.ask("POST", f"{PREFIX}/login", data=login).status_code == 400
    entered = visitor.ask("POST", f"{PREFIX}/login", data={**login, "password": key})
    assert entered.status_code == 200
    cookies = dict(entered.cookies)
    assert visitor.ask("GET", f"{PREFIX}/config", cookies=cookies).status_code == 200


def test_off_by_default_and_a_missing_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    assert gradio_page.mount_gradio(app, Service(Settings(data_dir=tmp_path))) == frozenset()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    wanted = Settings.model_validate({"data_dir": tmp_path, "page": {"gradio": True}})
    with pytest.raises(ConfigError, match=r"steadyocr\[gradio\]"):
        gradio_page.mount_gradio(app, Service(wanted))


def test_nobody_is_called(tmp_path: Path) -> None:
    """Neither while it is built nor while the page is loaded; the default calls two places."""
    code = f"""
import asyncio, sys
called = []
def hook(event, arguments):
    if event == "socket.getaddrinfo": called.append(str(arguments[0]))
    if event == "socket.connect" and isinstance(arguments[1], tuple): called.append(str(arguments[1][0]))
sys.addaudithook(hook)
import httpx
from pathlib import Path
from steadyocr.api.app import create_app
from steadyocr.service import Service
from steadyocr.settings import Settings
from steadyocr.webui.gradio_page import mount_gradio
settings = Settings.model_validate({{"data_dir": {str(tmp_path)!r}, "page": {{"gradio": True}}}})
app = create_app(Service(settings), mounts=(mount_gradio,))
async def go():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        for path in ("/gradio/", "/gradio/config", "/gradio/theme.css"):
            assert (await client.get(path)).status_code == 200, path
    await asyncio.sleep(1)
asyncio.run(go())
print("called:", sorted(set(called) - {{"127.0.0.1", "::1", "localhost", "None"}}))
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=110)
    assert "called: []" in done.stdout, (done.stdout, done.stderr[-2000:], time.monotonic() - started)
