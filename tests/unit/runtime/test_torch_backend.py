"""The torch backend where no built-in model leads it: single operations, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime as ort  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from steadyocr.errors import BackendUnavailable, ModelCorrupt  # noqa: E402
from steadyocr.runtime import device  # noqa: E402
from steadyocr.runtime.base import SessionOptions  # noqa: E402
from steadyocr.runtime.loader import open_session, resolve_backend  # noqa: E402
from steadyocr.runtime.manifest import Manifest, find_model, sha256_of  # noqa: E402
from steadyocr.runtime.torch import TorchSession  # noqa: E402
from steadyocr.runtime.torch_graph import TorchGraph  # noqa: E402
from steadyocr.runtime.torch_ops import OPERATIONS  # noqa: E402

OPTIONS = SessionOptions(threads=1, precision="f32")
RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(0.0, 1.0, shape).astype(np.float32)


def integers(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def write(
    path: Path, operation: str, constants: list[np.ndarray[Any, Any]], opset: int = 13, **attributes: Any
) -> Path:
    names = [f"c{place}" for place in range(len(constants))]
    graph = helper.make_graph(
        [helper.make_node(operation, ["x", *names], ["y"], **attributes)],
        "one operation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in zip(names, constants, strict=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


CASES: dict[str, tuple[str, list[np.ndarray[Any, Any]], dict[str, Any]]] = {
    "conv": (
        "Conv",
        [floats(6, 4, 3, 3), floats(6)],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    ),
    "conv padded unevenly": ("Conv", [floats(6, 4, 3, 3)], {"kernel_shape": [3, 3], "pads": [0, 1, 1, 2]}),
    "conv padded to the same size": (
        "Conv",
        [floats(4, 4, 2, 2)],
        {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    "conv in groups, dilated": (
        "Conv",
        [floats(4, 1, 3, 3)],
        {"kernel_shape": [3, 3], "group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]},
    ),
    "conv transpose": ("ConvTranspose", [floats(4, 3, 2, 2), floats(3)], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "max pool of negatives": (
        "MaxPool",
        [],
        {"kernel_shape": [2, 2], "strides": [1, 1], "auto_pad": "SAME_UPPER"},
    ),
    "average pool": ("AveragePool", [], {"kernel_shape": [3, 2], "strides": [3, 2]}),
    "average pool, edge not counted": (
        "AveragePool",
        [],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "count_include_pad": 0},
    ),
    "batch norm": ("BatchNormalization", [floats(4), floats(4), floats(4), np.abs(floats(4)) + 0.1], {}),
    "resize by scale": (
        "Resize",
        [np.zeros(0, np.float32), np.array([1, 1, 2, 4], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "hard sigmoid": ("HardSigmoid", [], {"alpha": 0.2, "beta": 0.5}),
    "clip": ("Clip", [np.array(-0.5, np.float32), np.array(0.5, np.float32)], {}),
    "gather": ("Gather", [integers(2, 0, 3)], {"axis": 1}),
    "slice": ("Slice", [integers(0, 1), integers(9999, -1), integers(1, 3), integers(2, 1)], {}),
    "reshape with kept sizes": ("Reshape", [integers(0, -1, 6)], {}),
    "unsqueeze": ("Unsqueeze", [integers(0, 3)], {}),
    "transpose": ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    "softmax": ("Softmax", [], {"axis": 1}),
    "mat mul": ("MatMul", [floats(8, 5)], {}),
    "mean": ("ReduceMean", [], {"axes": [2, 3], "keepdims": 1}),
    "global average": ("GlobalAveragePool", [], {}),
    "erf": ("Erf", [], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operation_gives_what_onnxruntime_gives(case: str, tmp_path: Path) -> None:
    operation, constants, attributes = CASES[case]
    path = write(tmp_path / "model.onnx", operation, constants, **attributes)
    batch = floats(2, 4, 12, 8) - np.float32(5.0 if "negatives" in case else 0.0)
    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": batch})[0]
    found = TorchSession(path, OPTIONS).run(batch)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "constants", "attributes"),
    [
        ("Conv", [floats(4, 4, 2, 2)], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        ("ConvTranspose", [floats(4, 3, 2, 2)], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
        ("Resize", [np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ],
)
def test_what_would_come_out_different_is_refused(
    tmp_path: Path, operation: str, constants: list[np.ndarray[Any, Any]], attributes: dict[str, Any]
) -> None:
    session = TorchSession(write(tmp_path / "model.onnx", operation, constants, **attributes), OPTIONS)
    with pytest.raises(BackendUnavailable, match="torch backend"):
        session.run(floats(1, 4, 8, 8))


def test_an_unknown_operation_is_named_when_the_model_is_loaded(tmp_path: Path) -> None:
    assert "Sinh" not in OPERATIONS
    with pytest.raises(BackendUnavailable, match="Sinh"):
        TorchSession(write(tmp_path / "model.onnx", "Sinh", []), OPTIONS)


def test_a_file_of_something_else_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\xff" * 100)
    values = {
        "name": "mine",
        "task": "detection",
        "licence": "none",
        "source": "here",
        "file": {"path": "model.onnx", "sha256": sha256_of(path)},
        "input": {"channel_order": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1]},
        "folder": tmp_path,
    }
    for backend in ("torch", "onnxruntime", "openvino"):
        with pytest.raises(ModelCorrupt):
            open_session(Manifest.model_validate(values), backend, OPTIONS)


def test_half_precision_is_near(tmp_path: Path) -> None:
    path = find_model("resnet18-db").verified_file()
    batch = floats(1, 3, 64, 96)
    exact = TorchSession(path, OPTIONS).run(batch)
    low = TorchGraph(path, torch.device("cpu"), torch.bfloat16)
    with torch.inference_mode():
        near = low.run(torch.from_numpy(batch)).float().numpy()
    assert 0 < np.abs(near - exact).max() < 0.1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino", "auto"])
def test_a_device_that_is_not_there_is_an_error_and_never_a_silent_cpu(backend: Any) -> None:
    with pytest.raises(BackendUnavailable, match=r"CUDA|CPU only"):
        open_session(find_model("resnet18-db"), backend, SessionOptions(threads=1, device="cuda"))


def test_without_a_package_its_backend_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.runtime.loader._installed", lambda package: package != "onnx")
    with pytest.raises(BackendUnavailable, match="onnx package"):
        resolve_backend("torch")
    assert resolve_backend("auto", "cuda") == "onnxruntime"
    monkeypatch.setattr("steadyocr.runtime.loader._installed", lambda _: True)
    assert resolve_backend("auto", "cuda:1") == "torch"


def test_without_a_card_nothing_is_held_on_it() -> None:
    device.reset_peak()
    assert (device.held_bytes(), device.peak_bytes()) == (0, 0)
