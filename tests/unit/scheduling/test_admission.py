from __future__ import annotations

import asyncio

import pytest

from steadyocr.errors import DeadlineExceeded, QueueFull, RateLimited
from steadyocr.scheduling.admission import AdmissionQueue, Crew
from steadyocr.scheduling.items import Priority, WorkItem
from steadyocr.types import OcrOptions
from support import without_waiting


def item(name: str = "", *, allowed_s: float = 60.0, priority: Priority = Priority.INTERACTIVE) -> WorkItem:
    deadline = asyncio.get_running_loop().time() + allowed_s
    return WorkItem(name.encode(), OcrOptions(), deadline, priority=priority)


def filled(max_size: int, *names: str) -> AdmissionQueue:
    queue = AdmissionQueue(max_size)
    for name in names:
        queue.put(item(name))
    return queue


async def taken(queue: AdmissionQueue) -> list[str]:
    """Names of all that can be taken without waiting, in order."""
    names = []
    while len(queue):
        names.append((await queue.get()).payload.decode())
    return names


@without_waiting
async def test_first_come_first_served() -> None:
    assert await taken(filled(5, "a", "b", "c")) == ["a", "b", "c"]


@without_waiting
async def test_one_more_than_fits_is_refused_and_told_when_to_come_back() -> None:
    queue = filled(2, "a", "b")
    with pytest.raises(QueueFull) as raised:
        queue.put(item("c"))
    assert raised.value.retry_after_s is not None
    assert raised.value.retry_after_s >= 1
    assert raised.value.details == {"queue_size": 2}
    assert await taken(queue) == ["a", "b"]
    queue.put(item("d"))


@without_waiting
async def test_batch_items_keep_no_interactive_one_out() -> None:
    queue = AdmissionQueue(2)
    for name in "ab":
        queue.put(item(name, priority=Priority.BATCH))
    with pytest.raises(QueueFull):
        queue.put(item("c", priority=Priority.BATCH))
    for name in "de":
        queue.put(item(name))
    for priority in Priority:
        with pytest.raises(QueueFull):
            queue.put(item("f", priority=priority))
    assert await taken(queue) == ["d", "e", "a", "b"]


@without_waiting
async def test_the_advice_grows_with_the_queue_and_the_measured_time() -> None:
    short, long, slow = filled(99, "a"), filled(99, *"abcdefgh"), filled(99, "a")
    for _ in range(30):
        slow.record_service(20.0)
    assert short.expected_wait_s() < long.expected_wait_s()
    assert short.expected_wait_s() < slow.expected_wait_s() == pytest.approx(40)
    for _ in range(30):
        slow.record_service(1e6)
    assert slow.expected_wait_s() <= 120


@without_waiting
async def test_the_advice_counts_those_who_work_now_and_what_they_have_in_hand() -> None:
    crew = Crew(servers=4, in_hand=4)
    queue = AdmissionQueue(99, crew=lambda: crew)
    for name in "abcdefg":
        queue.put(item(name))
    queue.record_service(10.0)
    assert queue.expected_wait_s() == pytest.approx(30)
    crew = Crew(servers=1, in_hand=1)
    assert queue.expected_wait_s() == pytest.approx(90)
    crew = Crew(servers=0, in_hand=0)
    assert queue.expected_wait_s() == pytest.approx(80), "as if one were there soon"


def timed(crew: Crew, *times_s: float) -> AdmissionQueue:
    queue = AdmissionQueue(99, crew=lambda: crew)
    for seconds in times_s:
        queue.record_service(seconds)
    return queue


@without_waiting
async def test_the_time_of_the_item_itself_and_of_what_is_in_hand_counts() -> None:
    queue = timed(Crew(servers=1, in_hand=1), *[4.0] * 20)
    with pytest.raises(QueueFull):
        queue.put(item(allowed_s=7.9))
    queue.put(item(allowed_s=9))
    with pytest.raises(QueueFull):
        queue.put(item(allowed_s=12))
    queue.put(item(allowed_s=14))


