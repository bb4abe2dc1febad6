"""Who is to blame when an item did not work out: the item itself, bad luck, or nobody."""

from __future__ import annotations

from enum import Enum

from steadyocr.errors import (
    AccessError,
    Cancelled,
    ConfigError,
    EngineDied,
    InputError,
    InternalError,
    ModelError,
    NotFoundError,
    Quarantined,
    SteadyOCRError,
    Unavailable,
)


class Verdict(Enum):
    """What follows from an error."""

    # The item is what it is: it has failed and is not tried again.
    FAIL = "fail"
    # The item has ended engines until it was locked out: it is given up.
    BURY = "bury"
    # It may have been the item's fault or not: it counts, and is tried again a few times.
    RETRY = "retry"
    # The service could not do it now: the item goes back unblamed.
    RELEASE = "release"


_FAIL = (InputError, NotFoundError)
_RELEASE = (Unavailable, Cancelled, ModelError, AccessError, ConfigError)


def judge(error: BaseException) -> Verdict:
    """Return what follows from an error. A hang counts like a death: both end an engine."""
    if isinstance(error, Quarantined):
        return Verdict.BURY
    if isinstance(error, _FAIL):
        return Verdict.FAIL
    if isinstance(error, _RELEASE) and not isinstance(error, EngineDied):
        return Verdict.RELEASE
    return Verdict.RETRY


def as_typed(error: BaseException) -> SteadyOCRError:
    """Return an error of ours as it is, and any other as one of ours without its text, which nobody vouches for."""
    if isinstance(error, SteadyOCRError):
        return error
    return InternalError("something unexpected went wrong with this item; the log has the reason")
