"""The spool and the back-off: nothing lost that fits the bounds, nothing sent twice, no channel in another's way."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import threading
from pathlib import Path
from time import time as clock

import pytest

from alerts_support import NOON, HandClock, ScriptedSender, a_notice, channel
from steadyocr.ops.alerts.delivery import Backoff, Delivery
from steadyocr.ops.alerts.notices import Notice, Severity, digest
from steadyocr.ops.alerts.spool import Spool, SpoolBounds
from steadyocr.ops.alerts.waiting import waiting_in
from support import in_real_time


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class Post:
    """A spool and what empties it."""

    def __init__(
        self, folder: Path, *names: str, bounds: SpoolBounds | None = None, time: HandClock | None = None
    ) -> None:
        self.time = time or HandClock()
        self.sender = ScriptedSender()
        self.names = list(names)
        self.spool = Spool(folder, bounds or SpoolBounds(), self.time.clock)
        channels = [channel(name) for name in names]
        self.delivery = Delivery(self.spool, channels, self.sender, self.time.clock, Backoff(5.0, 60.0))

    def add(self, title: str, severity: Severity = Severity.CRITICAL, body: str = "b") -> None:
        self.spool.add(a_notice(title, severity, self.time.wall, body), self.names)

    @property
    def waiting(self) -> list[str]:
        return [entry.notice.title for entry in self.spool.entries()]

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [(name, notice.title) for name, notice in self.sender.sent]


@in_real_time
async def test_each_channel_gets_each_notice_once_in_order(tmp_path: Path) -> None:
    post = Post(tmp_path, "one", "two")
    for title in "abc":
        post.add(title)
    await post.delivery.round()
    await post.delivery.round()
    assert post.sent == [("one", title) for title in "abc"] + [("two", title) for title in "abc"]
    assert files(tmp_path) == []


@pytest.mark.parametrize(("count", "title"), [(60, "t" * 90), (41, "t"), (40, "t" * 200), (3, "t" * 200)])
def test_a_digest_says_how_many_it_leaves_out(count: int, title: str) -> None:
    told = digest([a_notice(title, Severity.WARNING)] * count, "box", NOON)
    body = told.to_wire()["body"]
    assert body == told.body, "nothing is cut off on the way"
    whole = sum(line.endswith(title) for line in body.splitlines())
    left_out = re.findall(r"^and (\d+) more$", body, re.MULTILINE)
    assert whole + sum(map(int, left_out)) == count
    assert bool(left_out) == (count > 3)


def test_a_text_that_is_too_long_shows_that_it_goes_on() -> None:
    wire = a_notice("t" * 300, body="b" * 5000).to_wire()
    assert (len(wire["title"]), wire["title"][-1], len(wire["body"]), wire["body"][-1]) == (200, "…", 4000, "…")


def test_what_a_killed_writer_leaves_goes_away(tmp_path: Path) -> None:
    for name, age_s in (("old", 3600), ("young", 0)):
        left = tmp_path / f".{name}.json.{os.getpid()}.tmp"
        left.write_text("{")
        os.utime(left, (clock() - age_s,) * 2)
    assert len(Post(tmp_path, "one").spool) == 0
    assert files(tmp_path) == [f".young.json.{os.getpid()}.tmp"]


@in_real_time
async def test_a_dead_channel_is_asked_ever_more_rarely_and_holds_up_no_other(tmp_path: Path) -> None:
    post = Post(tmp_path, "dead", "alive")
    post.sender.failing = {"dead"}
    for title in "abc":
        post.add(title)
    tried_at = []
    for second in range(400):
        before = post.sender.attempts
        await post.delivery.round()
        if post.sender.attempts > before:
            tried_at.append(second)
        post.time.pass_time(1)
    assert post.sent == [("alive", title) for title in "abc"]
    assert tried_at == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375], "once each, not once for each notice"
    post.sender.failing = set()
    post.time.pass_time(60)
    await post.delivery.round()
    assert post.sent[3:] == [("dead", title) for title in "abc"]


@in_real_time
async def test_a_notice_that_a_channel_refuses_lets_the_others_pass(tmp_path: Path) -> None:
    post = Post(tmp_path, "one")
    post.sender.refuses = lambda notice: notice.title == "poison"
    post.add("poison")
    post.add("good")
    for _ in range(200):
        await post.delivery.round()
        post.time.pass_time(1)
    assert post.sent == [("one", "good")]
    assert post.waiting == ["poison"]


@in_real_time
async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    post = Post(tmp_path, "one", "two")
    post.sender.failing = {"two"}
    post.add("a")
    await post.delivery.round()
    after = Post(tmp_path, "one", "two", time=post.time)
    after.add("b")
    await after.delivery.round()
    assert after.sent == [("one", "b"), ("two", "a"), ("two", "b")]


def test_the_number_is_bounded_and_the_least_severe_goes_first(tmp_path: Path) -> None:
    post = Post(tmp_path, "one", bounds=SpoolBounds(notices=3))
    post.add("critical 1")
    post.add("warning 1", Severity.WARNING)
    post.add("critical 2")
    post.add("warning 2", Severity.WARNING)
    assert post.waiting == ["critical 1", "critical 2", "warning 2"]
    post.add("critical 3")
    post.add("critical 4")
    assert post.waiting == ["critical 2", "critical 3", "critical 4"]
    assert len(list(tmp_path.iterdir())) == 3


def test_the_bytes_are_bounded(tmp_path: Path) -> None:
    post = Post(tmp_path, "one", bounds=SpoolBounds(bytes=20_000))
    for number in range(20):
        post.add(str(number), body="x" * 100_000)
    assert 3 <= len(post.spool) <= 5
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000


@in_real_time
async def test_the_age_is_bounded_by_a_clock_that_does_not_jump(tmp_path: Path) -> None:
    post = Post(tmp_path, "one", bounds=SpoolBounds(age_s=100))
    post.add("old")
    post.time.wall += 1e9
    post.time.now += 99
    assert post.spool.next_for("one") is not None
    post.time.now += 1
    assert post.spool.next_for("one") is None
    assert files(tmp_path) == []


def test_the_age_goes_on_over_a_restart_and_a_clock_set_back_adds_none(tmp_path: Path) -> None:
    post = Post(tmp_path, "one", bounds=SpoolBounds(age_s=100))
    post.add("a")
    post.time.wall += 60
    assert Spool(tmp_path, SpoolBounds(age_s=100), post.time.clock).entries()[0].expires == post.time.now + 40
    post.time.wall = NOON - 1e6
    assert Spool(tmp_path, SpoolBounds(age_s=100), post.time.clock).entries()[0].expires == post.time.now + 100


def test_what_lies_there_at_the_start_is_bounded_too(tmp_path: Path) -> None:
    post = Post(tmp_path, "one")
    for number in range(10):
        post.add(str(number))
    assert len(Spool(tmp_path, SpoolBounds(notices=4), post.time.clock)) == 4


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"notice": {}}', '{"notice": 1, "pending": [], "held": false}',
        json.dumps({"notice": a_notice(at=1e300).to_wire(), "pending": ["one"], "held": False}),
    ],
)  # fmt: skip
def test_a_damaged_file_is_left_out(tmp_path: Path, text: str) -> None:
    post = Post(tmp_path, "one")
    post.add("good")
    (tmp_path / "0000000007.json").write_text(text)
    (tmp_path / "notes.json").write_text("{}")
    assert [entry.notice.title for entry in Spool(tmp_path, SpoolBounds(), post.time.clock).entries()] == ["good"]


def test_what_waits_for_a_channel_that_is_gone_is_dropped_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    post = Post(tmp_path, "one", "two")
    post.add("a")
    post.spool.forget_channels(["two"])
    assert post.spool.next_for("one") is None
    assert post.spool.next_for("two") is not None
    assert [entry.pending for entry in waiting_in(tmp_path)] == [["two"]]
    assert caplog.records == []
    post.spool.forget_channels([])
    assert files(tmp_path) == []
    assert [(record.__dict__["rule"], record.__dict__["channels"]) for record in caplog.records] == [("rule", ["two"])]


@in_real_time
async def test_a_notice_that_was_dropped_while_it_was_sent_does_not_come_back(tmp_path: Path) -> None:
    post = Post(tmp_path, "one", "two", bounds=SpoolBounds(notices=1))
    post.add("old")
    under_way = post.spool.next_for("one")
    assert under_way is not None
    post.add("new")
    post.spool.delivered(under_way, "one")
    assert [entry.notice.title for entry in waiting_in(tmp_path)] == post.waiting == ["new"]


def test_looking_at_what_waits_changes_nothing(tmp_path: Path) -> None:
    post = Post(tmp_path, "one")
    for number in range(300):
        post.spool.add(a_notice(str(number), at=1.0), ["one"])
    (tmp_path / "0000000999.json").write_text("{")
    before = sorted(files(tmp_path))
    assert [entry.notice.title for entry in waiting_in(tmp_path)] == [str(number) for number in range(100, 300)]
    assert sorted(files(tmp_path)) == before
    assert waiting_in(tmp_path / "gone") == []


@in_real_time
async def test_a_disk_that_takes_nothing_does_not_stop_an_alert(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    post = Post(tmp_path / "file" / "spool", "one")
    post.add("a")
    await post.delivery.round()
    assert post.sent == [("one", "a")]


def test_files_are_private_and_hold_no_channel_secret(tmp_path: Path) -> None:
    post = Post(tmp_path, "one")
    post.add("a")
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in path.read_text()


def test_held_notices_wait_and_become_one(tmp_path: Path) -> None:
    post = Post(tmp_path, "one")
    for number in range(60):
        post.spool.add(a_notice(f"n{number}", Severity.WARNING), ["one"], held=True)
    assert post.spool.next_for("one") is None

    def summarise(held: list[Notice]) -> Notice:
        return digest(held, "box", NOON)

    assert post.spool.release_held(summarise)
    assert not post.spool.release_held(summarise)
    (entry,) = post.spool.entries()
    assert entry.notice.title == "[digest] box: 60 notices during quiet hours"
    assert entry.notice.body.endswith("and 20 more")


def test_back_off_is_bounded() -> None:
    backoff = Backoff(5.0, 900.0)
    assert [backoff.after(count) for count in (1, 2, 3, 8, 9, 100_000)] == [5, 10, 20, 640, 900, 900]


@in_real_time
async def test_a_disk_that_stands_still_does_not_stop_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    post, stands, goes_on = Post(tmp_path, "one"), threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        stands.set()
        goes_on.wait(20)

    monkeypatch.setattr("steadyocr.ops.alerts.spool.write_whole", slow)
    adding = asyncio.create_task(asyncio.to_thread(post.add, "a"))
    await asyncio.to_thread(stands.wait, 20)
    delivering = asyncio.create_task(post.delivery.round())
    # The loop is free: were it not, nothing would ever say that the disk goes on.
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert not adding.done()
    goes_on.set()
    await asyncio.gather(adding, delivering)
    await post.delivery.round()
    assert post.sent == [("one", "a")]
