"""A detector as OpenVINO IR, for use outside this service: ``NAME.xml`` and ``NAME.bin``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import openvino as ov

from steadyocr.runtime.openvino import core

IR_NAME: Final = "model.xml"


def write_ir(onnx: Path, folder: Path, *, fp16_storage: bool = True) -> Path:
    """Convert an ONNX file.

    Args:
        onnx: The file.
        folder: To be created if need be; an older ``model.xml`` in it is replaced.
        fp16_storage: Keep weights as float16.

    Returns:
        The ``.xml`` file; its weights lie beside it in a ``.bin`` file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / IR_NAME
    ov.save_model(core().read_model(onnx), path, compress_to_fp16=fp16_storage)
    return path
