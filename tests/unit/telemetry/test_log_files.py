from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from steadyocr.telemetry.log_files import LogFiles, RotatedFileHandler, dropped_records
from steadyocr.telemetry.logging import JournalFormatter, JsonFormatter, configure


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """One rotated file."""

    def __init__(self, folder: Path, **bounds: float) -> None:
        self.clock = Clock()
        self.files = LogFiles(folder=folder / "logs", **bounds)  # type: ignore[arg-type]
        self.handler = self.opened()

    def opened(self) -> RotatedFileHandler:
        handler = RotatedFileHandler(self.files, "out.log", self.clock)
        handler.setFormatter(JsonFormatter())
        return handler

    def write(self, message: str) -> None:
        record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "created": self.clock.now})
        self.handler.emit(record)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.files.folder.iterdir())

    def messages(self, name: str = "out.log") -> list[str]:
        lines = (self.files.folder / name).read_text().splitlines()
        return [json.loads(line)["message"] for line in lines]


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[Callable[..., Log]]:
    made: list[Log] = []

    def make(**bounds: float) -> Log:
        made.append(Log(tmp_path, **bounds))
        return made[-1]

    yield make
    for log in made:
        log.handler.close()


def test_a_file_never_passes_its_size_and_only_so_many_are_kept(make_log: Callable[..., Log]) -> None:
    log = make_log(max_bytes=1000, keep=3)
    for number in range(100):
        log.write(f"line {number}")
    assert log.names() == ["out.log", "out.log.1", "out.log.2", "out.log.3"]
    assert all((log.files.folder / name).stat().st_size <= 1000 for name in log.names())
    kept = [message for name in reversed(log.names()) for message in log.messages(name)]
    assert kept == [f"line {number}" for number in range(100 - len(kept), 100)]


def test_one_kept_file_is_enough(make_log: Callable[..., Log]) -> None:
    log = make_log(max_bytes=200, keep=1)
    for number in range(10):
        log.write(f"line {number}")
    assert log.names() == ["out.log", "out.log.1"]


def test_a_line_larger_than_a_file_is_written_all_the_same(make_log: Callable[..., Log]) -> None:
    log = make_log(max_bytes=100, keep=2)
    log.write("x" * 1000)
    log.write("next")
    assert log.messages("out.log.1") == ["x" * 1000]
    assert log.messages() == ["next"]


def test_a_file_is_rotated_when_its_first_line_is_old_also_after_a_restart(make_log: Callable[..., Log]) -> None:
    log = make_log(max_age_s=3600)
    log.write("first")
    log.clock.now += 3599
    log.handler.close()
    log.handler = log.opened()
    log.write("second")
    assert log.names() == ["out.log"]
    log.clock.now += 1
    log.write("third")
    assert (log.messages("out.log.1"), log.messages()) == (["first", "second"], ["third"])


def test_an_empty_file_is_not_rotated_for_its_age(make_log: Callable[..., Log]) -> None:
    log = make_log(max_age_s=60)
    log.clock.now += 1000
    log.write("first")
    assert log.names() == ["out.log"]


def test_a_file_that_somebody_else_wrote_counts_from_now(make_log: Callable[..., Log]) -> None:
    log = make_log(max_age_s=60)
    log.handler.close()
    (log.files.folder / "out.log").write_bytes(b"not json\n")
    log.handler = log.opened()
    log.clock.now += 59
    log.write("ours")
    assert log.names() == ["out.log"]


def test_the_age_counts_although_the_first_line_is_long(make_log: Callable[..., Log]) -> None:
    log = make_log(max_age_s=3600)
    log.write("x" * 10_000)
    log.handler.close()
    log.clock.now += 3600
    log.handler = log.opened()
    log.write("next")
    assert log.messages() == ["next"]


def test_a_file_that_was_removed_is_made_anew(make_log: Callable[..., Log]) -> None:
    log = make_log()
    log.write("before")
    (log.files.folder / "out.log").unlink()
    log.clock.now += 1
    log.write("after")
    assert log.messages() == ["after"]


def test_a_file_that_was_moved_away_is_made_anew(make_log: Callable[..., Log]) -> None:
    log = make_log()
    log.write("before")
    (log.files.folder / "out.log").rename(log.files.folder / "mine")
    log.clock.now += 1
    log.write("after")
    assert (log.messages("mine"), log.messages()) == (["before"], ["after"])


def test_a_folder_that_was_removed_is_made_anew(make_log: Callable[..., Log]) -> None:
    log = make_log()
    (log.files.folder / "out.log").unlink()
    log.files.folder.rmdir()
    log.clock.now -= 5
    log.write("after")
    assert log.messages() == ["after"]


