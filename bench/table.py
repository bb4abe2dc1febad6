"""The article's own table: three sizes one after another, 200 in a row, 50 pictures through 1, 2 and 3 at once.

    python -m bench.table [--rounds 5] [--row 200] [--pictures 50]

The article gives GPU figures of another machine for these; ours are of this machine, whatever it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from bench.pictures import Picture, document
from bench.server import OUT, Server, running_server

_MIB = 1 << 20
SIZES = ((1920, 1080), (3840, 2160), (5000, 3000))
_ALLOWED_S = 300.0


def pictures() -> list[Picture]:
    """One page of running text of each size, JPEG, 24 lines."""
    return [
        document(f"{width}x{height}", (width, height), 50 + place, chinese=0.5, rows=24, quality=90)
        for place, (width, height) in enumerate(SIZES)
    ]


def read(server: Server, client: httpx.Client, picture: Picture, **options: str) -> tuple[float, dict[str, Any]]:
    """Post one picture; returns seconds and the page.

    Raises:
        SystemExit: It was not read.
    """
    headers = {"X-Request-Timeout": f"{_ALLOWED_S:g}", "Content-Type": "application/octet-stream"}
    started = time.monotonic()
    response = client.post(f"{server.url}/v1/ocr", content=picture.data, params=options, headers=headers)
    seconds = time.monotonic() - started
    if response.status_code != 200:
        raise SystemExit(f"{picture.name} was not read: {response.text}")
    return seconds, response.json()


def engines(server: Server) -> list[dict[str, Any]]:
    """The engines once all of them have finished their house-keeping."""
    while True:
        found: list[dict[str, Any]] = server.info()["engines"]
        if all(engine["state"] == "ready" for engine in found):
            return found
        time.sleep(0.01)


def one_after_another(server: Server, client: httpx.Client, rounds: int, **options: str) -> list[dict[str, Any]]:
    """Each size in turn, round by round; the first round is not counted."""
    known = pictures()
    times: dict[str, list[float]] = {picture.name: [] for picture in known}
    peaks: dict[str, int] = dict.fromkeys(times, 0)
    pages: dict[str, dict[str, Any]] = {}
    for turn in range(rounds + 1):
        for picture in known:
            seconds, pages[picture.name] = read(server, client, picture, **options)
            peak = max(engine["peak_rss_bytes"] for engine in engines(server))
            if turn:
                times[picture.name].append(seconds)
                peaks[picture.name] = max(peaks[picture.name], peak)
    return [
        {
            "size": name,
            "options": options,
            "seconds_median": round(statistics.median(taken), 3),
            "seconds_most": round(max(taken), 3),
            "engine_peak_mib": round(peaks[name] / _MIB, 1),
            "lines_found": len(pages[name]["lines"]),
            "lines_drawn": len(next(picture for picture in known if picture.name == name).lines),
            "effective_scale": (pages[name].get("degraded") or {}).get("effective_scale", 1.0),
        }
        for name, taken in times.items()
    ]


def in_a_row(server: Server, client: httpx.Client, count: int) -> dict[str, Any]:
    """So many pictures of the three sizes in turn: does memory stay in a band?"""
    times, held = [], []
    for picture in itertools.islice(itertools.cycle(pictures()), count):
        times.append(read(server, client, picture)[0])
        held.append(sum(engine["rss_bytes"] for engine in engines(server)))
    settled = held[min(20, count // 5) :]
    middle = statistics.median(settled)
    return {
        "in_a_row": count,
        "seconds_median": round(statistics.median(times), 3),
        "seconds_most": round(max(times), 3),
        "engines_mib_median": round(middle / _MIB, 1),
        "band_mib": [round((value - middle) / _MIB, 1) for value in (min(settled), max(settled))],
    }


def through(server: Server, client: httpx.Client, count: int, at_once: int) -> dict[str, Any]:
    """So many full-HD pictures with so many requests open at any moment."""
    picture = pictures()[0]
    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        taken: Sequence[float] = list(pool.map(lambda _: read(server, client, picture)[0], range(count)))
    seconds = time.monotonic() - started
    found = engines(server)
    return {
        "at_once": at_once,
        "pictures": count,
        "pictures_per_s": round(count / seconds, 2),
        "seconds_median": round(statistics.median(taken), 3),
        "seconds_most": round(max(taken), 3),
        "engines": len(found),
        "engine_peak_mib": round(max(engine["peak_rss_bytes"] for engine in found) / _MIB, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--row", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--detector", default="", help="detection model; the configured one by default")
    parser.add_argument("--backend", default="auto", help="inference library")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    arguments = parser.parse_args()
    settings = {
        "STEADYOCR_ENGINES__BACKEND": arguments.backend,
        "STEADYOCR_ENGINES__DEVICE": arguments.device,
        "STEADYOCR_MEMORY__CALIBRATE": "false",
    }
    if arguments.detector:
        settings["STEADYOCR_MODELS__DETECTOR"] = arguments.detector
    rows: list[dict[str, Any]] = []
    with running_server(settings) as server, httpx.Client(timeout=_ALLOWED_S + 30, trust_env=False) as client:

        def note(*more: dict[str, Any]) -> None:
            for row in more:
                rows.append({**row, "load": round(os.getloadavg()[0], 1)})
                print(json.dumps(rows[-1], ensure_ascii=False), flush=True)

        note(*one_after_another(server, client, arguments.rounds))
        note(*one_after_another(server, client, max(1, arguments.rounds // 2), quality="tile"))
        note(in_a_row(server, client, arguments.row))
        for at_once in (1, 2, 3):
            note(through(server, client, arguments.pictures, at_once))
        note({"front_mib": round(server.front_rss_bytes() / _MIB, 1), "models": server.info()["models"]})
    OUT.mkdir(exist_ok=True)
    (OUT / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
