from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from steadyocr.telemetry.log_files import dropped_records
from steadyocr.telemetry.logging import JsonFormatter, request_id_var
from steadyocr.telemetry.relay import MAX_LINE_BYTES, LineRelay


def line_of(message: str, **fields: object) -> bytes:
    record = logging.getLogger("steadyocr.engine").makeRecord(
        "steadyocr.engine", logging.ERROR, __file__, 1, message, (), None, extra=fields
    )
    return JsonFormatter().format(record).encode() + b"\n"


@pytest.fixture
def relay(caplog: pytest.LogCaptureFixture) -> LineRelay:
    caplog.set_level(logging.INFO)
    return LineRelay({"engine_pid": 7}, clock=lambda: 0.0)


def test_an_engines_record_comes_out_as_it_went_in(relay: LineRelay, caplog: pytest.LogCaptureFixture) -> None:
    token = request_id_var.set("r1")
    sent = line_of("Unexpected failure on one picture", stage="detect")
    request_id_var.reset(token)
    relay.feed(sent)
    (record,) = caplog.records
    came, went = json.loads(JsonFormatter().format(record)), json.loads(sent)
    assert came == {**went, "engine_pid": 7}
    assert came["request_id"] == "r1"


def test_a_trace_comes_along(relay: LineRelay, caplog: pytest.LogCaptureFixture) -> None:
    try:
        int("boom")
    except ValueError:
        record = logging.makeLogRecord({"msg": "bad", "levelname": "ERROR", "exc_info": sys.exc_info()})
    relay.feed(JsonFormatter().format(record).encode() + b"\n")
    assert "ValueError: invalid literal" in json.loads(JsonFormatter().format(caplog.records[0]))["trace"]


def test_percent_signs_and_braces_in_a_message_do_no_harm(relay: LineRelay, caplog: pytest.LogCaptureFixture) -> None:
    relay.feed(line_of("100 %s of {all} %d"))
    assert caplog.records[0].getMessage() == "100 %s of {all} %d"


def test_fields_cannot_overwrite_what_a_record_is_made_of(relay: LineRelay, caplog: pytest.LogCaptureFixture) -> None:
    entry = {"time": datetime.now(UTC).isoformat(), "level": "error", "logger": "a", "message": "b", "args": [1, 2]}
    relay.feed(json.dumps({**entry, "levelno": "high", "msg": 5}).encode() + b"\n")
    assert (caplog.records[0].getMessage(), caplog.records[0].levelno) == ("b", logging.ERROR)


@pytest.mark.parametrize(
    "line",
    [
        b"Fatal Python error: Segmentation fault",
        b'{"time": 1}',
        b"[]",
        b'{"time": "x", "level": "error", "logger": "a", "message": "b"}',
        b"\xff\xfe\x00",
        b"[" * 5000,
    ],
)
def test_what_a_library_prints_is_a_warning_with_the_line(
    relay: LineRelay, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    relay.feed(line + b"\n")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "An engine wrote to its standard error")
    assert len(vars(record)["line"]) <= 500


def test_lines_may_come_in_pieces_and_the_last_without_an_end(
    relay: LineRelay, caplog: pytest.LogCaptureFixture
) -> None:
    for byte in b"one\ntwo\n\nthree":
        relay.feed(bytes([byte]))
    relay.feed(b"")
    assert [vars(record)["line"] for record in caplog.records] == ["one", "two", "three"]


def test_a_line_without_an_end_does_not_fill_the_memory(relay: LineRelay, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        relay.feed(b"x" * MAX_LINE_BYTES)
    assert len(relay._rest) <= MAX_LINE_BYTES
    assert len(caplog.records) >= 5


def test_an_engine_that_prints_without_end_is_cut_off_each_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    relay = LineRelay({}, clock=lambda: now)
    before = dropped_records()
    relay.feed(b"noise\n" * 1000)
    assert (len(caplog.records), dropped_records() - before) == (200, 800)
    now = 1.0
    relay.feed(b"noise\n")
    assert len(caplog.records) == 201


def test_the_fronts_threshold_holds(relay: LineRelay, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    relay.feed(line_of("not loud enough"))
    assert caplog.records == []
