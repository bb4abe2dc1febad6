"""Deliveries to a receiver on this machine that misbehaves, over stores that keep them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from jobs_support import claim_one, postgres, submit  # noqa: F401 - a fixture
from steadyocr.errors import Unavailable
from steadyocr.jobs import webhook_names, webhook_post
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.config import WebhookConfig
from steadyocr.jobs.models import ItemOutcome, Job
from steadyocr.jobs.sql_store import open_job_store
from steadyocr.jobs.store import JobStore
from steadyocr.jobs.webhook import Deliverer
from steadyocr.jobs.webhook_models import Delivery, DeliveryOutcome, Webhook, WebhookState
from steadyocr.telemetry.loops import Loops
from steadyocr.testing import InMemoryJobStore
from support import PATIENCE_S, free_port, in_real_time

KEY = b"a secret of sixteen or more"
CONFIG = WebhookConfig(
    secret=KEY,
    networks=(ip_network("127.0.0.0/8"),),
    max_attempts=3,
    timeout_s=5.0,
    backoff_first_s=0.01,
    backoff_max_s=0.02,
    poll_s=0.01,
)


@dataclass
class Receiver:
    """Answers one connection after the other with what it is told, the last answer again and again."""

    answers: list[bytes]
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    tasks: list[asyncio.Task[None] | None] = field(default_factory=list)
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.seen.append((first, headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        with contextlib.suppress(OSError):
            if answer == b"hang":
                await reader.read()
            while answer == b"drip":
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.write(answer)
            await writer.drain()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            await self.handle(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/done?for=me"


@contextlib.asynccontextmanager
async def receiver(*answers: bytes) -> AsyncIterator[Receiver]:
    made = Receiver(list(answers))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        handlers = [task for task in made.tasks if task is not None]
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


def answer(status: int, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} Something\r\n{more}Content-Length: 0\r\n\r\n".encode()


OK = answer(200)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    opened: JobStore
    if request.param == "memory":
        opened = InMemoryJobStore(clock=time.monotonic)
    elif request.param == "sqlite":
        opened = open_job_store(f"sqlite:///{tmp_path}/jobs.db")
    else:
        opened = open_job_store(request.getfixturevalue("postgres").new_database())
    yield opened
    opened.close()


def ended_job(store: JobStore, url: str) -> Job:
    job = submit(store, 1, webhook_url=url, meta={"order": 7})
    assert store.complete(claim_one(store), ItemOutcome(result={}))
    return store.job(job.id)


def known(store: JobStore, job: Job) -> Webhook:
    found = store.webhook(job.id)
    assert found is not None
    return found


async def deliver_all(store: JobStore, job: Job, config: WebhookConfig = CONFIG) -> Deliverer:
    """Run the loop until the job's delivery has come to its end."""
    jobs, loops = AsyncJobStore(store), Loops()
    deliverer = Deliverer(jobs, config)
    deliverer.start(loops)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while known(store, job).state is WebhookState.DUE:  # noqa: ASYNC110 - the store has no events
                await asyncio.sleep(0.01)
    finally:
        await loops.stop()
        await jobs.close()
    assert not loops.dead
    return deliverer


