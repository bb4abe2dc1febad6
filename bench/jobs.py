"""Batches: accepted how fast, worked off how fast, and what they do to everybody else. Prints and writes figures.

    python -m bench.jobs batch [--pictures 50] [--rounds 5]     accept, throughput against the bare pipeline, the wait
    python -m bench.jobs submit [--items 10000]                 one large job: time to 202, memory of the front
    python -m bench.jobs upload [--megabytes 2048]              one large upload in parts: memory of the front
    python -m bench.jobs nodes [--pictures 60]                  two nodes on one PostgreSQL against one

Nothing else should run meanwhile. Needs the rendered pictures' fonts; ``nodes`` needs an installed PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.jobs_load import measure_submit, measure_upload
from bench.jobs_nodes import measure_nodes
from bench.pictures import document
from bench.server import OUT, running_server

_TIMEOUT_S = 1800.0


def rendered(count: int) -> list[bytes]:
    """Return pages of the size of a screen, all different."""
    return [document(f"page-{n}", (1000, 1200), n + 1, chinese=0.5, rows=24).data for n in range(count)]


def measure_batch(pictures: int, rounds: int) -> dict[str, Any]:
    """Return how fast pictures are accepted and worked off, and what somebody waits who comes meanwhile."""
    pages = rendered(pictures)
    with running_server() as server, httpx.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        _warm(client, pages[0])
        accepted = [_post(client, pages)[0] for _ in range(2 * rounds)]
        for job in client.get("/v1/jobs").json()["jobs"]:
            client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
        with _bare(pages) as bare:
            # One after the other, so that both meet the same machine.
            pairs = [(bare(), _worked_off(client, pages)) for _ in range(rounds)]
        waits = _interactive(client, pages)
    ratios = [alone / batch for alone, batch in pairs]
    return {
        "pictures": pictures,
        "accepted_p50_ms": round(statistics.median(accepted) * 1000, 1),
        "accepted_max_ms": round(max(accepted) * 1000, 1),
        "bare_per_s": [round(pictures / alone, 3) for alone, _ in pairs],
        "batch_per_s": [round(pictures / batch, 3) for _, batch in pairs],
        "batch_over_bare_median": round(statistics.median(ratios), 4),
        **waits,
    }


def _warm(client: httpx.Client, page: bytes) -> None:
    for _ in range(3):
        client.post("/v1/ocr", content=page, headers={"content-type": "image/png"}).raise_for_status()


def _post(client: httpx.Client, pages: Sequence[bytes]) -> tuple[float, str]:
    """Send a batch; returns the seconds until it was accepted, and the job."""
    files = [("files", (f"{n}.png", page, "image/png")) for n, page in enumerate(pages)]
    request = client.build_request("POST", "/batch", files=files)
    request.read()
    started = time.perf_counter()
    answer = client.send(request)
    took_s = time.perf_counter() - started
    assert answer.status_code == 202, answer.text
    return took_s, answer.json()["job_id"]


def _worked_off(client: httpx.Client, pages: Sequence[bytes]) -> float:
    """Return the seconds from sending a batch to its end, by the store's own clock where it ends."""
    sent = time.time()
    _, job_id = _post(client, pages)
    return float(wait_for(client, job_id)["finished_at"]) - sent


def wait_for(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Wait until a job has ended."""
    while True:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        if job["finished_at"] is not None:
            assert job["done"] == job["total"], job
            return job
        time.sleep(0.25)


@contextmanager
def _bare(pages: Sequence[bytes]) -> Iterator[Callable[[], float]]:
    """Yield what reads all pages once with the bare pipeline, in a process that stays."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        for n, page in enumerate(pages):
            (pictures / f"{n:04d}.png").write_bytes(page)
        command = [sys.executable, "-m", "bench.jobs_bare", str(pictures)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        out, into = process.stdout, process.stdin

        def read_all() -> float:
            into.write("go\n")
            into.flush()
            return float(out.readline())

        try:
            assert out.readline() == "ready\n"
            yield read_all
        finally:
            into.close()
            process.wait(30)


def _interactive(client: httpx.Client, pages: Sequence[bytes], pictures: int = 8) -> dict[str, Any]:
    """Send single pictures while a batch runs; the time of one without a batch is what an item takes."""

    def one() -> float:
        started = time.perf_counter()
        client.post("/v1/ocr", content=pages[0], headers={"content-type": "image/png"}).raise_for_status()
        return time.perf_counter() - started

    alone = [one() for _ in range(pictures)]
    _, job_id = _post(client, pages)
    time.sleep(1.0)
    meanwhile = []
    for _ in range(pictures):
        meanwhile.append(one())
        time.sleep(0.4)
    client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    item_s = statistics.median(alone)
    return {
        "single_alone_median_ms": round(item_s * 1000, 1),
        "single_during_batch_median_ms": round(statistics.median(meanwhile) * 1000, 1),
        "single_during_batch_max_ms": round(max(meanwhile) * 1000, 1),
        "waited_items_median": round(statistics.median(meanwhile) / item_s - 1, 2),
        "waited_items_max": round(max(meanwhile) / item_s - 1, 2),
    }


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("what", choices=["batch", "submit", "upload", "nodes"])
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=2048)
    given = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "batch": lambda: measure_batch(given.pictures, given.rounds),
        "submit": lambda: measure_submit(given.items),
        "upload": lambda: measure_upload(given.megabytes),
        "nodes": lambda: measure_nodes(rendered(given.pictures)),
    }
    figures = measures[given.what]()
    OUT.mkdir(exist_ok=True)
    (OUT / f"jobs-{given.what}.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
