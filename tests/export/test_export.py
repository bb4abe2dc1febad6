"""Exported files answer as the network does, through both inference libraries."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="export needs torch, which is not installed")
onnx = pytest.importorskip("onnx", reason="export needs onnx, which is not installed")

from onnx import ModelProto, TensorProto, numpy_helper  # noqa: E402

from labelled import make_folder  # noqa: E402
from steadyocr.errors import ConfigError, ConflictError, DatasetError  # noqa: E402
from steadyocr.export import deliver, int8  # noqa: E402
from steadyocr.export.deliver import (  # noqa: E402
    Proof,
    deliver_fixed,
    deliver_int8,
    deliver_onnx,
    deliver_openvino,
)
from steadyocr.export.graph import build_graph  # noqa: E402
from steadyocr.export.onnx import Label, fill_model_folder, fresh_folder, snap_size, write_model_folder  # noqa: E402
from steadyocr.export.parity import TorchSession, compare_outputs  # noqa: E402
from steadyocr.runtime.base import SessionOptions  # noqa: E402
from steadyocr.runtime.loader import Backend, open_session  # noqa: E402
from steadyocr.runtime.manifest import Manifest, list_models, load_manifest  # noqa: E402
from steadyocr.runtime.onnxruntime import OnnxRuntimeSession  # noqa: E402
from steadyocr.training import model as network_module  # noqa: E402
from steadyocr.training.dialects import OURS, DetectorWeights  # noqa: E402
from steadyocr.training.labels import read_folder  # noqa: E402
from steadyocr.training.model import DBNet  # noqa: E402

OPTIONS = SessionOptions(threads=1, precision="f32")
SHAPES = [(1, 32, 32), (2, 64, 96), (1, 160, 32)]
BACKENDS: list[Backend] = ["onnxruntime", "openvino"]


@pytest.fixture(scope="module")
def weights() -> Iterator[DetectorWeights]:
    """A network of few channels in which every part matters: no BatchNorm is the identity, no bias is zero."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "_STAGE_CHANNELS", (8, 8, 16, 16))
        patch.setattr(deliver, "SHAPES", SHAPES)
        patch.setattr(deliver, "_SPEED_SIDE", 64)
        torch.manual_seed(3)
        network = DBNet(16)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.3, 0.3)
        head = network.decoder.binarize
        torch.nn.init.uniform_(head[3].bias, -0.3, 0.3)
        torch.nn.init.normal_(head[6].weight, std=0.3)
        network.train()(torch.randn(2, 3, 64, 96))  # statistics as training would have left them
        yield DetectorWeights(
            tensors={name: value.detach().clone() for name, value in network.state_dict().items()},
            inner_channels=16,
            preprocessing=OURS,
            bin_threshold=0.35,
            unclip_ratio=1.25,
            max_side=960,
        )


@pytest.fixture(scope="module")
def single(weights: DetectorWeights, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("models") / "single"
    return write_model_folder(weights, folder, Label(name="single", licence="MIT"), fp16_storage=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_file_answers_as_torch_does(weights: DetectorWeights, single: Manifest, backend: Backend) -> None:
    pytest.importorskip(backend)
    reference = TorchSession(weights.network())
    for entry in compare_outputs(reference, {backend: open_session(single, backend, OPTIONS)}, SHAPES)[backend]:
        assert entry["max_abs_difference"] < 1e-4
    # The comparison would be worth nothing on a flat map.
    spread = reference.run(np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32))
    assert float(spread.max() - spread.min()) > 0.2


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_storage_only_rounds_the_weights(
    weights: DetectorWeights, tmp_path: Path, backend: Backend
) -> None:
    pytest.importorskip(backend)
    manifest = write_model_folder(weights, tmp_path / "half", Label(name="half"))
    model = onnx.load(tmp_path / "half" / "model.onnx")
    assert all(entry.data_type == TensorProto.FLOAT16 for entry in model.graph.initializer if "_fp16" in entry.name)
    rounded = tmp_path / "rounded.onnx"
    onnx.save(_with_plain_weights(model), rounded)
    reference = OnnxRuntimeSession(rounded, OPTIONS)
    for entry in compare_outputs(reference, {backend: open_session(manifest, backend, OPTIONS)}, SHAPES)[backend]:
        assert entry["max_abs_difference"] < 1e-5


def _with_plain_weights(model: ModelProto) -> ModelProto:
    """The same rounded weights, stored as float32."""
    halves = {e.name: e for e in model.graph.initializer if e.data_type == TensorProto.FLOAT16}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in halves]
    for node in casts:
        values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        model.graph.initializer.remove(halves[node.input[0]])
        model.graph.node.remove(node)
    return model


