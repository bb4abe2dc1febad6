"""The parts of ``steadyocr batch``: which files, which names, which words."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console

from steadyocr.cli.batch import in_parts
from steadyocr.cli.batch_files import Source, collect, fingerprint
from steadyocr.cli.batch_notes import Notes
from steadyocr.cli.batch_output import open_output
from steadyocr.cli.batch_report import Report
from steadyocr.cli.remote import Form, Remote
from steadyocr.errors import EmptyInput, InvalidOption, Unavailable

PAGE = {"text": "您好", "lines": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.webp", ".hidden/d.png", "sub/.e.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(sources: list[Source]) -> list[str]:
    return [source.name for source in sources]


def test_a_folder_gives_its_pictures_in_order(folder: Path) -> None:
    assert names(collect([str(folder)])) == ["a.JPG", "b.png", "sub/c.webp"]


def test_a_named_file_is_taken_whatever_it_ends_in_and_each_once(folder: Path) -> None:
    given = [str(folder / "notes.txt"), str(folder), str(folder / "b.png")]
    assert names(collect(given)) == ["notes.txt", "a.JPG", "b.png", "sub/c.webp"]


def test_patterns_are_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names(collect(["*.png"])) == ["b.png"]
    assert names(collect(["**/*.webp"])) == ["sub/c.webp"]


@pytest.mark.parametrize("nothing", ["missing.png", "*.bmp", "empty"])
def test_what_leads_to_nothing_is_refused(folder: Path, nothing: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(EmptyInput, match="no file is there"):
        collect([str(folder / nothing)])


def lock(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a folder one that may not be read; whoever is root may read all that there is."""
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize("locked", [".", "sub"])
def test_a_folder_that_cannot_be_read_is_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    lock(monkeypatch, folder / locked)
    with pytest.raises(EmptyInput, match=f"^{re.escape(str(folder / locked))}: cannot be read: Permission denied$"):
        collect([str(folder)])


def test_a_folder_that_cannot_be_entered_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(EmptyInput, match=r"a\.JPG: cannot be read: Permission denied$"):
        collect([str(folder)])


def test_what_is_hidden_need_not_be_readable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(monkeypatch, folder / ".hidden")
    assert names(collect([str(folder)])) == ["a.JPG", "b.png", "sub/c.webp"]


def test_a_batch_is_known_by_names_contents_and_options(folder: Path) -> None:
    sources = collect([str(folder)])
    first = fingerprint(sources, {"max_side": 640})
    assert fingerprint(collect([str(folder)]), {"max_side": 640}) == first
    assert fingerprint(sources, {"max_side": 960}) != first
    assert fingerprint(sources[:-1], {"max_side": 640}) != first
    renamed = [Source(sources[0].path, "other.jpg"), *sources[1:]]
    assert fingerprint(renamed, {"max_side": 640}) != first
    sources[0].path.write_bytes(b"changed")
    assert fingerprint(sources, {"max_side": 640}) != first


def test_a_name_that_is_no_text_is_sent_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xe9.png")
    (tmp_path / name).write_bytes(b"x")
    sources = collect([str(tmp_path)])
    assert [source.name for source in sources] == [name]
    assert fingerprint(sources, {}) != fingerprint([Source(sources[0].path, "e.png")], {})
    assert b'filename="\\udce9.png"' in b"".join(Form(sources))
    open_output(None, "text").write(name, PAGE, b"")
    assert "\\udce9.png" in capsys.readouterr().out


def test_no_job_is_more_than_a_server_takes(tmp_path: Path) -> None:
    sources = []
    for number, size in enumerate((300, 300, 1, 600, 1)):
        path = tmp_path / f"{number}.png"
        with path.open("wb") as stream:
            stream.truncate(size << 20)
        sources.append(Source(path, path.name))
    parts = [[source.name for source in part] for part in in_parts(sources)]
    assert parts == [["0.png"], ["1.png", "2.png"], ["3.png"], ["4.png"]]
    many = [Source(sources[2].path, "x")] * 4001
    many_small = [Source(tmp_path / "gone.png", "x") for _ in many]
    assert [len(part) for part in in_parts(many_small)] == [2000, 2000, 1]


