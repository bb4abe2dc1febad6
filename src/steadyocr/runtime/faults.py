"""What an inference library's exception means: its type says little, its words say more."""

from __future__ import annotations

from typing import Final

from steadyocr.runtime.base import DeviceMemoryError

# In lower case. Both libraries put all they meet into one type: torch a RuntimeError (its OutOfMemoryError comes from
# its own allocator only), ONNX Runtime a type of its own. What cuDNN and cuBLAS cannot get has words of its own too.
_HOST_IS_FULL: Final = ("can't allocate memory", "std::bad_alloc")
_MEMORY_IS_FULL: Final = (
    *_HOST_IS_FULL,
    "out of memory",
    "failed to allocate ",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, the machine's or a card's, was not enough."""
    return isinstance(error, MemoryError) or _says(str(error), _MEMORY_IS_FULL)


def memory_error(device: str, reason: str) -> MemoryError:
    """Build the error that the layers above know: theirs is another remedy for a full card than for a full machine.

    Args:
        device: Where the network runs: ``cpu``, ``cuda`` or ``cuda:N``.
        reason: What the library said; the line of it that says so goes along.
    """
    lines = reason.splitlines() or [""]
    told = next((line for line in lines if _says(line, _MEMORY_IS_FULL)), lines[0])
    if device == "cpu" or _says(reason, _HOST_IS_FULL):
        return MemoryError(f"not enough memory for this picture: {told}")
    return DeviceMemoryError(f"the accelerator has not enough memory for this picture: {told}")


def _says(text: str, signs: tuple[str, ...]) -> bool:
    return any(sign in text.lower() for sign in signs)
