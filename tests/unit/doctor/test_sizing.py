"""The rule for engines, threads and cores."""

from __future__ import annotations

import pytest

from steadyocr.ops.sizing import threads_agree


@pytest.mark.parametrize(
    ("engines", "threads", "cores", "agree"),
    [
        (1, 1, 1, True),
        (2, 1, 1, True),
        (1, 2, 1, False),
        (3, 1, 1, False),
        (2, 2, 2, True),
        (4, 1, 2, True),
        (1, 3, 2, False),
        (3, 2, 2, False),
        (4, 16, 32, True),
    ],
)
def test_engines_may_overlap_but_the_threads_of_one_may_not(
    engines: int, threads: int, cores: int, agree: bool
) -> None:
    assert threads_agree(engines, threads, cores) is agree
