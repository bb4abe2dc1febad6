"""A real server under fire: engines killed, engines stopped, poison among good pictures; all requests accounted for.

    python -m bench.fire [--items 500] [--every 2] [--stops 5] [--good 200]

Prints one JSON line for each part and exits 1 when a promise is broken: a request lost, an answer that is another
picture's, an innocent picture quarantined, a stopped engine not replaced within twice the heartbeat bound.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from bench.server import OUT, Server, running_server, send

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests/fixtures"
WEAK_SERVER = (sys.executable, str(ROOT / "tests/chaos/weak_server.py"))
_AT_ONCE = 16
_ALLOWED_S = 300.0
_HEARTBEAT_S = 10.0
_RETRYABLE = frozenset({"queue_full", "engine_died", "deadline_exceeded", "memory_pressure", "not_ready"})


@dataclass(frozen=True, slots=True)
class Known:
    """A picture and the texts that stand in it; none where it cannot be read."""

    data: bytes
    texts: tuple[str, ...] = ()


def known(name: str) -> Known:
    """One of the fixtures."""
    lines = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return Known((FIXTURES / f"{name}.png").read_bytes(), tuple(line["text"] for line in lines))


async def ask(server: Server, client: httpx.AsyncClient, picture: Known) -> tuple[str, float]:
    """Post a picture; returns ``right``, ``wrong``, ``lost`` or the error's code, and the seconds it took."""
    started = time.monotonic()
    response = await send(server, client, picture.data, _ALLOWED_S)
    seconds = time.monotonic() - started
    if response is None:
        return "lost", seconds
    body = response.json()
    if response.status_code != 200:
        code = str(body["code"])
        return ("lost" if code in _RETRYABLE and not body["retryable"] else code), seconds
    found = tuple(line["text"] for line in body["lines"])
    return ("right" if found == picture.texts else "wrong"), seconds


def mixed(count: int, chance: random.Random) -> list[Known]:
    """Seven good pictures of ten, two cut off, one of noise."""
    good = (known("english"), known("chinese"))
    pictures = []
    for index in range(count):
        picture = good[index % 2]
        kind = chance.random()
        if kind < 0.2:
            picture = Known(picture.data[: chance.randint(100, 20_000)])
        elif kind < 0.3:
            picture = Known(chance.randbytes(2000))
        pictures.append(picture)
    return pictures


async def kill_storm(items: int, every_s: float) -> dict[str, Any]:
    """Mixed requests while an engine is killed every so many seconds."""
    # Two engines, as one is always starting: killed in turn, each lives for twice the period.
    with running_server({**_settings(), "STEADYOCR_ENGINES__COUNT": "2"}) as server:
        async with _client() as client:
            pictures = mixed(items, random.Random(1))
            killed = 0

            async def assassin() -> None:
                nonlocal killed
                while True:
                    await asyncio.sleep(every_s)
                    pids = [engine["pid"] for engine in (await asyncio.to_thread(server.info))["engines"]]
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pids[killed % len(pids)], signal.SIGKILL)
                        killed += 1

            gate = asyncio.Semaphore(_AT_ONCE)

            async def one(picture: Known) -> tuple[str, float]:
                async with gate:
                    return await ask(server, client, picture)

            started = time.monotonic()
            killer = asyncio.create_task(assassin(), name="assassin")
            answers = await asyncio.gather(*(one(picture) for picture in pictures))
            seconds = time.monotonic() - started
            killer.cancel()
        info = server.info()
    counted = Counter(code for code, _ in answers)
    expected = sum(bool(picture.texts) for picture in pictures)
    broken = counted["wrong"] + counted["lost"] + info["quarantined"]
    typed = sum(counted[code] for code in _RETRYABLE)
    explained = typed + counted["right"] + counted["undecodable_image"] + counted["unsupported_media_type"]
    return {
        "part": "kill storm",
        "sent": items,
        "kills": killed,
        "outcomes": dict(counted),
        "good": expected,
        "good_answered_right": counted["right"],
        "refused_retryable": typed,
        "quarantined": info["quarantined"],
        "p50_s": round(median(seconds for _, seconds in answers), 2),
        "most_s": round(max(seconds for _, seconds in answers), 2),
        "seconds": round(seconds, 1),
        "kept": broken == 0 and explained == items and counted["right"] + typed >= expected,
    }