def verified(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """What a receiver does."""
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told: dict[str, Any] = json.loads(body)
    return told


def test_a_receiver_that_fails_first_is_told_in_the_end(store: JobStore) -> None:
    async def run() -> None:
        async with receiver(answer(500), b"", OK) as there:
            job = ended_job(store, there.url)
            await deliver_all(store, job)
        assert len(there.seen) == 3
        for first, headers, body in there.seen:
            told = verified(headers, body)
            assert first == "POST /done?for=me HTTP/1.1"
            assert headers["webhook-id"] == f"{job.id}-1"
            assert headers["host"] == f"127.0.0.1:{there.port}"
            assert told["type"] == "job.finished"
            assert told["data"]["id"] == job.id
            assert told["data"]["meta"] == {"order": 7}
            assert (told["data"]["state"], told["data"]["done"], told["data"]["total"]) == ("done", 1, 1)
        outcome = known(store, job)
        assert (outcome.state, outcome.attempts, outcome.status) == (WebhookState.DELIVERED, 3, 200)
        assert outcome.problem is None

    asyncio.run(run())


def test_tries_are_bounded(store: JobStore) -> None:
    async def run() -> None:
        async with receiver(answer(503)) as there:
            job = ended_job(store, there.url)
            deliverer = await deliver_all(store, job)
        assert len(there.seen) == CONFIG.max_attempts
        outcome = known(store, job)
        assert (outcome.state, outcome.attempts, outcome.status) == (WebhookState.FAILED, 3, 503)
        assert deliverer.outcomes == {"retry": 2, "failed": 1}

    asyncio.run(run())


def test_a_delivery_outlives_the_process_that_should_have_made_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"

    async def run() -> None:
        async with receiver(OK) as there:
            store = open_job_store(url)
            job = ended_job(store, there.url)
            # It had just begun when its process was killed.
            assert store.claim_deliveries(lease_s=0.1)
            store.close()
            again = open_job_store(url)
            await deliver_all(again, job)
            assert known(again, job).attempts == 2
            again.close()
        assert len(there.seen) == 1

    asyncio.run(run())


def test_one_that_broke_off_every_time_is_not_tried_for_ever() -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    job = ended_job(store, "http://127.0.0.1:9/")
    for _ in range(CONFIG.max_attempts):
        assert store.claim_deliveries(lease_s=0.0)
    asyncio.run(deliver_all(store, job))
    assert known(store, job).problem == "each try was broken off"


@in_real_time
async def test_redirects_are_not_followed() -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    async with receiver(OK) as elsewhere, receiver(answer(302, f"Location: {elsewhere.url}\r\n")) as there:
        job = ended_job(store, there.url)
        await deliver_all(store, job)
        assert not elsewhere.seen
    assert known(store, job).status == 302
    assert known(store, job).state is WebhookState.FAILED


@in_real_time
async def test_a_receiver_that_is_gone_is_left_alone() -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    async with receiver(answer(410)) as there:
        job = ended_job(store, there.url)
        await deliver_all(store, job)
    assert len(there.seen) == 1
    assert known(store, job).state is WebhookState.FAILED


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_addresses_that_are_not_public_are_refused_without_a_connection(host: str) -> None:
    async def run() -> None:
        store = InMemoryJobStore(clock=time.monotonic)
        async with receiver(OK) as there:
            job = ended_job(store, f"http://{host}:{there.port}/")
            await deliver_all(store, job, replace(CONFIG, networks=()))
            assert not there.seen
        outcome = known(store, job)
        assert (outcome.state, outcome.attempts) == (WebhookState.FAILED, 1)
        assert outcome.problem == "the address is not public and not allowed"

    asyncio.run(run())


@in_real_time
async def test_the_name_is_looked_up_once_and_the_address_that_was_checked_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    asked: list[str] = []

    def turncoat(host: str, _port: int) -> list[str]:
        asked.append(host)
        # First an address that is allowed, ever after one that is not.
        return ["127.0.0.1" if len(asked) == 1 else "10.0.0.1"]

    monkeypatch.setattr(webhook_names, "_addresses", turncoat)
    async with receiver(OK) as there:
        job = ended_job(store, f"http://turncoat.example:{there.port}/")
        await deliver_all(store, job)
    assert asked == ["turncoat.example"]
    assert there.seen[0][1]["host"] == f"turncoat.example:{there.port}"


@in_real_time
async def test_an_address_that_does_not_answer_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    monkeypatch.setattr(webhook_names, "_addresses", lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
    async with receiver(OK) as there:
        job = ended_job(store, f"http://both.example:{there.port}/")
        await deliver_all(store, job)
        assert len(there.seen) == 1
    delivery = known(store, job)
    assert (delivery.state, delivery.attempts) == (WebhookState.DELIVERED, 1)


@in_real_time
async def test_a_slow_address_is_waited_for_where_no_other_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    monkeypatch.setattr(webhook_names, "_addresses", lambda _host, _port: ["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr(webhook_post, "_NEXT_ADDRESS_S", 0.05)
    tried: list[str] = []
    really_open = webhook_post._open

    async def slowly(address: str, *rest: Any) -> Any:
        tried.append(address)
        if len(tried) == 1:
            await asyncio.Event().wait()
        return await really_open(address, *rest)

    monkeypatch.setattr(webhook_post, "_open", slowly)
    async with receiver(OK) as there:
        job = ended_job(store, f"http://slow.example:{there.port}/")
        await deliver_all(store, job)
    assert tried == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    assert known(store, job).state is WebhookState.DELIVERED


@in_real_time
async def test_a_name_with_one_bad_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    monkeypatch.setattr(webhook_names, "_addresses", lambda _host, _port: ["127.0.0.1", "192.168.0.1"])
    async with receiver(OK) as there:
        job = ended_job(store, f"http://mixed.example:{there.port}/")
        await deliver_all(store, job)
        assert not there.seen
    assert known(store, job).state is WebhookState.FAILED


@pytest.mark.parametrize("host", ["no-such-name.invalid", "x" * 70 + ".example"])
def test_a_name_that_leads_nowhere_is_said_to(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(name: str, _port: int) -> list[str]:
        name.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(webhook_names, "_addresses", nobody_knows)

    async def run() -> None:
        store = InMemoryJobStore(clock=time.monotonic)
        job = ended_job(store, f"http://{host}/")
        await deliver_all(store, job, replace(CONFIG, max_attempts=1))
        assert known(store, job).problem == "cannot be reached"

    asyncio.run(run())


@in_real_time
async def test_a_name_server_that_does_not_answer_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, threads = threading.Event(), set[str]()

    def slow(_host: str, _port: int) -> list[str]:
        threads.add(threading.current_thread().name)
        silent.wait(2 * PATIENCE_S)
        return ["127.0.0.1"]

    monkeypatch.setattr(webhook_names, "_addresses", slow)
    store = InMemoryJobStore(clock=time.monotonic)
    try:
        async with receiver(OK) as there:
            stuck = [ended_job(store, f"http://name-{n}.example:{there.port}/") for n in range(6)]
            job = ended_job(store, there.url)
            await deliver_all(store, job, replace(CONFIG, timeout_s=0.5))
            assert known(store, job).state is WebhookState.DELIVERED
            assert len(there.seen) == 1
            # Not in those where the front does everything else that may block.
            assert threads == {"webhook-name"}
            assert all(known(store, one).state is not WebhookState.DELIVERED for one in stuck)
    finally:
        silent.set()


@in_real_time
async def test_a_receiver_that_does_not_answer_holds_up_its_own_deliveries_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_names, "_addresses", lambda _host, _port: ["127.0.0.1"])
    store = InMemoryJobStore(clock=time.monotonic)
    async with receiver(b"hang") as dead, receiver(b"hang") as elsewhere, receiver(OK) as there:
        # However its name is written, and at whichever port.
        names = ["dead.example", "DEAD.example", "dead.example.", "Dead.Example."]
        places = [f"{name}:{port}" for name in names for port in (dead.port, elsewhere.port)]
        waiting = [ended_job(store, f"http://{place}/") for place in places]
        told = [ended_job(store, f"http://there.example:{there.port}/") for _ in range(6)]
        jobs, loops = AsyncJobStore(store), Loops()
        # Long enough that no try of the dead one comes to its end here.
        Deliverer(jobs, replace(CONFIG, timeout_s=2 * PATIENCE_S)).start(loops)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while any(known(store, job).state is WebhookState.DUE for job in told):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            await loops.stop()
            await jobs.close()
        assert not loops.dead
        assert [known(store, job).problem for job in waiting] == [None] * len(places)
        assert sum(known(store, job).attempts for job in waiting) == CONFIG.at_once // 2


class _Forgetful(InMemoryJobStore):
    """Cannot write down how the first try went."""

    outages = 1

    def settle_delivery(self, delivery: Delivery, outcome: DeliveryOutcome) -> bool:
        if self.outages:
            self.outages -= 1
            raise Unavailable("not now")
        return super().settle_delivery(delivery, outcome)


@in_real_time
async def test_an_outcome_that_cannot_be_written_ends_neither_the_loop_nor_the_others() -> None:
    store = _Forgetful(clock=time.monotonic)
    async with receiver(OK) as there:
        forgotten, job = ended_job(store, there.url), ended_job(store, there.url)
        await deliver_all(store, job)
        assert {known(store, one).state for one in (forgotten, job)} == {WebhookState.DUE, WebhookState.DELIVERED}


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        (b"hang", "no answer in time"),
        (b"drip", "no answer in time"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer was not HTTP"),
        (b"x" * 100_000, "the answer was not HTTP"),
        (b"", "the answer was not HTTP"),
    ],
)
def test_whatever_answers_costs_bounded_time_and_memory(behaviour: bytes, problem: str) -> None:
    async def run() -> None:
        store = InMemoryJobStore(clock=time.monotonic)
        async with receiver(behaviour) as there:
            job = ended_job(store, there.url)
            await deliver_all(store, job, replace(CONFIG, max_attempts=1, timeout_s=0.5))
        assert known(store, job).problem == problem

    asyncio.run(run())


@in_real_time
async def test_an_endless_answer_counts_by_its_status() -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    async with receiver(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(4 << 20)) as there:
        job = ended_job(store, there.url)
        await deliver_all(store, job)
    assert known(store, job).state is WebhookState.DELIVERED


@in_real_time
async def test_where_nobody_listens_is_said_without_the_address() -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    job = ended_job(store, f"http://127.0.0.1:{free_port()}/")
    await deliver_all(store, job, replace(CONFIG, max_attempts=1))
    assert known(store, job).problem == "cannot be reached"


@in_real_time
async def test_a_wrong_certificate_is_a_failed_try() -> None:
    store = InMemoryJobStore(clock=time.monotonic)
    async with receiver(OK) as there:
        job = ended_job(store, there.url.replace("http:", "https:"))
        await deliver_all(store, job, replace(CONFIG, max_attempts=1, timeout_s=2))
    assert known(store, job).problem in ("cannot be reached", "no answer in time")
    assert not there.seen


class _Flaky(InMemoryJobStore):
    outages = 3

    def claim_deliveries(
        self, *, limit: int = 1, lease_s: float = 60.0, except_to: Collection[str] = ()
    ) -> list[Delivery]:
        if self.outages:
            self.outages -= 1
            raise Unavailable("not now")
        return super().claim_deliveries(limit=limit, lease_s=lease_s, except_to=except_to)


@in_real_time
async def test_an_outage_of_the_store_does_not_end_the_loop() -> None:
    store = _Flaky(clock=time.monotonic)
    async with receiver(OK) as there:
        job = ended_job(store, there.url)
        await deliver_all(store, job)
    assert known(store, job).state is WebhookState.DELIVERED


def test_the_wait_grows_and_is_bounded() -> None:
    config = WebhookConfig(secret=KEY)
    assert [config.backoff_s(tries) for tries in (1, 2, 3, 4, 5, 6, 1000)] == [10, 40, 160, 640, 2560, 3600, 3600]
    assert "secret" not in repr(config)
