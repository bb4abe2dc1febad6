from __future__ import annotations

import errno

import pytest

from steadyocr.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineDied,
    InsufficientStorage,
    InternalError,
    MemoryPressure,
    NotFoundError,
    Quarantined,
    QueueFull,
    SteadyOCRError,
    UndecodableImage,
)
from steadyocr.jobs.quota import NoRoom
from steadyocr.jobs.verdicts import Verdict, as_typed, judge


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (UndecodableImage("x"), Verdict.FAIL),
        (Quarantined("x"), Verdict.BURY),
        (EngineDied("x"), Verdict.RETRY),
        (InternalError("x"), Verdict.RETRY),
        (KeyError("x"), Verdict.RETRY),
        (QueueFull("x"), Verdict.RELEASE),
        (Cancelled("x"), Verdict.RELEASE),
        (InsufficientStorage("the disk is full now"), Verdict.RELEASE),
        (NoRoom("beside what is promised"), Verdict.FAIL),
        (MemoryPressure("memory is short now", retry_after_s=10.0), Verdict.RELEASE),
        # It will not fit the next time either.
        (MemoryPressure("more than the service may use", needed_bytes=1), Verdict.RETRY),
        # Gone for good, or on a shared folder that is not mounted now.
        (NotFoundError("x"), Verdict.RETRY),
        (DeadlineExceeded("it only waited", began=False), Verdict.RELEASE),
        (DeadlineExceeded("an engine had it", began=True), Verdict.RETRY),
        (DeadlineExceeded("nobody says"), Verdict.RETRY),
        (OSError(errno.ENOSPC, "disk full"), Verdict.RELEASE),
        (OSError(errno.EDQUOT, "quota"), Verdict.RELEASE),
        (OSError(errno.EIO, "broken disk"), Verdict.RELEASE),
        (OSError(errno.ESTALE, "server away"), Verdict.RELEASE),
        (OSError(errno.EMFILE, "too many files"), Verdict.RELEASE),
        # What a strange archive may bring about must come to an end.
        (OSError(errno.EINVAL, "seek"), Verdict.RETRY),
        (OSError("no number"), Verdict.RETRY),
    ],
)
def test_verdicts(error: Exception, verdict: Verdict) -> None:
    assert judge(error) is verdict
    assert isinstance(as_typed(error), SteadyOCRError)


def test_a_storage_that_is_away_is_not_asked_all_the_time() -> None:
    assert as_typed(OSError(errno.EIO, "broken disk")).retry_after_s == 5.0
    assert as_typed(KeyError("x")).retry_after_s is None
