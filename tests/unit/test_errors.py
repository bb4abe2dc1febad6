from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from steadyocr import errors
from steadyocr.api.errors import STATUS_BY_CODE
from steadyocr.cli.exit_codes import EXIT_BY_CODE, ExitCode
from steadyocr.errors import ERRORS_BY_CODE, InternalError, SteadyOCRError, from_wire


def every_error() -> list[type[SteadyOCRError]]:
    def below(kind: type[SteadyOCRError]) -> Iterator[type[SteadyOCRError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    return [kind for kind in below(SteadyOCRError) if kind.__module__ == errors.__name__]


def test_no_two_errors_share_a_code() -> None:
    codes = Counter(kind.code for kind in every_error())
    assert [code for code, count in codes.items() if count > 1] == []


def test_http_knows_every_error_and_nothing_else() -> None:
    assert set(STATUS_BY_CODE) == {kind.code for kind in every_error()}


def test_the_command_line_knows_every_error_and_nothing_else() -> None:
    assert set(EXIT_BY_CODE) == {kind.code for kind in every_error()}


def test_no_error_ends_with_success() -> None:
    assert ExitCode.OK not in EXIT_BY_CODE.values()
    assert min(STATUS_BY_CODE.values()) >= 400


def test_what_a_client_may_repeat_is_never_called_the_clients_fault() -> None:
    # "Too many of you" and "too slow" may be otherwise next time.
    blamed_on_client = {code for code, status in STATUS_BY_CODE.items() if status < 500 and status not in (408, 429)}
    assert {code for code in blamed_on_client if ERRORS_BY_CODE[code].retryable} == set()


@pytest.mark.parametrize("kind", every_error())
def test_an_error_survives_the_wire(kind: type[SteadyOCRError]) -> None:
    sent = kind("what happened", retry_after_s=2.5, limit=7, name="图")
    received = from_wire(sent.to_wire())
    assert type(received) is kind
    assert received.to_wire() == sent.to_wire()
    assert str(received) == "what happened"


def test_an_unknown_code_from_the_wire_is_a_fault_of_ours() -> None:
    received = from_wire({"code": "from_the_future", "message": "?"})
    assert type(received) is InternalError
    assert received.message == "?"
