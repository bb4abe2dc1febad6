"""Who is to blame when an item did not work out: the item itself, bad luck, or nobody."""

from __future__ import annotations

import errno
from enum import Enum
from typing import Final

from steadyocr.errors import (
    AccessError,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    EngineDied,
    InputError,
    InternalError,
    MemoryPressure,
    ModelError,
    Quarantined,
    SteadyOCRError,
    Unavailable,
)
from steadyocr.jobs.quota import NoRoom


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


_RELEASE: Final = (Unavailable, Cancelled, ModelError, AccessError, ConfigError)
# Where pictures lie is full, broken, or not there: no item can change that. Not among them is what a strange archive
# may bring about (EINVAL, say) and what may be wrong with one file only (EACCES): those count.
_STORAGE_AWAY: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EROFS,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
    }
)
_LOOK_AGAIN_S: Final = 5.0


def judge(error: BaseException) -> Verdict:
    """Return what follows from an error. A hang counts like a death: both end an engine.

    A blob that is missing counts, and its item is tried again: it may be gone for good, or the folder that nodes share
    may not be mounted here. An archive that has no room beside what is promised has failed: room comes when clients
    delete what they have, and unpacking it again and again meanwhile would bring nobody anything.
    """
    if isinstance(error, Quarantined):
        return Verdict.BURY
    if isinstance(error, InputError | NoRoom):
        return Verdict.FAIL
    if isinstance(error, MemoryPressure) and error.retry_after_s is None:
        # Not a shortage of the moment: this picture, at any size that helps, is more than there is.
        return Verdict.RETRY
    released = isinstance(error, _RELEASE) and not isinstance(error, EngineDied)
    return Verdict.RELEASE if released or _waited_only(error) or _is_storage_away(error) else Verdict.RETRY


def _waited_only(error: BaseException) -> bool:
    """Whether the time ran out before an engine had the item; without word of it, it counts."""
    return isinstance(error, DeadlineExceeded) and error.details.get("began") is False


def _is_storage_away(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _STORAGE_AWAY


def as_typed(error: BaseException) -> SteadyOCRError:
    """Return an error of ours as it is, and any other as one of ours without its text, which nobody vouches for."""
    if isinstance(error, SteadyOCRError):
        return error
    wait_s = _LOOK_AGAIN_S if _is_storage_away(error) else None
    return InternalError("something unexpected went wrong with this item; the log has the reason", retry_after_s=wait_s)
