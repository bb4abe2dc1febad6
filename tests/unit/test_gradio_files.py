from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steadyocr.webui import gradio_page
from support import PATIENCE_S, in_real_time


@in_real_time
async def test_a_disk_fault_ends_nobodys_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, again = asyncio.get_running_loop(), asyncio.Event()
    looks = 0

    def remove(*_: Any) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("input/output error")
        loop.call_soon_threadsafe(again.set)

    monkeypatch.setattr(gradio_page, "remove_old", remove)
    monkeypatch.setattr(gradio_page, "_SWEEP_S", 0)
    service: Any = SimpleNamespace(settings=SimpleNamespace(page=SimpleNamespace(gradio_keep_s=1.0)))
    sweep = asyncio.create_task(gradio_page.Desk(service, tmp_path)._sweep())
    async with asyncio.timeout(PATIENCE_S):
        await again.wait()
    assert not sweep.done()
    sweep.cancel()
