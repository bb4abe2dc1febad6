"""Where jobs are worked off under fire: nodes as real processes, and what is true afterwards whatever was killed."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

import forked
from steadyocr.jobs.blobs import put_bytes
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import ItemState, JobState, NewItem, NewJob
from steadyocr.jobs.sql_store import SqlJobStore
from support import PATIENCE_S, clean_environment

NODE = Path(__file__).with_name("jobs_node.py")
LEASE_S = 1


@functools.cache
def _blank() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 32), "white").save(stream, "PNG")
    return stream.getvalue()


def picture(mark: str) -> bytes:
    """A picture that a light engine reads as what is written in its mark."""
    return _blank() + f"#{mark}".encode()


class Node:
    """A process group that works jobs off: ``serve`` or ``work``, with its engines."""

    def __init__(self, kind: str, folder: Path, settings: Mapping[str, str], prefix: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.starts = 0
        self._folder = folder
        self._prefix = prefix
        self._environment = clean_environment(
            folder,
            **{"logging__format": "json", "engines__count": "1", "jobs__lease_s": str(LEASE_S), **settings},
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self._log.open("wb") as log:
            self.process = forked.start(
                [*self._prefix, sys.executable, str(NODE), self.kind, "--port", "0"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    @property
    def ready(self) -> bool:
        """Whether it has come to work since its last start."""
        return b'"message": "Ready"' in self._log.read_bytes()

    @property
    def url(self) -> str:
        """Where it answers."""
        line = next(line for line in self._log.read_bytes().splitlines() if b'"message": "Ready"' in line)
        return line.split(b'"url": "')[1].split(b'"')[0].decode()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def engines(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if "light_engine" in " ".join(_command(child))]
        return []

    def kill(self) -> None:
        """The front alone; its engines must see to their own end."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def cut_power(self) -> None:
        """The whole group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        command: list[str] = process.cmdline()
        return command
    return []


class Field:
    """Nodes over one store and one blob folder."""

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self.blobs = LocalBlobs(folder / "blobs")
        self.kills: Counter[str] = Counter()
        self.nodes: list[Node] = []
        self._folder = folder
        self._settings = {
            "jobs__url": url,
            "jobs__blobs": str(folder / "blobs"),
            "jobs__min_free_bytes": "0",
        } | settings
        self._jobs: dict[str, list[str]] = {}
        self._unanswered: list[str] | None = None
        self.accepted = 0
        self._numbers = itertools.count()

    def add_node(self, kind: str, *, prefix: tuple[str, ...] = (), **settings: str) -> Node:
        folder = self._folder / f"node-{len(self.nodes)}"
        node = Node(kind, folder, self._settings | settings, prefix)
        self.nodes.append(node)
        return node

    def submit(self, store: SqlJobStore, count: int, poison: int = 0) -> str:
        """A job of so many pictures, the last of them poison; all different, so that nothing is cached or confused."""
        marks = [f"item:{next(self._numbers)}" for _ in range(count - poison)]
        marks += [f"poison:{next(self._numbers)}" for _ in range(poison)]
        items = [NewItem(input_ref=put_bytes(self.blobs, picture(mark)).key, name=mark) for mark in marks]
        job = store.submit(NewJob(items=tuple(items), options={}))
        self._jobs[job.id] = marks
        return job.id

    def post_until_cut(self, node: Node, count: int = 8) -> None:
        """Send jobs to a front, one after the other, until it is gone; what it accepted must be there for ever.

        Each is sent under a key, and the one without an answer is sent again next time: it must not become two.
        """
        with httpx.Client(trust_env=False, timeout=30) as client, contextlib.suppress(httpx.TransportError):
            while True:
                if self._unanswered is None:
                    self._unanswered = [f"item:{next(self._numbers)}" for _ in range(count)]
                marks = self._unanswered
                files = [("files", (f"{mark}.png", picture(mark))) for mark in marks]
                answer = client.post(f"{node.url}/v1/jobs", files=files, headers={"Idempotency-Key": marks[0]})
                if answer.status_code == 503:
                    return
                assert answer.status_code == 202, answer.text
                self._jobs[answer.json()["id"]] = marks
                self._unanswered = None
                self.accepted += 1

    def keep_up(self) -> None:
        for node in self.nodes:
            if node.process.poll() is not None:
                node.start()

    def wait_ready(self) -> None:
        self.until(lambda: all(node.ready for node in self.nodes))

    def accepted_more_than(self, known: int) -> bool:
        return self.accepted > known

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, [node.log[-2000:] for node in self.nodes]
            time.sleep(0.05)

    def kill_something(self) -> None:
        """A front or an engine that works; who has not come to work yet is no target."""
        node = random.choice([node for node in self.nodes if node.ready] or [None])
        if node is None or node.process.poll() is not None:
            return
        engines = node.engines()
        if engines and random.random() < 0.5:
            with contextlib.suppress(psutil.NoSuchProcess):
                random.choice(engines).kill()
                self.kills["engine"] += 1
            return
        node.kill()
        self.kills[node.kind] += 1

    def finished(self, store: SqlJobStore) -> bool:
        return all(store.job(job_id).finished_at is not None for job_id in self._jobs)

    def kept_up_and_finished(self, store: SqlJobStore) -> bool:
        self.keep_up()
        return self.finished(store)

    def ended(self, store: SqlJobStore) -> int:
        return sum(store.job(job_id).ended for job_id in self._jobs)

    def open_jobs(self, store: SqlJobStore) -> int:
        return sum(store.job(job_id).finished_at is None for job_id in self._jobs)

    def assert_all_is_well(self, store: SqlJobStore) -> None:
        """Every item of every job has exactly one outcome, the right one, and it was announced once."""
        for job_id, marks in self._jobs.items():
            job, items = store.job(job_id), store.results(job_id, limit=10_000)
            assert (job.state, job.total, job.ended) == (JobState.DONE, len(marks), len(marks))
            assert [item.position for item in items] == list(range(len(marks)))
            for item, mark in zip(items, marks, strict=True):
                _assert_right(mark, item.state, item.result, item.error)
            told = [event.data["item"] for event in store.events(job_id, limit=10_000) if event.kind == "item"]
            times = Counter(entry["position"] for entry in told)
            assert times == Counter(range(len(marks))), "each outcome became visible once"

    @property
    def items(self) -> int:
        return sum(map(len, self._jobs.values()))

    def close(self) -> None:
        for node in self.nodes:
            node.cut_power()


def _assert_right(mark: str, state: ItemState, result: Any, error: Mapping[str, Any] | None) -> None:
    kind, name = mark.split(":")
    if kind == "poison":
        assert state is ItemState.DEAD, (mark, state, error)
        assert error is not None
        assert error["code"] in ("quarantined", "engine_died")
    else:
        assert state is ItemState.DONE, (mark, state, error)
        assert result["text"] == name


@contextlib.contextmanager
def field(folder: Path, url: str, **settings: str) -> Iterator[Field]:
    made = Field(folder, url, **settings)
    try:
        yield made
    finally:
        made.close()