def test_batchnorm_is_folded_and_the_threshold_head_left_out(weights: DetectorWeights) -> None:
    graph = build_graph(weights.tensors, fp16_storage=False).graph
    assert {node.op_type for node in graph.node} == {
        "Conv", "Relu", "MaxPool", "Add", "Resize", "Concat", "ConvTranspose", "Sigmoid",
    }  # fmt: skip
    assert not any("thresh" in entry.name for entry in graph.initializer)


def test_shipped_width_fits_into_the_size_limit() -> None:
    model = build_graph(DBNet(64).state_dict(), fp16_storage=True)
    assert model.ByteSize() <= 25_000_000


def test_manifest_says_what_the_checkpoint_said(single: Manifest) -> None:
    read = load_manifest(single.folder)
    assert read == single
    assert (read.task, read.licence, read.input.channel_order, read.input.stride) == ("detection", "MIT", "RGB", 32)
    assert read.input.mean == pytest.approx(OURS.mean)
    assert (read.defaults.bin_threshold, read.defaults.unclip_ratio, read.defaults.max_side) == (0.35, 1.25, 960)
    session = open_session(single, "onnxruntime", OPTIONS)
    assert session.metadata["channel_order"] == "RGB"
    assert json.loads(session.metadata["mean"]) == list(OURS.mean)