def test_a_file_that_cannot_be_read_is_told_by_name(folder: Path) -> None:
    with pytest.raises(EmptyInput, match="gone"):
        fingerprint([Source(folder / "gone.png", "gone.png")], {})


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.png", "a.png.txt"),
        ("sub/a.png", "sub/a.png.txt"),
        ("/etc/passwd", "etc/passwd.txt"),
        ("../../up.png", "up.png.txt"),
        ("..\\up.png", "up.png.txt"),
        ("//etc/passwd", "etc/passwd.txt"),
        ("\\\\host\\share.png", "host/share.png.txt"),
        ("字" * 84 + ".png", "字" * 76 + ".txt"),
        ("\udce9.png", "_.png.txt"),
        ("C:\\x.png", "C_/x.png.txt"),
        ("a\nb\0.png", "a_b_.png.txt"),
        ("..", "unnamed.txt"),
        ("", "unnamed.txt"),
    ],
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str, file: str) -> None:
    out = tmp_path / "out"
    open_output(out, "text").write(name, PAGE, b"")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.relative_to(out).as_posix() for path in written] == [file]


def test_equal_names_are_numbered_in_the_order_of_the_answers(tmp_path: Path) -> None:
    output = open_output(tmp_path, "json")
    for _ in range(3):
        output.write("a.png", PAGE, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png.2.json", "a.png.3.json", "a.png.json"]
    assert json.loads((tmp_path / "a.png.json").read_text()) == PAGE


def test_an_overlay_is_written_as_it_is(tmp_path: Path) -> None:
    open_output(tmp_path, "overlay.png").write("a.png", PAGE, b"picture")
    assert (tmp_path / "a.png.overlay.png").read_bytes() == b"picture"


def test_without_a_folder_answers_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    open_output(None, "text").write("a.png", PAGE, b"")
    open_output(None, "json").write("b.png", PAGE, b"")
    text, line = capsys.readouterr().out.split("您好\n", 1)
    assert text == "==> a.png <==\n"
    assert json.loads(line) == {"file": "b.png", **PAGE}


def test_notes_find_a_batch_by_content_and_server_and_forget_what_is_old(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes")
    assert notes.job_of("key", "") is None
    notes.remember("key", "", "1")
    notes.remember("key", "http://a", "2")
    assert (notes.job_of("key", ""), notes.job_of("key", "http://a"), notes.job_of("other", "")) == ("1", "2", None)
    long_ago = time.time() - 40 * 86_400
    for path in (tmp_path / "notes").iterdir():
        os.utime(path, (long_ago, long_ago))
    notes.remember("new", "", "3")
    assert notes.job_of("key", "") is None
    assert len(list((tmp_path / "notes").iterdir())) == 1


def test_where_nobody_watches_a_line_comes_now_and_then() -> None:
    now = [0.0]
    console = Console(file=io.StringIO(), width=200)
    with Report(console, lambda: now[0]) as report:
        for ended in range(100):
            now[0] += 0.5
            report.show(total=100, ended=ended, failed=ended // 50, eta_s=600.0 if ended > 40 else None)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "9/100"
    assert lines[-1] == "99/100, 1 failed, about 10 min left"


def test_on_a_terminal_a_bar_is_drawn_and_no_line() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Report(console, lambda: 1e9) as report:
        report.show(total=10, ended=3, failed=0, eta_s=30.0)
        report.say("beside it")
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "3/10" in drawn
    assert "about 30 s left" in drawn
    assert "beside it" in drawn


@pytest.mark.parametrize("url", ["localhost:7860", "ftp://x", "http://", "http://x:port"])
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption):
        Remote(url)


def test_patience_with_a_server_that_is_away_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("steadyocr.cli.remote.time.monotonic", lambda: now[0])
    said: list[str] = []
    remote = Remote("http://127.0.0.1:1", say=said.append, sleep=sleep)
    with pytest.raises(Unavailable, match="does not answer"):
        remote.json("GET", "/v1/jobs")
    assert sum(slept) <= 15, "an address where nobody has ever answered may be wrong"
    assert said == ["127.0.0.1 does not answer: the connection failed or broke off; trying again"]
    remote._there_before = True
    slept.clear()
    with pytest.raises(Unavailable, match="does not answer"):
        remote.json("GET", "/v1/jobs")
    assert 200 < sum(slept) <= 300
    assert max(slept) <= 15


def test_each_long_try_has_the_whole_patience_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tries = [0.0], 0

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("steadyocr.cli.remote.time.monotonic", lambda: now[0])
    remote = Remote("http://127.0.0.1:1", sleep=sleep)
    remote._there_before = True

    def upload() -> bytes:
        nonlocal tries
        tries += 1
        if tries in (1, 10):
            now[0] += 400.0
        if tries < 20:
            raise Unavailable("broken off")
        return b"taken"

    assert remote._patiently(upload) == b"taken"


def test_a_server_restarted_during_a_long_upload_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request of all may be the upload, and be under way for longer than a server is waited for."""
    (tmp_path / "a.png").write_bytes(b"x")
    now = [0.0]
    monkeypatch.setattr("steadyocr.cli.remote.time.monotonic", lambda: now[0])
    servers = [socket.create_server(("127.0.0.1", 0))]
    address = servers[0].getsockname()

    def break_off() -> None:
        with servers[0] as server, server.accept()[0] as connection:
            connection.recv(1000)
            now[0] = 400.0
            server.close()

    def answer() -> None:
        servers[1].settimeout(20)
        with servers[1] as server, server.accept()[0] as connection:
            while (piece := connection.recv(1000)) and not piece.endswith(b"0\r\n\r\n"):
                pass
            connection.sendall(b'HTTP/1.1 202 Accepted\r\nContent-Length: 11\r\n\r\n{"id": "1"}')

    with ThreadPoolExecutor(2) as pool:

        def sleep(seconds: float) -> None:
            now[0] += seconds
            if now[0] > 500 and len(servers) == 1:
                servers.append(socket.create_server(address))
                pool.submit(answer)

        pool.submit(break_off)
        said: list[str] = []
        remote = Remote(f"http://127.0.0.1:{address[1]}", say=said.append, sleep=sleep)
        assert remote.upload("/v1/jobs", Form([Source(tmp_path / "a.png", "a.png")]), {}) == {"id": "1"}
    assert 500 < now[0] < 600
    assert len(said) == 1


def test_who_waits_for_a_server_is_called_off() -> None:
    """A thread that waits would keep the process from ending."""
    waiting = threading.Event()
    remote = Remote("http://127.0.0.1:1", say=lambda _: waiting.set())
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(remote.json, "GET", "/v1/jobs")
        waiting.wait(20)
        remote.close()
        with pytest.raises(Unavailable):
            asking.result(10)


@pytest.mark.parametrize("part", ["upload", "answer", "rest of the answer"])
def test_a_request_under_way_is_called_off(tmp_path: Path, part: str) -> None:
    """So is a thread that sends to a slow server, or waits for what it says."""
    path = tmp_path / "a.png"
    with path.open("wb") as stream:
        stream.truncate(64 << 20 if part == "upload" else 1)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        remote = Remote(f"http://127.0.0.1:{server.getsockname()[1]}")
        sending = pool.submit(remote.upload, "/v1/jobs", Form([Source(path, "a.png")]), {})
        connection, _ = server.accept()
        with connection:
            taken = connection.recv(1000)
            while part != "upload" and not taken.endswith(b"\r\n0\r\n\r\n"):
                taken += connection.recv(1000)
            if part == "rest of the answer":
                connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{")
            time.sleep(0.2)  # for it to wait, or to read what came
            remote.close()
            with pytest.raises(Unavailable):
                sending.result(10)


def test_a_request_that_comes_late_is_called_off_as_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        remote = Remote(f"http://127.0.0.1:{server.getsockname()[1]}")
        remote.close()
        with pytest.raises(Unavailable):
            pool.submit(remote.json, "GET", "/v1/jobs").result(10)


def test_a_form_is_what_it_says_whatever_files_are_called(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    body = b"".join(Form([Source(path, 'a"b\\c\r\n.png')], "between"))
    assert body == (
        b'--between\r\nContent-Disposition: form-data; name="files"; filename="a\\"b\\\\c  .png"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\ncontent\r\n--between--\r\n"
    )
