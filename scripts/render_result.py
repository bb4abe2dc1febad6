"""Make docs/images/result.png from two rendered pages and the running pipeline's own overlays."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Read both fixtures through the command line and put the overlays side by side."""
    pages = [ROOT / "tests/fixtures/chinese.png", ROOT / "tests/fixtures/english.png"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "steadyocr", "ocr", *map(str, pages), "-f", "overlay.png", "-o", folder]
        subprocess.run(command, check=True)
        shots = [Image.open(io.BytesIO((Path(folder) / f"{page.name}.overlay.png").read_bytes())) for page in pages]
    sheet = Image.new("RGB", (sum(shot.width for shot in shots) + 16, max(shot.height for shot in shots)), "#d0d5dd")
    x = 0
    for shot in shots:
        sheet.paste(shot, (x, 0))
        x += shot.width + 16
    sheet.save(ROOT / "docs/images/result.png", optimize=True)


if __name__ == "__main__":
    main()
