from __future__ import annotations

import json
import logging
import sys
from datetime import datetime

import pytest

from steadyocr.telemetry.logging import ConsoleFormatter, JsonFormatter, configure, request_id_var

pytestmark = pytest.mark.usefixtures("untouched_logging")


def record(message: str = "Something happened", **fields: object) -> logging.LogRecord:
    made = logging.getLogger("steadyocr.test").makeRecord(
        "steadyocr.test", logging.WARNING, __file__, 1, message, (), None, extra=fields
    )
    assert isinstance(made, logging.LogRecord)
    return made


def test_a_json_line_holds_the_sentence_and_the_fields() -> None:
    line = JsonFormatter().format(record(duration_ms=1.5, name_in_chinese="图"))
    assert "\n" not in line
    entry = json.loads(line)
    moment = datetime.fromisoformat(entry.pop("time"))
    assert moment.utcoffset() is not None
    assert entry == {
        "level": "warning",
        "logger": "steadyocr.test",
        "message": "Something happened",
        "duration_ms": 1.5,
        "name_in_chinese": "图",
    }


def test_a_json_line_stays_one_line_whatever_is_logged() -> None:
    entry = json.loads(line := JsonFormatter().format(record("one\ntwo", text="a\nb", thing=object())))
    assert "\n" not in line
    assert entry["message"] == "one\ntwo"


def test_a_json_line_is_json_whatever_number_is_logged() -> None:
    line = JsonFormatter().format(record(ratio=float("nan"), most=float("inf"), slots={"a": float("-inf")}, n=1.5))
    entry = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert entry["message"] == "Something happened"
    assert (entry["ratio"], entry["most"], entry["slots"], entry["n"]) == ("nan", "inf", "{'a': -inf}", 1.5)


def test_the_request_id_is_in_every_line_of_its_request_only() -> None:
    token = request_id_var.set("abc")
    inside = json.loads(JsonFormatter().format(record()))
    request_id_var.reset(token)
    outside = json.loads(JsonFormatter().format(record()))
    assert inside["request_id"] == "abc"
    assert "request_id" not in outside


def test_an_exception_comes_with_its_trace() -> None:
    failed = record()
    try:
        int("boom")
    except ValueError:
        failed.exc_info = sys.exc_info()
    assert "ValueError: invalid literal" in json.loads(JsonFormatter().format(failed))["trace"]
    assert "ValueError: invalid literal" in ConsoleFormatter().format(failed)


def test_a_console_line_is_for_a_person() -> None:
    line = ConsoleFormatter().format(record(slot=3))
    assert "warning Something happened  slot=3" in line


def test_all_logs_go_to_standard_error_in_the_chosen_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logging.getLogger("any.library").info("hello", extra={"n": 1})
    logging.getLogger("any.library").debug("too quiet")
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["hello"]
