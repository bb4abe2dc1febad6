"""The container's health check: exit code 0 when pictures are answered rightly, 1 when not. Standard library only.

It runs every half minute, and an image has no bytecode: loading the service's own settings would take a second of
processor time each time. What it does instead is held against them by a test. A port given on the command line of
``serve`` it cannot know.
"""

from __future__ import annotations

import os
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

_DEFAULT_PORT = "7860"


def find_port(environ: Mapping[str, str]) -> str:
    """Return the port of the settings: the environment's, else that of the settings file, else the usual one."""
    # After the prefix, the names of settings may be written in small letters.
    settings = {name.upper(): value for name, value in environ.items() if name.startswith("STEADYOCR_")}
    if port := settings.get("STEADYOCR_SERVER__PORT"):
        return port
    path = environ.get("STEADYOCR_CONFIG") or Path(settings.get("STEADYOCR_DATA_DIR", "/data"), "steadyocr.toml")
    try:
        # Some editors begin a file with a mark of its encoding.
        return str(tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))["server"]["port"])
    except (OSError, ValueError, LookupError, TypeError):
        # No file, or one that says nothing of it; what is wrong with it is the service's to tell.
        return _DEFAULT_PORT


def main() -> int:
    """Ask the deep check on this very machine, past any proxy."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{find_port(os.environ)}/healthz", timeout=18) as answer:
            return 0 if answer.status == 200 else 1
    except urllib.error.HTTPError as error:
        with error:
            sys.stderr.write(error.read(500).decode(errors="replace") + "\n")
    except OSError as error:
        sys.stderr.write(f"no answer: {error}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
