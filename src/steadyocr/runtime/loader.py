"""Choosing and opening a backend. The libraries are imported inside the branch, so that one suffices."""

from __future__ import annotations

import importlib.util
import platform
from typing import Literal

from steadyocr.errors import BackendUnavailable, ModelCorrupt, SteadyOCRError
from steadyocr.runtime.base import Session, SessionOptions
from steadyocr.runtime.manifest import Manifest
from steadyocr.runtime.nvml import card_index

Backend = Literal["auto", "openvino", "onnxruntime", "torch"]
# What reads a model file for torch.
_TORCH_NEEDS = ("torch", "onnx")


def resolve_backend(wanted: Backend, device: str = "cpu") -> Backend:
    """Turn ``auto`` into the best backend installed here for a device.

    Raises:
        BackendUnavailable: The library asked for is not installed, or does not run on the device.
    """
    on_cpu = device == "cpu"
    if wanted == "auto":
        if not on_cpu:
            return "torch" if all(map(_installed, _TORCH_NEEDS)) else "onnxruntime"
        x86 = platform.machine().lower() in {"x86_64", "amd64"}
        return "openvino" if x86 and _installed("openvino") else "onnxruntime"
    if wanted == "openvino" and not on_cpu:
        raise BackendUnavailable(
            "openvino runs on the CPU only; set engines.backend to 'torch' or 'onnxruntime', or engines.device = 'cpu'"
        )
    for package in _TORCH_NEEDS if wanted == "torch" else (wanted,):
        if not _installed(package):
            raise BackendUnavailable(
                f"the {package} package is not installed; install it or set engines.backend = 'auto'"
            )
    return wanted


def refuse_blind_library(wanted: Backend, device: str) -> None:
    """Refuse what engines would refuse when they start: a library that is not there, or does not see the card.

    Raises:
        BackendUnavailable: It is so.
    """
    chosen = resolve_backend(wanted, device)
    if device == "cpu":
        return
    if chosen == "torch":
        from steadyocr.runtime import torch

        torch.refuse_without_cuda(card_index(device))
    else:
        from steadyocr.runtime import onnxruntime

        onnxruntime.refuse_without_cuda()


def open_session(manifest: Manifest, backend: Backend, options: SessionOptions) -> Session:
    """Load a model after checking its hash.

    Raises:
        ModelMissing: The file is not there.
        ModelCorrupt: The file is not the manifest's, or the library cannot read it.
        BackendUnavailable: The library is not installed or does not run on the device.
    """
    chosen = resolve_backend(backend, options.device)
    path = manifest.verified_file()
    try:
        if chosen == "openvino":
            from steadyocr.runtime.openvino import OpenVINOSession

            return OpenVINOSession(path, options)
        if chosen == "torch":
            from steadyocr.runtime.torch import TorchSession

            return TorchSession(path, options)
        from steadyocr.runtime.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(path, options)
    except (SteadyOCRError, MemoryError):
        raise
    except Exception as error:  # each library has types of its own
        raise ModelCorrupt(f"model {manifest.name} cannot be loaded by {chosen}: {error}") from error


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
