"""Every error the product raises on purpose, with a stable code.

The tree::

    SteadyOCRError
    ├── InputError              the picture or the request is at fault; repeating it will not help
    │   ├── EmptyInput · PayloadTooLarge · TooManyPixels · SideRatioExceeded
    │   ├── UnsupportedMediaType · UndecodableImage · InvalidOption · InvalidRequest
    │   └── UploadTimeout · Quarantined
    ├── AccessError
    │   ├── Unauthorized
    │   └── RateLimited
    ├── NotFoundError
    │   └── JobNotFound · MapExpired
    ├── ConflictError
    │   └── IdempotencyConflict
    ├── Unavailable             the service is at fault or busy; repeating it later may help
    │   ├── QueueFull · MemoryPressure · NotReady · Draining · EngineDied
    │   └── InsufficientStorage
    ├── DeadlineExceeded · Cancelled
    ├── ModelError
    │   ├── ModelMissing · ModelCorrupt · CheckpointMismatch
    │   └── BackendUnavailable
    ├── DatasetError
    ├── ConfigError
    └── InternalError

Nothing here knows HTTP or exit codes: the api and the cli each hold one table from code to theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final


class SteadyOCRError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What happened and what to do next, fit for the client: no path, no picture content.
        retry_after_s: When a retry is worth while, in seconds, where that is known.
        details: Plain values that help a program to react (limits, sizes); never the input itself.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.details: dict[str, object] = details

    def to_wire(self) -> dict[str, Any]:
        """Return plain values that :func:`from_wire` turns back into the same error."""
        return {
            "code": self.code,
            "message": self.message,
            "retry_after_s": self.retry_after_s,
            "details": self.details,
        }


class InputError(SteadyOCRError):
    """The picture or the request is at fault."""

    code = "invalid_input"


class EmptyInput(InputError):
    """There was no picture in the request."""

    code = "empty_input"


class PayloadTooLarge(InputError):
    """More bytes than the configured limit."""

    code = "payload_too_large"


class TooManyPixels(InputError):
    """The header announces more pixels than the configured limit."""

    code = "too_many_pixels"


class SideRatioExceeded(InputError):
    """The longer side is too many times the shorter one."""

    code = "side_ratio_exceeded"


class UnsupportedMediaType(InputError):
    """The bytes are not of a picture format that is read here."""

    code = "unsupported_media_type"


class UndecodableImage(InputError):
    """The format is known but the picture is damaged or cut off."""

    code = "undecodable_image"


class InvalidOption(InputError):
    """An option is unknown, of the wrong type or out of range."""

    code = "invalid_option"


class InvalidRequest(InputError):
    """The request as a whole cannot be understood."""

    code = "invalid_request"


class UploadTimeout(InputError):
    """The request's body came in too slowly, or stopped coming."""

    code = "upload_timeout"
    retryable = True


class Quarantined(InputError):
    """This very picture has ended engines before and is refused."""

    code = "quarantined"


class AccessError(SteadyOCRError):
    """The client may not do this, or not now."""

    code = "forbidden"


class Unauthorized(AccessError):
    """No API key, or a wrong one."""

    code = "unauthorized"


class RateLimited(AccessError):
    """This client has too much in the works."""

    code = "rate_limited"
    retryable = True


class NotFoundError(SteadyOCRError):
    """No such thing."""

    code = "not_found"


class JobNotFound(NotFoundError):
    """No such job."""

    code = "job_not_found"


class MapExpired(NotFoundError):
    """No such probability map, or not any more."""

    code = "map_expired"


class ConflictError(SteadyOCRError):
    """The state does not allow it."""

    code = "conflict"


class IdempotencyConflict(ConflictError):
    """The idempotency key was used with another body."""

    code = "idempotency_conflict"


class Unavailable(SteadyOCRError):
    """The service cannot do it now."""

    code = "unavailable"
    retryable = True


class QueueFull(Unavailable):
    """The admission queue is full."""

    code = "queue_full"


class MemoryPressure(Unavailable):
    """Memory is short; work is shed."""

    code = "memory_pressure"


class NotReady(Unavailable):
    """No engine is ready yet."""

    code = "not_ready"


class Draining(Unavailable):
    """The service is shutting down."""

    code = "draining"


class EngineDied(Unavailable):
    """The engine process died with this picture in hand, more than once."""

    code = "engine_died"


class InsufficientStorage(Unavailable):
    """The disk is too full to take this."""

    code = "insufficient_storage"


class DeadlineExceeded(SteadyOCRError):
    """The time allowed for this request ran out."""

    code = "deadline_exceeded"
    retryable = True


class Cancelled(SteadyOCRError):
    """The work was cancelled before it ended."""

    code = "cancelled"


class ModelError(SteadyOCRError):
    """A model or its file is not as it must be."""

    code = "model_error"


class ModelMissing(ModelError):
    """The model, or a file of it, is not there."""

    code = "model_missing"


class ModelCorrupt(ModelError):
    """A model file does not match its manifest."""

    code = "model_corrupt"


class CheckpointMismatch(ModelError):
    """A checkpoint does not fit the network."""

    code = "checkpoint_mismatch"


class BackendUnavailable(ModelError):
    """The inference library asked for is not installed or does not run here."""

    code = "backend_unavailable"


class DatasetError(SteadyOCRError):
    """A data set cannot be used as it is."""

    code = "dataset_error"


class ConfigError(SteadyOCRError):
    """The configuration cannot be used."""

    code = "invalid_configuration"


class InternalError(SteadyOCRError):
    """A fault of ours; the log has the trace under the request id."""

    code = "internal"
    retryable = True


def _subclasses(root: type[SteadyOCRError]) -> Iterator[type[SteadyOCRError]]:
    yield root
    for child in root.__subclasses__():
        yield from _subclasses(child)


ERRORS_BY_CODE: Final[Mapping[str, type[SteadyOCRError]]] = {kind.code: kind for kind in _subclasses(SteadyOCRError)}


def from_wire(values: Mapping[str, Any]) -> SteadyOCRError:
    """Rebuild an error from :meth:`SteadyOCRError.to_wire`; an unknown code becomes `InternalError`."""
    kind = ERRORS_BY_CODE.get(str(values.get("code")), InternalError)
    return kind(
        str(values.get("message", "")), retry_after_s=values.get("retry_after_s"), **values.get("details") or {}
    )