async def stops(count: int) -> dict[str, Any]:
    """An engine is stopped (SIGSTOP) with a request in its hand; measured until it is answered and replaced."""
    answered, replaced, codes = [], [], []
    with running_server({**_settings(), "STEADYOCR_ENGINES__HEARTBEAT_S": f"{_HEARTBEAT_S:g}"}) as server:
        async with _client() as client:
            for _ in range(count):
                victim = (await asyncio.to_thread(server.info))["engines"][0]["pid"]
                os.kill(victim, signal.SIGSTOP)
                started = time.monotonic()
                # With several engines another may take it; so many that each has one.
                asked = [asyncio.create_task(ask(server, client, known("english"))) for _ in range(4)]
                while True:
                    engine = (await asyncio.to_thread(server.info))["engines"][0]
                    if engine["pid"] != victim and engine["state"] in ("ready", "busy"):
                        break
                    await asyncio.sleep(0.05)
                replaced.append(time.monotonic() - started)
                outcomes = await asyncio.gather(*asked)
                codes += [code for code, _ in outcomes]
                answered.append(max(seconds for _, seconds in outcomes))
        quarantined = server.info()["quarantined"]
    return {
        "part": "stopped engines",
        "stops": count,
        "heartbeat_s": _HEARTBEAT_S,
        "outcomes": dict(Counter(codes)),
        "answered_within_s": round(max(answered), 1),
        "replaced_within_s": round(max(replaced), 1),
        "quarantined": quarantined,
        "kept": max(replaced) <= 2 * _HEARTBEAT_S and set(codes) == {"right"} and quarantined == 0,
    }


async def poison(good: int) -> dict[str, Any]:
    """One picture that crashes engines among good ones, and the same picture again."""
    english, chinese = known("english"), known("chinese")
    bad = Known(english.data + b"#weakness:segfault")
    with running_server(_settings(), program=WEAK_SERVER) as server:
        async with _client() as client:
            gate = asyncio.Semaphore(_AT_ONCE)

            async def one(picture: Known) -> str:
                async with gate:
                    return (await ask(server, client, picture))[0]

            pictures = [(english, chinese)[index % 2] for index in range(good)]
            pictures.insert(good // 3, bad)
            counted = Counter(await asyncio.gather(*(one(picture) for picture in pictures)))
            again = [await ask(server, client, bad) for _ in range(20)]
    refused_ms = [seconds * 1000 for _, seconds in again]
    return {
        "part": "poison",
        "outcomes": dict(counted),
        "second_upload": dict(Counter(code for code, _ in again)),
        "second_upload_ms": {"median": round(median(refused_ms), 1), "most": round(max(refused_ms), 1)},
        "kept": counted == {"right": good, "quarantined": 1} and median(refused_ms) < 20,
    }


def _settings() -> dict[str, str]:
    return {"STEADYOCR_MEMORY__CALIBRATE": "false", "STEADYOCR_QUEUE__MAX_SIZE": "1000"}


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=_ALLOWED_S + 30, trust_env=False)


async def main() -> int:
    """Run all parts, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=500, help="mixed requests of the kill storm")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--stops", type=int, default=5, help="engines to stop")
    parser.add_argument("--good", type=int, default=200, help="good pictures around the poison")
    arguments = parser.parse_args()
    rows = []
    for part in (kill_storm(arguments.items, arguments.every), stops(arguments.stops), poison(arguments.good)):
        rows.append({**await part, "load": round(os.getloadavg()[0], 1)})
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "fire.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(row["kept"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