def test_whether_the_file_is_there_is_looked_at_once_a_second(
    make_log: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_log()
    looks: list[Path] = []
    plain = Path.stat

    def noted(path: Path) -> os.stat_result:
        looks.append(path)
        return plain(path)

    monkeypatch.setattr(Path, "stat", noted)
    for _ in range(40):
        log.clock.now += 0.25
        log.write("line")
    monkeypatch.undo()
    assert len(looks) == 10


def test_a_file_that_is_gone_and_cannot_be_made_again_costs_lines_and_tells_so(make_log: Callable[..., Log]) -> None:
    log = make_log()
    (log.files.folder / "out.log").unlink()
    (log.files.folder / "out.log").mkdir()
    before = dropped_records()
    log.clock.now += 1
    log.write("lost")
    assert dropped_records() == before + 1
    (log.files.folder / "out.log").rmdir()
    log.clock.now += 1
    log.write("after")
    assert log.messages() == ["after"]


def test_a_rotation_finds_the_file_gone(make_log: Callable[..., Log]) -> None:
    log = make_log(max_bytes=200)
    log.write("before")
    (log.files.folder / "out.log").unlink()
    before = dropped_records()
    log.write("x" * 150)
    assert (log.names(), log.messages(), dropped_records()) == (["out.log"], ["x" * 150], before)


def test_files_that_a_longer_count_kept_are_deleted(make_log: Callable[..., Log]) -> None:
    log = make_log(max_bytes=200, keep=5)
    for number in range(10):
        log.write(f"line {number}")
    log.handler.close()
    (log.files.folder / "out.log.old").write_text("not ours")
    log.files = LogFiles(folder=log.files.folder, max_bytes=200, keep=2)
    log.handler = log.opened()
    assert log.names() == ["out.log", "out.log.1", "out.log.2", "out.log.old"]


def test_only_the_owner_may_read(make_log: Callable[..., Log]) -> None:
    log = make_log()
    assert stat.S_IMODE(log.files.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((log.files.folder / "out.log").stat().st_mode) == 0o600


@contextlib.contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """What a full disk does, without one: the kernel writes what fits and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_costs_lines_and_nothing_else(make_log: Callable[..., Log]) -> None:
    log = make_log()
    log.write("before")
    before = dropped_records()
    with files_limited_to((log.files.folder / "out.log").stat().st_size + 50):
        for _ in range(5):
            log.write("lost")
    assert dropped_records() == before + 5
    log.write("after")
    first, *_, last = (log.files.folder / "out.log").read_text().splitlines()
    assert (json.loads(first)["message"], json.loads(last)["message"]) == ("before", "after")


def test_a_rotation_that_fails_keeps_the_present_file(
    make_log: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_log(max_bytes=200)

    def refuses(*_: object) -> None:
        raise OSError(28, "No space left on device")

    log.write("first")
    before = dropped_records()
    monkeypatch.setattr(Path, "replace", refuses)
    for _ in range(10):
        log.write("on and on")
    assert len(log.messages()) == 11
    assert dropped_records() == before + 1
    monkeypatch.undo()
    log.clock.now += 11
    log.write("rotated at last")
    assert log.messages() == ["rotated at last"]


def test_a_record_that_cannot_be_rendered_is_dropped_and_counted(make_log: Callable[..., Log]) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no")

    log = make_log()
    before = dropped_records()
    log.handler.emit(logging.makeLogRecord({"msg": "odd", "levelname": "INFO", "thing": Odd()}))
    assert dropped_records() == before + 1


def test_a_closed_file_drops_and_may_be_closed_again(make_log: Callable[..., Log]) -> None:
    log = make_log()
    log.handler.close()
    log.handler.close()
    before = dropped_records()
    log.write("too late")
    assert dropped_records() == before + 1


@pytest.mark.usefixtures("untouched_logging")
def test_errors_have_a_file_of_their_own_with_their_traces(tmp_path: Path) -> None:
    configure("console", "info", LogFiles(folder=tmp_path / "logs"))
    log = logging.getLogger("steadyocr.test")
    log.info("all is well")
    try:
        int("boom")
    except ValueError:
        log.exception("It went wrong")
    everything, errors = [
        [json.loads(line) for line in (tmp_path / "logs" / name).read_text().splitlines()]
        for name in ("out.log", "error.log")
    ]
    configure("console", "info")
    assert [entry["message"] for entry in everything] == ["all is well", "It went wrong"]
    assert [entry["message"] for entry in errors] == ["It went wrong"]
    assert "ValueError: invalid literal" in errors[0]["trace"]
    assert datetime.fromisoformat(errors[0]["time"]).tzinfo == UTC


@pytest.mark.usefixtures("untouched_logging")
def test_log_files_that_cannot_be_opened_do_not_stop_anybody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    configure("json", "info", LogFiles(folder=tmp_path / "logs"))
    logging.getLogger("steadyocr.test").info("still there")
    messages = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert messages == ["A log file cannot be opened; standard error stays"] * 2 + ["still there"]


@pytest.mark.usefixtures("untouched_logging")
def test_standard_error_that_is_gone_costs_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as gone:
        monkeypatch.setattr("sys.stderr", gone)
        configure("json", "info")
        before = dropped_records()
        logging.getLogger("steadyocr.test").info("nobody hears this")
        assert dropped_records() == before + 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


def test_every_line_for_the_journal_has_its_priority() -> None:
    formatter = JournalFormatter(logging.Formatter("%(message)s"))
    for level, priority in (("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)):
        record = logging.makeLogRecord({"msg": "one\ntwo", "levelno": getattr(logging, level)})
        assert formatter.format(record) == f"<{priority}>one\n<{priority}>two"


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize("same_stream", [True, False])
def test_priorities_are_written_where_standard_error_is_the_journal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_stream: bool
) -> None:
    path = tmp_path / "stderr"
    with path.open("w", buffering=1) as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + (not same_stream)}")
        monkeypatch.setattr("sys.stderr", stream)
        configure("json", "info")
        logging.getLogger("steadyocr.test").warning("careful")
    assert path.read_text().startswith("<4>{" if same_stream else "{")
