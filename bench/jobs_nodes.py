"""Two nodes on one PostgreSQL against one, each pinned to a core of its own; then one of two is killed in mid-job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steadyocr.jobs.blobs import put_bytes
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import Job, NewItem, NewJob
from steadyocr.jobs.sql_store import SqlJobStore, open_job_store

_TIMEOUT_S = 1800.0
_START_S = 90.0
_LEASE_S = 5


class _Fleet:
    """Nodes over one store."""

    def __init__(self, folder: Path, url: str) -> None:
        self.store: SqlJobStore = open_job_store(url)
        self.blobs = LocalBlobs(folder / "blobs")
        self._folder = folder
        self._url = url
        self.nodes: list[subprocess.Popen[bytes]] = []

    def add_node(self, core: int) -> None:
        number = len(self.nodes)
        environment = os.environ | {
            "STEADYOCR_DATA_DIR": str(self._folder / f"node-{number}"),
            "STEADYOCR_JOBS__URL": self._url,
            "STEADYOCR_JOBS__BLOBS": str(self._folder / "blobs"),
            "STEADYOCR_JOBS__LEASE_S": str(_LEASE_S),
            "STEADYOCR_ENGINES__COUNT": "1",
            "STEADYOCR_ENGINES__THREADS": "1",
            "STEADYOCR_MEMORY__CALIBRATE": "false",
            "STEADYOCR_LOGGING__FORMAT": "json",
        }
        log = self._folder / f"node-{number}.log"
        command = ["taskset", "-c", str(core), sys.executable, "-m", "steadyocr", "work", "--port", "0"]
        with log.open("wb") as stream:
            self.nodes.append(subprocess.Popen(command, env=environment, stderr=stream, start_new_session=True))
        deadline = time.monotonic() + _START_S
        while b'"message": "Ready"' not in log.read_bytes():
            if time.monotonic() > deadline:
                raise SystemExit(f"a node did not become ready:\n{log.read_text()}")
            time.sleep(0.1)

    def submit(self, pages: Sequence[bytes]) -> Job:
        items = [NewItem(input_ref=put_bytes(self.blobs, page).key, size_bytes=len(page)) for page in pages]
        return self.store.submit(NewJob(items=tuple(items)))

    def wait(self, job: Job) -> Job:
        deadline = time.monotonic() + _TIMEOUT_S
        while (now := self.store.job(job.id)).finished_at is None:
            if time.monotonic() > deadline:
                raise SystemExit(f"the job did not end: {now}")
            time.sleep(0.1)
        return now

    def seconds(self, pages: Sequence[bytes]) -> float:
        """From the job's start to its end, by the database's clock."""
        ended = self.wait(self.submit(pages))
        return (ended.finished_at or 0.0) - (ended.started_at or 0.0)

    def close(self) -> None:
        for node in self.nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
            node.wait(10)
        self.store.close()


@contextmanager
def _postgres() -> Iterator[str]:
    # The tests know how to run a server of their own.
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from jobs_support import postgres_server

    with postgres_server() as server:
        yield server.new_database()


def measure_nodes(pages: Sequence[bytes]) -> dict[str, Any]:
    """Return how much faster two nodes are, and what is left of a job when one of them is killed."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("two nodes on one core would prove nothing")
    with _postgres() as url, tempfile.TemporaryDirectory() as folder:
        fleet = _Fleet(Path(folder), url)
        try:
            fleet.add_node(cores[0])
            fleet.seconds(pages[:4])
            one_s = fleet.seconds(pages)
            fleet.add_node(cores[1])
            fleet.seconds(pages[:8])
            two_s = fleet.seconds(pages)
            again = fleet.submit(pages)
            while fleet.store.job(again.id).done < len(pages) // 3:
                time.sleep(0.1)
            os.killpg(fleet.nodes[0].pid, signal.SIGKILL)
            ended = fleet.wait(again)
            states = Counter(item.state.value for item in fleet.store.items(again.id, limit=len(pages)))
        finally:
            fleet.close()
    return {
        "pictures": len(pages),
        "one_node_s": round(one_s, 2),
        "two_nodes_s": round(two_s, 2),
        "speed_up": round(one_s / two_s, 3),
        "after_killing_one": dict(states),
        "with_one_killed_s": round((ended.finished_at or 0.0) - (ended.started_at or 0.0), 2),
    }
