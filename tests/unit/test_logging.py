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


def test_a_field_cannot_take_the_place_of_what_every_json_line_says() -> None:
    extra = {"level": "SHED", "time": "now", "logger": "other", "before": "FULL"}
    entry = json.loads(JsonFormatter().format(record(**extra)))
    assert list(entry) == ["time", "level", "logger", "message", "before"]
    assert (entry["level"], entry["logger"], entry["before"]) == ("warning", "steadyocr.test", "FULL")
    assert entry["time"] != "now"


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


# What moves a terminal's cursor or hides a line, and what some readers of logs take for the end of one.
CONTROLS = "\x00\x07\x08\x0b\x0c\r\x1b\x1e\x7f\x85\x9b\u2028\u2029"


@pytest.mark.parametrize("formatter", [ConsoleFormatter(), JsonFormatter()])
def test_control_characters_are_written_as_text(formatter: logging.Formatter) -> None:
    line = formatter.format(record(f"said {CONTROLS}", line=f"\x1b[2Jgone\rforged {CONTROLS} 图"))
    assert [letter for letter in line if letter in CONTROLS] == []
    assert "\\u001b[2Jgone\\" in line
    assert "图" in line


def test_what_is_written_as_text_reads_back_from_json() -> None:
    assert json.loads(JsonFormatter().format(record(line=CONTROLS)))["line"] == CONTROLS


def test_tabs_and_lines_of_a_trace_stay_for_a_person() -> None:
    failed = record()
    failed.exc_text = "Traceback:\n\tValueError: \x1b[2J"
    assert ConsoleFormatter().format(failed).endswith("\nTraceback:\n\tValueError: \\u001b[2J")


def test_all_logs_go_to_standard_error_in_the_chosen_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logging.getLogger("any.library").info("hello", extra={"n": 1})
    logging.getLogger("any.library").debug("too quiet")
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["hello"]
