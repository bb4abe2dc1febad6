"""The database stops, the line to it is cut, the clock jumps, the disk is full: nodes live on and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from jobs_field import Field, Node, field, picture
from wire import Wire, namespace_wire, proxy_wire

from jobs_support import FAST_FOLDER, PostgresServer, postgres, postgres_server  # noqa: F401 - a fixture
from steadyocr.errors import InsufficientStorage, Unavailable
from steadyocr.jobs.models import ItemState
from steadyocr.jobs.sql_store import SqlJobStore, open_job_store

pytestmark = pytest.mark.chaos

LONG = "STEADYOCR_CHAOS_KILLS" in os.environ
# What a node cut off in mid-transaction has locked is free after this long; the short form does not wait for the
# ten seconds that are usual.
IMPATIENT = "" if LONG else "?options=-c%20idle_in_transaction_session_timeout%3D1s%20-c%20lock_timeout%3D2s"


# Where no item may be lost: a second is gone soon on a machine with other work, and its heartbeats with it.
PATIENT_S = "5"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="steadyocr-field-", dir=FAST_FOLDER))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def owners(store: SqlJobStore, job_id: str) -> set[str]:
    """Who has had items of a job, by process id."""
    return {item.owner.rpartition(":")[2] for item in store.items(job_id, limit=1000) if item.owner}


def test_nodes_outlive_a_database_that_stops(folder: Path) -> None:
    with postgres_server("fsync=off", "full_page_writes=off") as server:
        url = server.new_database()
        store = open_job_store(url)
        with field(folder, url) as there:
            there.add_node("serve")
            there.add_node("work")
            job_id = there.submit(store, 200)
            there.wait_ready()
            there.until(lambda: store.job(job_id).done >= 10)
            server.stop()
            time.sleep(2.0)
            server.start()
            there.until(lambda: _finished(there, store))
            there.assert_all_is_well(store)
            assert [node.starts for node in there.nodes] == [1, 1], "an outage ends no process"
            assert all(node.process.poll() is None for node in there.nodes)
        store.close()


def _finished(there: Field, store: SqlJobStore) -> bool:
    with contextlib.suppress(Unavailable):
        return there.finished(store)
    return False


@pytest.mark.parametrize("kind", ["proxy", "namespace"] if LONG else ["either"])
def test_a_node_cut_from_its_database_loses_its_items_to_the_other_and_comes_back(
    folder: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database() + IMPATIENT
    with _wire(kind, server.port) as wire:
        store = open_job_store(url)
        with field(folder, url) as there:
            cut_off, other = _behind(there, wire, url), there.add_node("work")
            job_id = there.submit(store, 150)
            there.wait_ready()
            pids = {str(cut_off.process.pid), str(other.process.pid)}
            there.until(lambda: owners(store, job_id) == pids)
            wire.cut()
            there.until(lambda: there.finished(store))
            wire.mend()
            there.assert_all_is_well(store)
            later = there.submit(store, 150)
            there.until(lambda: str(cut_off.process.pid) in owners(store, later))
            there.until(lambda: there.finished(store))
            there.assert_all_is_well(store)
            assert cut_off.starts == 1
        store.close()


@contextlib.contextmanager
def _wire(kind: str, port: int) -> Iterator[Wire]:
    """A line of this kind; a namespace is the real thing, but takes rights that not everybody has."""
    if kind != "proxy":
        with namespace_wire(port) as wire:
            if wire is not None:
                yield wire
                return
        if kind == "namespace":
            pytest.skip("no network namespace can be made here (needs root)")
    with proxy_wire(port) as wire:
        yield wire


def _behind(there: Field, wire: Wire, url: str) -> Node:
    host, port = wire.address
    parts = urlsplit(url)
    own = parts._replace(netloc=f"postgres@{host}:{port}").geturl()
    return there.add_node("work", prefix=wire.prefix, jobs__url=own)


def test_a_wall_clock_that_jumps_costs_nobody_a_lease(folder: Path) -> None:
    url = f"sqlite:///{folder}/jobs.db"
    store = open_job_store(url)
    with field(folder, url, jobs__lease_s=PATIENT_S) as there:
        node = there.add_node("work")
        job_id = there.submit(store, 150)
        for done, number in ((10, signal.SIGUSR1), (60, signal.SIGUSR2)):
            there.until(lambda done=done: store.job(job_id).done >= done)  # type: ignore[misc]
            node.process.send_signal(number)
        there.until(lambda: there.finished(store))
        there.assert_all_is_well(store)
        assert all(item.attempts + item.losses == 0 for item in store.items(job_id, limit=1000))
    store.close()


class ServersClock:
    """The clock of a database as its users see it, made one that can be set: a function that hides the server's own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.url = f"{url}?options=-c%20search_path%3Dpublic%2Cfake%2Cpg_catalog"
        self._run(
            "CREATE SCHEMA fake",
            "CREATE TABLE fake.jump (seconds double precision)",
            "INSERT INTO fake.jump VALUES (0)",
            "CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            "'SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM fake.jump))'",
        )

    def jump(self, seconds: float) -> None:
        self._run(f"UPDATE fake.jump SET seconds = seconds + {seconds}")

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def test_a_servers_clock_that_jumps_costs_the_living_no_lease_and_the_dead_no_day(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    clock = ServersClock(request.getfixturevalue("postgres").new_database())
    store = open_job_store(clock.url)
    with field(folder, clock.url, jobs__lease_s=PATIENT_S) as there:
        first, second = there.add_node("work"), there.add_node("work")
        job_id = there.submit(store, 150)
        there.wait_ready()
        pids = {str(first.process.pid), str(second.process.pid)}
        there.until(lambda: owners(store, job_id) == pids)
        known = store.job(job_id).done
        clock.jump(86_400)
        there.until(lambda: store.job(job_id).done >= known + 30)
        assert all(item.losses == 0 for item in store.items(job_id, limit=1000)), "all leases had run out, by the clock"
        # One dies with items in hand, and the clock goes back behind the time until which they are its.
        there.until(lambda: held(store, job_id, second))
        second.cut_power()
        clock.jump(-2 * 86_400)
        there.until(lambda: there.finished(store))
        there.assert_all_is_well(store)
        assert all(item.attempts == 0 and item.losses <= 1 for item in store.items(job_id, limit=1000))
        there.nodes.remove(second)
    store.close()


def held(store: SqlJobStore, job_id: str, node: Node) -> bool:
    leased = store.items(job_id, limit=1000, states=[ItemState.LEASED])
    return any(item.owner is not None and item.owner.endswith(f":{node.process.pid}") for item in leased)


def submit_until_refused(there: Field, store: SqlJobStore) -> None:
    for _ in range(10):
        there.submit(store, 200)


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A small disk of its own."""
    mounted = folder / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def filled(disk: Path) -> Path:
    """Fill a disk to the last byte; returns the file to delete."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    return filler


def test_a_node_outlives_a_full_disk(disk: Path) -> None:
    url = f"sqlite:///{disk}/jobs.db"
    store = open_job_store(url)
    with field(disk, url) as there:
        node = there.add_node("work")
        job_id = there.submit(store, 200)
        there.until(lambda: store.job(job_id).done >= 10)
        filler = filled(disk)
        with pytest.raises((InsufficientStorage, Unavailable)):
            submit_until_refused(there, store)
        time.sleep(1.0)
        assert node.process.poll() is None
        filler.unlink()
        there.until(lambda: there.finished(store))
        there.assert_all_is_well(store)
        assert node.starts == 1
    store.close()


def test_a_front_on_a_full_disk_refuses_uploads_and_takes_them_again(disk: Path) -> None:
    url = f"sqlite:///{disk}/jobs.db"
    store = open_job_store(url)
    with field(disk, url, jobs__lease_s=PATIENT_S) as there, httpx.Client(trust_env=False, timeout=30) as client:
        node = there.add_node("serve")
        job_id = there.submit(store, 200)
        there.wait_ready()

        def upload(size_bytes: int, name: str) -> int:
            content = picture(f"item:{name}")
            # Noise in the middle: what is read stands at the end.
            content = content[:-32] + os.urandom(size_bytes) + picture(f"item:{name}")
            return client.post(f"{node.url}/v1/jobs", files=[("files", ("a.png", content))]).status_code

        there.until(lambda: store.job(job_id).done >= 10)
        filler = filled(disk)
        # One that is written as it comes, one that is written at its end.
        refusals = [upload(3_000_000, "large"), upload(100_000, "small")]
        assert refusals == [507, 507]
        assert store.job(job_id).finished_at is None, "there was work in hand all the while"
        assert client.get(f"{node.url}/livez").status_code == 200
        filler.unlink()
        there.until(lambda: there.finished(store))
        there.assert_all_is_well(store)
        assert all(item.attempts + item.losses == 0 for item in store.items(job_id, limit=1000)), "nobody is blamed"
        assert [upload(3_000_000, "large"), upload(100_000, "small")] == [202, 202]
        assert list((disk / "blobs" / "unfinished").iterdir()) == []
        assert node.starts == 1
    store.close()