def test_model_folder_is_not_overwritten_unasked(weights: DetectorWeights, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_model_folder(weights, folder, Label(name="m"))
    before = (folder / "model.onnx").read_bytes()
    with pytest.raises(ConflictError):
        write_model_folder(weights, folder, Label(name="m"), fp16_storage=False)
    assert (folder / "model.onnx").read_bytes() == before
    write_model_folder(weights, folder, Label(name="m"), fp16_storage=False, replace=True)
    assert (folder / "model.onnx").stat().st_size > len(before)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_only_model_folders_are_replaced(weights: DetectorWeights, tmp_path: Path) -> None:
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    for name, file in (("run", "best.pt"), ("bare", "model.onnx")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(b"mine")
    (tmp_path / "m" / "notes.txt").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    for name, reason in (("run", "best.pt"), ("bare", "no manifest.toml"), ("m", "notes.txt"), ("file", "no folder")):
        with pytest.raises(ConflictError, match=reason):
            write_model_folder(weights, tmp_path / name, Label(name="m"), replace=True)
    kept = ("run/best.pt", "bare/model.onnx", "m/notes.txt", "file")
    assert [(tmp_path / path).read_bytes() for path in kept] == [b"mine"] * 4


def test_replacing_through_a_link_replaces_what_it_leads_to(weights: DetectorWeights, tmp_path: Path) -> None:
    write_model_folder(weights, tmp_path / "there" / "real", Label(name="m"))
    (tmp_path / "link").symlink_to(tmp_path / "there" / "real")
    write_model_folder(weights, tmp_path / "link", Label(name="n"), replace=True)
    assert (tmp_path / "link").is_symlink()
    assert load_manifest(tmp_path / "there" / "real").name == "n"


def test_model_put_aside_by_a_killed_replacement_comes_back(weights: DetectorWeights, tmp_path: Path) -> None:
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    (tmp_path / "m").rename(tmp_path / ".m.old")
    with pytest.raises(ConflictError):
        write_model_folder(weights, tmp_path / "m", Label(name="n"))
    assert load_manifest(tmp_path / "m").name == "m"
    shutil.copytree(tmp_path / "m", tmp_path / ".m.old")
    write_model_folder(weights, tmp_path / "m", Label(name="n"), replace=True)
    assert load_manifest(tmp_path / "m").name == "n"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("replace", [False, True])
def test_one_export_at_a_time_writes_a_folder(weights: DetectorWeights, tmp_path: Path, replace: bool) -> None:
    if replace:
        write_model_folder(weights, tmp_path / "m", Label(name="m"))
    with fresh_folder(tmp_path / "m", replace=replace) as fresh:
        (fresh / "mine").write_bytes(b"mine")
        for folder in (tmp_path / "m", tmp_path / "other" / ".." / "m"):
            with pytest.raises(ConflictError, match="is writing it"):
                write_model_folder(weights, folder, Label(name="n"), replace=True)
        with pytest.raises(ConflictError, match="is writing it"):
            deliver_openvino(weights, tmp_path / "m", Proof(), fp16_storage=True)
        assert (fresh / "mine").read_bytes() == b"mine"
        (fresh / "mine").unlink()
        fill_model_folder(weights, fresh, Label(name="new"), fp16_storage=True)
    assert load_manifest(tmp_path / "m").name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


# Ends in the middle of a replacement, in the way of kill -9.
KILLED = """
import os, pathlib, signal, sys
from steadyocr.export.onnx import fresh_folder
with fresh_folder(pathlib.Path(sys.argv[1]), replace=True) as fresh:
    (fresh / "half").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_export_is_cleared_away_by_the_next(weights: DetectorWeights, tmp_path: Path) -> None:
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "m")], check=False)
    assert load_manifest(tmp_path / "m").verified_file().is_file()
    assert len(list(tmp_path.iterdir())) == 3  # what was begun and the lock that nobody holds
    write_model_folder(weights, tmp_path / "m", Label(name="n"), replace=True)
    assert load_manifest(tmp_path / "m").name == "n"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_lock_that_is_let_go_of_in_the_act_is_taken_anew(
    weights: DetectorWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before deletes its lock file between our opening it and our locking it."""
    lock, flock = tmp_path / ".m.lock", fcntl.flock
    gone: list[bool] = []

    def late(descriptor: int, operation: int) -> None:
        if not gone:
            lock.unlink()
            gone.append(True)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with fresh_folder(tmp_path / "m", replace=False) as fresh:
        assert lock.is_file()
        with pytest.raises(ConflictError, match="is writing it"):
            write_model_folder(weights, tmp_path / "m", Label(name="n"))
        fill_model_folder(weights, fresh, Label(name="m"), fp16_storage=True)
    assert gone


def test_failed_swap_leaves_the_older_model(
    weights: DetectorWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    rename = Path.rename

    def broken(path: Path, target: Path) -> Path:
        if path.name == ".m.new":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="no"):
        write_model_folder(weights, tmp_path / "m", Label(name="n"), replace=True)
    assert load_manifest(tmp_path / "m").verified_file().is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_older_model_stays_where_the_new_one_cannot_be_proven(weights: DetectorWeights, tmp_path: Path) -> None:
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    images = read_folder(make_folder(tmp_path / "data", 1))
    images[0].path.write_bytes(b"no picture")
    with pytest.raises(DatasetError):
        deliver_onnx(weights, tmp_path / "m", Label(name="n"), Proof(images=images), fp16_storage=True, replace=True)
    assert load_manifest(tmp_path / "m").name == "m"


def test_half_written_models_are_not_listed(weights: DetectorWeights, tmp_path: Path) -> None:
    for name in ("m", ".m.new", ".m.old"):
        write_model_folder(weights, tmp_path / name, Label(name="m"))
    assert [name for name, folder in list_models(tmp_path).items() if folder.parent == tmp_path] == ["m"]


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [((640, 640), (640, 640)), ((600, 400), (608, 416)), ((1, 33), (32, 64)), ((819, 819), (832, 832))],
)
def test_fixed_size_is_snapped_with_an_explanation(wanted: tuple[int, int], taken: tuple[int, int]) -> None:
    size = snap_size(*wanted)
    assert (size.height, size.width) == taken
    assert ("multiples of 32" in size.explanation) == (wanted != taken)


@pytest.mark.parametrize("size", [(0, 640), (640, 100_000), (-32, 32)])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        snap_size(*size)


def test_fixed_export_carries_its_size_and_reasons(weights: DetectorWeights, tmp_path: Path) -> None:
    delivery = deliver_fixed(weights, tmp_path, snap_size(50, 96), Proof(), fp16_storage=True)
    assert delivery.path.name == "model_64x96.onnx"
    shape = onnx.load(delivery.path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in shape][2:] == [64, 96]
    report = json.loads((tmp_path / "model_64x96.parity.json").read_text(encoding="utf-8"))
    assert "multiples of 32" in report["size"]
    assert report["outputs"]["onnxruntime"][0]["shape"] == [1, 3, 64, 96]


def test_report_stands_beside_the_file(weights: DetectorWeights, tmp_path: Path) -> None:
    images = read_folder(make_folder(tmp_path / "data", 2))
    folder = tmp_path / "out"
    deliver_onnx(
        weights, folder, Label(name="out"), Proof(images=images, max_side=96), fp16_storage=True, replace=False
    )
    report = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    assert report["sha256"] == load_manifest(folder).file.sha256
    assert report["bytes"] == (folder / "model.onnx").stat().st_size
    assert report["pictures"] == 2
    assert report["hmean"]["torch"]["hmean_difference"] == 0
    assert max(e["max_abs_difference"] for e in report["outputs"]["onnxruntime"]) < 5e-3


def test_openvino_ir_answers_as_torch_does(weights: DetectorWeights, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    delivery = deliver_openvino(weights, tmp_path / "ir", Proof(), fp16_storage=True)
    assert sorted(path.name for path in (tmp_path / "ir").iterdir()) == ["model.bin", "model.xml", "parity.json"]
    assert max(entry["max_abs_difference"] for entry in delivery.report["outputs"]["openvino"]) < 5e-3


def test_int8_is_close_and_smaller(weights: DetectorWeights, tmp_path: Path) -> None:
    images = read_folder(make_folder(tmp_path / "data", 3))
    delivery = deliver_int8(weights, tmp_path / "q", Label(name="q"), Proof(), images, replace=False)
    assert load_manifest(tmp_path / "q").verified_file() == delivery.path
    kinds = {node.op_type for node in onnx.load(delivery.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    for name in ("onnxruntime int8", "openvino int8"):
        entries = delivery.report["outputs"].get(name, [])
        # Few channels quantise badly; this guards against a broken file, not against a lost percent.
        assert all(entry["mean_abs_difference"] < 0.1 for entry in entries)
    assert set(delivery.report["speed_f32_hint"]) >= {"onnxruntime", "onnxruntime int8"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "q"]
    with pytest.raises(ConflictError):
        deliver_int8(weights, tmp_path / "q", Label(name="q"), Proof(), images, replace=False)


def test_int8_into_the_current_folder(
    weights: DetectorWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is refused, as it holds something else; its name is no trouble."""
    images = read_folder(make_folder(tmp_path / "data", 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConflictError, match="data"):
        deliver_int8(weights, Path(), Label(name="q"), Proof(), images, replace=True)


def test_int8_without_pictures_is_refused(weights: DetectorWeights, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="needs pictures"):
        int8.write_int8(weights, tmp_path / "q.onnx", [])


def test_calibration_takes_the_sets_in_turn(tmp_path: Path) -> None:
    one = read_folder(make_folder(tmp_path / "one", 4))
    two = read_folder(make_folder(tmp_path / "two", 1))
    assert [image.dataset for image in int8.spread([*one, *two], 3)] == ["one", "two", "one"]
    assert len(int8.spread([*one, *two], 99)) == 5
