"""Which browser pages are measured and drawn in."""

from __future__ import annotations

import shutil


def find_chromium() -> str | None:
    """Path of Debian's Chromium; ``None`` leaves it to Playwright's own download.

    The shell first: the whole browser draws its own toolbar for each profile, which costs ten times what a page does.
    """
    return next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))), None)
