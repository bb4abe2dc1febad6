from __future__ import annotations

import asyncio
import threading

import pytest

from steadyocr.jobs import webhook_names
from steadyocr.jobs.webhook_names import Names, NamesBusy
from support import in_real_time


class SlowNames:
    """A resolver that answers when it is told to."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.answer = threading.Event()

    def __call__(self, host: str, port: int) -> list[str]:
        self.threads.append(threading.current_thread())
        if host == "slow.example":
            self.answer.wait(60)
        return ["192.0.2.7"]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> SlowNames:
    made = SlowNames()
    monkeypatch.setattr(webhook_names, "_addresses", made)
    return made


async def given_up(names: Names) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await names.look_up("slow.example", 80)


@in_real_time
async def test_a_look_up_that_nobody_waits_for_keeps_its_place_until_it_ends(resolver: SlowNames) -> None:
    names = Names(max_lookups=1)
    await given_up(names)
    with pytest.raises(NamesBusy):
        await names.look_up("a.example", 80)
    assert await names.look_up("192.0.2.1", 80) == ["192.0.2.1"], "an address needs no look-up"
    resolver.answer.set()
    resolver.threads[0].join(10)
    assert await names.look_up("a.example", 80) == ["192.0.2.7"]


def test_no_loop_and_no_process_waits_for_a_look_up_at_its_end(resolver: SlowNames) -> None:
    asyncio.run(given_up(Names()))
    (thread,) = resolver.threads
    assert thread.is_alive()
    assert thread.daemon
    resolver.answer.set()
    thread.join(10)
    assert not thread.is_alive()


@in_real_time
async def test_what_was_found_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    monkeypatch.setattr(webhook_names, "_addresses", nobody_knows)
    with pytest.raises(OSError, match="no such name"):
        await Names(max_lookups=1).look_up("a.example", 80)


@in_real_time
async def test_a_name_of_this_machine_is_found_for_real() -> None:
    assert set(await Names().look_up("localhost", 80)) <= {"127.0.0.1", "::1"}
