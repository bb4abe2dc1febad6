from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from steadyocr.errors import ModelCorrupt, ModelMissing
from steadyocr.runtime.manifest import BUILTIN_MODELS, REMAINDER_NAME, find_model, list_models, load_manifest

WEIGHTS = b"weights"
MANIFEST = f"""
name = "mine"
task = "detection"
licence = "Apache-2.0"
source = "here"

[file]
path = "model.onnx"
sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"

[input]
channel_order = "RGB"
mean = [0, 0, 0]
std = [255, 255, 255]
"""


def model(root: Path, manifest: str = MANIFEST, name: str = "mine") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text(manifest)
    (folder / "model.onnx").write_bytes(WEIGHTS)
    return folder


def test_a_good_model_gives_its_file(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert load_manifest(folder).verified_file() == folder / "model.onnx"


def test_a_folder_without_manifest_is_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"no model named nothing: there is no manifest\.toml"):
        load_manifest(tmp_path / "nothing")


@pytest.mark.parametrize("text", [b"name = ", b"\xff\xfe"])
def test_a_manifest_that_is_no_toml_is_corrupt(tmp_path: Path, text: bytes) -> None:
    folder = model(tmp_path)
    (folder / "manifest.toml").write_bytes(text)
    with pytest.raises(ModelCorrupt, match="not valid TOML"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("source =", "sauce =", "sauce"),
        ("path =", "pathe =", "file.pathe"),
        ('"RGB"', '"RBG"', "input.channel_order"),
        ("mean = [0, 0, 0]", "mean = [0, 0]", "input.mean"),
        ("std = [255, 255, 255]", "std = [255, 0, 255]", "input.std"),
        ('sha256 = "', 'sha256 = "x', "file.sha256"),
        ('name = "mine"', 'name = "../mine"', "name"),
        ('task = "detection"', 'task = "both"', "task"),
        ("[input]", "[defaults]\nbin_threshold = 1.5\n[input]", "defaults.bin_threshold"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in MANIFEST
    with pytest.raises(ModelCorrupt, match="model mine") as raised:
        load_manifest(model(tmp_path, MANIFEST.replace(old, new)))
    assert named in raised.value.message


def test_replaced_weights_are_corrupt(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "model.onnx").write_bytes(WEIGHTS + b"!")
    with pytest.raises(ModelCorrupt, match=r"model mine: model\.onnx has sha256"):
        load_manifest(folder).verified_file()


def test_weights_that_are_gone_are_missing(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelMissing, match=r"model\.onnx is missing"):
        load_manifest(folder).verified_file()


@pytest.mark.parametrize("package", ["no_such_package_here", "no_such_package_here.inner", "textwrap"])
def test_weights_in_a_package_that_is_not_there_are_missing(tmp_path: Path, package: str) -> None:
    manifest = MANIFEST.replace("[file]", f'[file]\npackage = "{package}"')
    with pytest.raises(ModelMissing, match=f"package {package}"):
        load_manifest(model(tmp_path, manifest)).verified_file()


def remainder(folder: Path) -> Path:
    path = folder / REMAINDER_NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("norms.npy", b"numbers of all kinds")
    return path


def test_what_fine_tuning_needs_is_held_to_its_hash(tmp_path: Path) -> None:
    path = remainder(model(tmp_path / "first"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    listed = f'{MANIFEST}\n[finetune]\npath = "{REMAINDER_NAME}"\nsha256 = "{digest}"\n'
    folder = model(tmp_path, listed)
    with pytest.raises(ModelMissing, match=r"mine: finetune\.npz is missing.*reads as before.*trained"):
        load_manifest(folder).verified_remainder()
    path = path.rename(folder / REMAINDER_NAME)
    assert load_manifest(folder).verified_remainder() == path
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(ModelCorrupt, match=r"mine: finetune\.npz has sha256.*reads as before.*trained"):
        load_manifest(folder).verified_remainder()
    # What serves does not need it.
    assert load_manifest(folder).verified_file().is_file()


def test_manifests_of_older_versions_list_no_hash_of_it(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert load_manifest(folder).verified_remainder() is None
    path = remainder(folder)
    assert load_manifest(folder).verified_remainder() == path
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"of all", b"of ill")):
        path.write_bytes(damaged)
        with pytest.raises(ModelCorrupt, match=r"finetune\.npz"):
            load_manifest(folder).verified_remainder()


def test_an_unknown_model_is_missing_and_those_there_are_listed(tmp_path: Path) -> None:
    model(tmp_path)
    with pytest.raises(ModelMissing, match="no model named other") as raised:
        find_model("other", tmp_path)
    assert "mine" in raised.value.message
    assert "pp-ocrv6-small-det" in raised.value.message


def test_a_users_model_hides_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    name = "pp-ocrv6-small-det"
    folder = model(tmp_path, MANIFEST.replace("mine", name), name)
    assert find_model(name, tmp_path).folder == folder
    assert list_models(tmp_path)[name] == folder
    assert find_model(name).folder == BUILTIN_MODELS / name


@pytest.mark.parametrize("name", sorted(list_models()))
def test_every_built_in_model_is_whole(name: str) -> None:
    manifest = find_model(name)
    assert manifest.name == name
    assert manifest.verified_file().stat().st_size > 0
    remainder = manifest.verified_remainder()
    assert (remainder is not None) == (manifest.finetune is not None) == (name == "resnet18-db")
