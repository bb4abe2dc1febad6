"""The container's health check: exit code 0 when pictures are answered rightly, 1 when not. Standard library only."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask the deep check on this very machine, past any proxy."""
    port = os.environ.get("STEADYOCR_SERVER__PORT", "7860")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/healthz", timeout=18) as answer:
            return 0 if answer.status == 200 else 1
    except urllib.error.HTTPError as error:
        with error:
            sys.stderr.write(error.read(500).decode(errors="replace") + "\n")
    except OSError as error:
        sys.stderr.write(f"no answer: {error}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