@without_waiting
async def test_times_that_spread_are_met_with_caution() -> None:
    even, uneven = timed(Crew(1, 1), *[4.0] * 20), timed(Crew(1, 1), *[1.0, 7.0] * 10)
    even.put(item(allowed_s=10))
    with pytest.raises(QueueFull):
        uneven.put(item(allowed_s=10))


@without_waiting
async def test_what_starts_at_once_is_tried_however_hasty() -> None:
    queue = timed(Crew(servers=2, in_hand=1), *[4.0] * 20)
    queue.put(item(allowed_s=1))
    with pytest.raises(QueueFull):
        queue.put(item(allowed_s=1))


@without_waiting
async def test_a_sliders_work_needs_time_only_for_what_goes_before_it() -> None:
    queue = timed(Crew(servers=1, in_hand=1), *[6.0] * 20)

    def slider() -> WorkItem:
        deadline = asyncio.get_running_loop().time() + 10
        return WorkItem(b"map", OcrOptions(), deadline, kind="postprocess")

    queue.put(slider())
    assert await taken(queue) == ["map"]
    with pytest.raises(QueueFull):
        queue.put(item(allowed_s=10))
    queue.put(item("picture", allowed_s=30))
    with pytest.raises(QueueFull):
        queue.put(slider())


@without_waiting
async def test_who_has_little_waiting_is_not_refused_for_who_has_much() -> None:
    queue = timed(Crew(servers=1, in_hand=1), *[2.0] * 20)

    def of(client: str, allowed_s: float, priority: Priority = Priority.INTERACTIVE) -> WorkItem:
        deadline = asyncio.get_running_loop().time() + allowed_s
        return WorkItem(client.encode(), OcrOptions(), deadline, priority=priority, client=client)

    for _ in range(40):
        queue.put(of("greedy", 500))
    for priority in Priority:
        queue.put(of("modest", 20 if priority is Priority.INTERACTIVE else 200, priority))
    with pytest.raises(QueueFull):
        queue.put(of("greedy", 20))
    assert (await taken(queue))[:3] == ["greedy", "modest", "greedy"]


@without_waiting
async def test_sliders_that_wait_do_not_count_as_pictures() -> None:
    queue = timed(Crew(), *[6.0] * 20)
    for _ in range(8):
        queue.put(WorkItem(b"map", OcrOptions(), asyncio.get_running_loop().time() + 10, kind="postprocess"))
    queue.put(item("picture", allowed_s=10))


@without_waiting
async def test_interactive_work_counts_the_batch_items_that_go_in_between() -> None:
    queue = timed(Crew(), *[1.0] * 20)
    for index in range(40):
        queue.put(item(f"b{index}", priority=Priority.BATCH))
    queue.put(item(allowed_s=3))
    with pytest.raises(QueueFull):
        queue.put(item(allowed_s=30, priority=Priority.BATCH))


@without_waiting
async def test_a_batch_item_that_does_not_go_first_is_not_counted() -> None:
    # What a runner keeps here, with slow pictures: at most the one in hand goes before somebody who waits.
    queue = timed(Crew(servers=1, in_hand=1), *[8.6] * 20)
    for index in range(2):
        queue.put(item(f"b{index}", priority=Priority.BATCH, allowed_s=300))
    queue.put(item("person", allowed_s=20))
    assert (await queue.get()).payload == b"person"


@without_waiting
async def test_a_waiting_taker_gets_what_arrives() -> None:
    queue = AdmissionQueue(5)
    taking = asyncio.create_task(queue.get())
    await asyncio.sleep(3)
    assert not taking.done()
    queue.put(item("late"))
    assert (await taking).payload == b"late"


@without_waiting
async def test_two_takers_never_get_the_same_item() -> None:
    queue = AdmissionQueue(9)
    takers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for name in "abc":
        queue.put(item(name))
    assert sorted(taken.payload for taken in await asyncio.gather(*takers)) == [b"a", b"b", b"c"]


@without_waiting
async def test_interactive_goes_first_but_neither_kind_starves() -> None:
    queue = AdmissionQueue(1000)
    for index in range(100):
        queue.put(item(f"b{index}", priority=Priority.BATCH))
    for index in range(100):
        queue.put(item(f"i{index}"))
    order = await taken(queue)
    first = order[:45]
    assert order[0] == "i0"
    assert sum(name.startswith("b") for name in first) == 5
    assert [name for name in order if name.startswith("b")] == [f"b{index}" for index in range(100)]
    assert [name for name in order if name.startswith("i")] == [f"i{index}" for index in range(100)]


