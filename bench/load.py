"""Open-loop load: requests leave at a fixed rate whatever comes back, latency counts from the intended moment.

A closed loop (send, wait, send) slows down with the server and hides what users feel when it is overloaded. Here the
capacity is measured first, then the service is loaded at 0.5, 1 and 3 times of it.

    python -m bench.load [--seconds 60] [--rates 0.5,1,3] [--timeout 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import httpx

from bench.server import OUT, Server, running_server, send

# What the design promises: see docs/benchmarks.md.
_LEAST_GOODPUT = 0.9
_SLOWEST_REFUSAL_MS = 50.0
_MOST_FRONT_BYTES = 256 << 20
_LOOK_EVERY_S = 0.2

FIXTURES = Path(__file__).parent.parent / "tests/fixtures"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: intended moment and latency in seconds, status, error code, whether the text was right."""

    at: float
    latency_s: float
    status: int
    code: str
    right: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rate: what was offered and what came back."""

    factor: float
    offered_per_s: float
    seconds: float
    answers: list[Answer]
    front_rss_bytes: int

    @property
    def answered(self) -> int:
        """Pictures answered, in time."""
        return sum(answer.status == 200 for answer in self.answers)

    @property
    def lost(self) -> int:
        """Requests that ended in neither an answer nor a typed refusal or expiry."""
        typed = ((200, ""), (503, "queue_full"), (503, "memory_pressure"), (504, "deadline_exceeded"))
        return sum((answer.status, answer.code) not in typed for answer in self.answers)

    @property
    def goodput_per_s(self) -> float:
        """Pictures answered a second."""
        return self.answered / self.seconds

    def row(self) -> dict[str, object]:
        """Figures of this rate."""
        # What was taken in and then not answered in time was accepted all the same.
        accepted = [answer.latency_s for answer in self.answers if answer.status in (200, 504)]
        refused = [answer.latency_s for answer in self.answers if answer.status == 503]
        return {
            "factor": self.factor,
            "offered_per_s": round(self.offered_per_s, 2),
            "sent": len(self.answers),
            "answered": self.answered,
            "lost": self.lost,
            "expired": sum(answer.status == 504 for answer in self.answers),
            "goodput_per_s": round(self.goodput_per_s, 3),
            "wrong": sum(answer.status == 200 and not answer.right for answer in self.answers),
            "codes": dict(Counter(answer.code for answer in self.answers if answer.code)),
            "accepted_p50_ms": _percentile(accepted, 50),
            "accepted_p99_ms": _percentile(accepted, 99),
            "refused_p50_ms": _percentile(refused, 50),
            "refused_p99_ms": _percentile(refused, 99),
            "front_rss_mb": round(self.front_rss_bytes / 1e6, 1),
        }


def _percentile(values: list[float], percent: int) -> float | None:
    if not values:
        return None
    if len(values) == 1:
        return round(values[0] * 1000, 1)
    return round(quantiles(values, n=100, method="inclusive")[percent - 1] * 1000, 1)


async def capacity(server: Server, client: httpx.AsyncClient, seconds: float) -> float:
    """Answers per second with just enough in flight to keep the engines busy."""
    end = time.monotonic() + seconds
    done = 0

    async def loop(index: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            answer = await _ask(server, client, index, time.monotonic(), 60.0)
            done += answer.status == 200
            index += 1

    started = time.monotonic()
    await asyncio.gather(*(loop(index) for index in range(4)))
    return done / (time.monotonic() - started)


async def load(
    server: Server, client: httpx.AsyncClient, factor: float, rate: float, seconds: float, timeout_s: float
) -> Outcome:
    """Send at a fixed rate."""
    rss = [server.front_rss_bytes()]

    async def watch() -> None:
        while True:
            rss.append(server.front_rss_bytes())
            await asyncio.sleep(_LOOK_EVERY_S)

    watching = asyncio.create_task(watch())
    start = time.monotonic()
    tasks = []
    for index in range(int(rate * seconds)):
        intended = start + index / rate
        await asyncio.sleep(max(0.0, intended - time.monotonic()))
        tasks.append(asyncio.create_task(_ask(server, client, index, intended, timeout_s)))
    answers = await asyncio.gather(*tasks)
    took = max(seconds, time.monotonic() - start)
    watching.cancel()
    return Outcome(factor, rate, took, list(answers), max(rss))


async def _ask(server: Server, client: httpx.AsyncClient, index: int, intended: float, timeout_s: float) -> Answer:
    name = ("chinese", "english")[index % 2]
    expected = ("城市图书馆", "Harbour Ferry")[index % 2]
    response = await send(server, client, (FIXTURES / f"{name}.png").read_bytes(), timeout_s)
    latency = time.monotonic() - intended
    if response is None:
        return Answer(intended, latency, 0, "connection", False)
    body = response.json()
    right = response.status_code == 200 and expected in body["text"]
    return Answer(intended, latency, response.status_code, body.get("code", ""), right)


def broken_promises(outcomes: list[Outcome], timeout_s: float) -> Iterator[str]:
    """Yield what the design promises of overload and these figures do not show."""
    full = next((outcome.goodput_per_s for outcome in outcomes if outcome.factor == 1.0), None)
    for outcome in outcomes:
        where = f"at {outcome.factor:g} x"
        row = outcome.row()
        if wrong := row["wrong"]:
            yield f"{where}: {wrong} answers were wrong"
        if outcome.lost:
            yield f"{where}: {outcome.lost} requests got no typed answer"
        if outcome.factor > 1.0 and full and outcome.goodput_per_s < _LEAST_GOODPUT * full:
            yield f"{where}: goodput {outcome.goodput_per_s:.2f}/s is below 90 % of {full:.2f}/s at 1 x"
        for name, value, bound_ms in (
            ("accepted p99", row["accepted_p99_ms"], timeout_s * 1000),
            ("refused p99", row["refused_p99_ms"], _SLOWEST_REFUSAL_MS),
        ):
            if isinstance(value, float) and value > bound_ms:
                yield f"{where}: {name} {value:.0f} ms is above {bound_ms:.0f} ms"
        if outcome.front_rss_bytes > _MOST_FRONT_BYTES:
            yield f"{where}: the front holds {outcome.front_rss_bytes / 1e6:.0f} MB"


def plot(outcomes: list[Outcome], path: Path) -> None:
    """Latency of accepted requests, one histogram for each rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(outcomes), figsize=(5 * len(outcomes), 3.5), squeeze=False)
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        good = [answer.latency_s for answer in outcome.answers if answer.status == 200]
        axis.hist(good, bins=30, color="#2563eb")
        axis.set_title(f"{outcome.factor:g} x capacity: {len(good)} of {len(outcome.answers)} answered")
        axis.set_xlabel("latency from the intended moment, s")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


async def main() -> int:
    """Run and print; exit 1 when a promise of the design is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rates", default="0.5,1,3")
    parser.add_argument("--timeout", type=float, default=20.0, help="deadline of each request, seconds")
    arguments = parser.parse_args()
    factors = [float(text) for text in arguments.rates.split(",")]
    outcomes = []
    with running_server() as server:
        limits = httpx.Limits(max_connections=2000, max_keepalive_connections=64)
        async with httpx.AsyncClient(timeout=arguments.timeout + 30, limits=limits) as client:
            per_s = await capacity(server, client, min(20.0, arguments.seconds))
            print(f"capacity {per_s:.2f} pictures/s, load average {os.getloadavg()[0]:.1f}")
            for factor in factors:
                outcome = await load(server, client, factor, factor * per_s, arguments.seconds, arguments.timeout)
                outcomes.append(outcome)
                print(json.dumps(outcome.row(), ensure_ascii=False))
    OUT.mkdir(exist_ok=True)
    rows = [outcome.row() for outcome in outcomes]
    (OUT / "load.json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(outcomes, OUT / "load.png")
    broken = list(broken_promises(outcomes, arguments.timeout))
    for promise in broken:
        print(f"not kept: {promise}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
