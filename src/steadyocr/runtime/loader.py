"""Choosing and opening a backend. The libraries are imported inside the branch, so that one suffices."""

from __future__ import annotations

import importlib.util
import platform
from typing import Literal

from steadyocr.errors import BackendUnavailable, ModelCorrupt
from steadyocr.runtime.base import Session, SessionOptions
from steadyocr.runtime.manifest import Manifest

Backend = Literal["auto", "openvino", "onnxruntime"]


def resolve_backend(wanted: Backend) -> Backend:
    """Turn ``auto`` into the best backend installed here.

    Raises:
        BackendUnavailable: The library asked for is not installed.
    """
    if wanted == "auto":
        x86 = platform.machine().lower() in {"x86_64", "amd64"}
        return "openvino" if x86 and _installed("openvino") else "onnxruntime"
    if not _installed(wanted):
        raise BackendUnavailable(f"the {wanted} package is not installed; install it or set runtime.backend = 'auto'")
    return wanted


def open_session(manifest: Manifest, backend: Backend, options: SessionOptions) -> Session:
    """Load a model after checking its hash.

    Raises:
        ModelMissing: The file is not there.
        ModelCorrupt: The file is not the manifest's, or the library cannot read it.
        BackendUnavailable: The library is not installed.
    """
    chosen = resolve_backend(backend)
    path = manifest.verified_file()
    try:
        if chosen == "openvino":
            from steadyocr.runtime.openvino import OpenVINOSession

            return OpenVINOSession(path, options)
        from steadyocr.runtime.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(path, options)
    except RuntimeError as error:
        raise ModelCorrupt(f"model {manifest.name} cannot be loaded by {chosen}: {error}") from error


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