@without_waiting
async def test_batch_work_gets_through_a_steady_stream_of_interactive_work() -> None:
    queue = AdmissionQueue(10)
    queue.put(item("batch", priority=Priority.BATCH))
    served = []
    for _ in range(20):
        queue.put(item("interactive"))
        served.append((await queue.get()).payload)
    assert b"batch" in served


@without_waiting
async def test_expired_items_are_failed_and_not_handed_out() -> None:
    queue = AdmissionQueue(5)
    hasty, patient = item("hasty", allowed_s=1), item("patient", allowed_s=10)
    queue.put(hasty)
    queue.put(patient)
    await asyncio.sleep(2)
    assert await queue.get() is patient
    with pytest.raises(DeadlineExceeded):
        await hasty.outcome


@without_waiting
async def test_an_expired_retry_is_failed_too() -> None:
    queue = AdmissionQueue(5)
    hasty = item(allowed_s=1)
    queue.put_back(hasty)
    queue.put(item("next"))
    await asyncio.sleep(2)
    assert (await queue.get()).payload == b"next"
    assert isinstance(hasty.outcome.exception(), DeadlineExceeded)


@without_waiting
async def test_abandoned_items_are_not_handed_out() -> None:
    queue = AdmissionQueue(5)
    gone, waiting = item("gone"), item("waiting")
    queue.put(gone)
    queue.put(waiting)
    gone.outcome.cancel()
    assert await queue.get() is waiting


@without_waiting
async def test_who_leaves_makes_room_at_once() -> None:
    queue = AdmissionQueue(3, max_per_client=3)
    ghosts = [item(priority=priority) for priority in (Priority.INTERACTIVE, Priority.BATCH, Priority.INTERACTIVE)]
    for ghost in ghosts:
        queue.put(ghost)
    retried = item("retried")
    queue.put_back(retried)
    for gone in (*ghosts, retried, ghosts[0]):
        queue.discard(gone)
    assert len(queue) == 0
    for name in "abc":
        queue.put(item(name))
    with pytest.raises(QueueFull):
        queue.put(item("d"))
    assert await taken(queue) == ["a", "b", "c"]


@without_waiting
async def test_who_leaves_does_not_count_against_its_client() -> None:
    queue = AdmissionQueue(99, max_per_client=1)
    gone = item("gone")
    queue.put(gone)
    with pytest.raises(RateLimited):
        queue.put(item("early"))
    queue.discard(gone)
    queue.put(item("kept"))
    assert await taken(queue) == ["kept"]


@without_waiting
async def test_a_returned_item_goes_first_and_is_never_refused() -> None:
    queue = filled(2, "a", "b")
    queue.put_back(item("returned"))
    assert len(queue) == 3
    assert await taken(queue) == ["returned", "a", "b"]


@without_waiting
async def test_a_cancelled_taker_loses_nothing() -> None:
    queue = AdmissionQueue(2)
    taking = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(item("kept"))
    taking.cancel()
    await asyncio.wait({taking})
    assert await taken(queue) == ["kept"]


@without_waiting
async def test_what_idle_takers_are_about_to_take_does_not_fill_the_queue() -> None:
    queue = AdmissionQueue(2)
    takers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    for name in "abcd":
        queue.put(item(name))
    with pytest.raises(QueueFull):
        queue.put(item("e"))
    assert [taker.payload.decode() for taker in await asyncio.gather(*takers)] == ["a", "b"]
    with pytest.raises(QueueFull):
        queue.put(item("e"))
    assert await taken(queue) == ["c", "d"]


@without_waiting
async def test_a_taker_that_has_gone_makes_no_room() -> None:
    queue = AdmissionQueue(1)
    taker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    taker.cancel()
    await asyncio.sleep(0)
    queue.put(item("a"))
    with pytest.raises(QueueFull):
        queue.put(item("b"))
