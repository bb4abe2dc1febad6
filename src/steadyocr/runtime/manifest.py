"""A model and everything that belongs to it: file, hash, preprocessing, default thresholds.

Preprocessing belongs to the weights, not to a code path: the same detector code serves any model whose manifest says
how its input is made.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tomllib
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steadyocr.errors import ModelCorrupt, ModelMissing

BUILTIN_MODELS = Path(__file__).parent.parent / "models"
MANIFEST_NAME = "manifest.toml"
REMAINDER_NAME = "finetune.npz"

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
_CHUNK_BYTES = 1 << 20
_READS_ON = "the model reads as before but cannot be trained further"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """Where the weights are: beside the manifest, or inside an installed package."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    package: str | None = None


class RemainderEntry(_Strict):
    """What fine-tuning needs beside the weights; lies beside the manifest."""

    path: Literal["finetune.npz"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class InputEntry(_Strict):
    """How a picture becomes the network's input: ``(pixel - mean) / std`` on 0-255 values, in this channel order."""

    channel_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    stride: int = Field(32, ge=1, description="sides must be multiples of this, in pixels")
    height: int | None = Field(None, ge=8, description="fixed input height of a recogniser, in pixels")


class DetectionDefaults(_Strict):
    """Post-processing values that measured best with these weights."""

    bin_threshold: Probability = 0.2
    box_threshold: Probability = 0.3
    unclip_ratio: float = Field(1.5, gt=0.0, le=5.0)
    max_side: int = Field(1280, ge=32)


class Manifest(_Strict):
    """One model.

    Attributes:
        finetune: ``None`` where there is nothing to train on with, or the manifest is older than the entry.
        folder: Where the manifest was read; relative file paths start here.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    task: Literal["detection", "recognition"]
    licence: str
    source: str
    file: FileEntry
    input: InputEntry
    defaults: DetectionDefaults = DetectionDefaults()
    finetune: RemainderEntry | None = None
    folder: Path = Field(exclude=True)

    @property
    def builtin(self) -> bool:
        """Whether it comes with the product; a user's own model may behave in ways nobody here has seen."""
        return self.folder.parent == BUILTIN_MODELS

    def verified_file(self) -> Path:
        """Return the weights' path after checking its hash.

        Raises:
            ModelMissing: The file or its package is not installed.
            ModelCorrupt: The file's hash is not the manifest's.
        """
        path = self._resolve()
        if not path.is_file():
            raise ModelMissing(f"model {self.name}: the file {self.file.path} is missing; install the package again")
        self._compare(path, self.file)
        return path

    def verified_remainder(self) -> Path | None:
        """Return the path of what fine-tuning needs after checking it; ``None`` where this model has no such file.

        A model that serves does not need it, so serving does not look at it.

        Raises:
            ModelMissing: The manifest lists it and it is not there.
            ModelCorrupt: Its hash is not the manifest's or, where that lists none, it is not a whole archive.
        """
        path = self.folder / REMAINDER_NAME
        if not path.is_file():
            if self.finetune is None:
                return None
            raise ModelMissing(f"model {self.name}: {REMAINDER_NAME} is missing; {_READS_ON}")
        if self.finetune is not None:
            self._compare(path, self.finetune, f"; {_READS_ON}")
        elif not _is_whole(path):
            raise ModelCorrupt(f"model {self.name}: {REMAINDER_NAME} is damaged; {_READS_ON}")
        return path

    def _compare(self, path: Path, entry: FileEntry | RemainderEntry, consequence: str = "") -> None:
        actual = sha256_of(path)
        if actual != entry.sha256:
            raise ModelCorrupt(
                f"model {self.name}: {entry.path} has sha256 {actual[:12]}…, the manifest says "
                f"{entry.sha256[:12]}…; the file is damaged or was replaced{consequence}"
            )

    def _resolve(self) -> Path:
        if self.file.package is None:
            return self.folder / self.file.path
        try:
            # Looks the package up without running its code.
            spec = importlib.util.find_spec(self.file.package)
        except (ModuleNotFoundError, ValueError):  # of a dotted name the parent is missing; the name is none at all
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ModelMissing(
                f"model {self.name} is shipped in the package {self.file.package}, which is not installed"
            )
        return Path(spec.submodule_search_locations[0]) / self.file.path


def _is_whole(archive: Path) -> bool:
    """Whether the checksums inside a zip archive hold."""
    try:
        with zipfile.ZipFile(archive) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, zlib.error):
        return False


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex, read in bounded pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest in a model folder.

    Raises:
        ModelMissing: There is none.
        ModelCorrupt: It cannot be understood; the message names the field.
    """
    path = folder / MANIFEST_NAME
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelMissing(f"no model named {folder.name}: there is no {MANIFEST_NAME}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelCorrupt(f"model {folder.name}: {MANIFEST_NAME} is not valid TOML: {error}") from error
    try:
        return Manifest.model_validate({**values, "folder": folder})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}" for entry in error.errors()
        )
        raise ModelCorrupt(f"model {folder.name}: {problems}") from error


def find_model(name: str, user_models: Path | None = None) -> Manifest:
    """Find a model by name: the user's own models first, then the built-in ones.

    Raises:
        ModelMissing: No such model; the message lists those there are.
    """
    for root in (user_models, BUILTIN_MODELS):
        if root is not None and (root / name / MANIFEST_NAME).is_file():
            return load_manifest(root / name)
    known = ", ".join(sorted(list_models(user_models)))
    raise ModelMissing(f"no model named {name}; known: {known}")


def list_models(user_models: Path | None = None) -> dict[str, Path]:
    """Return the folders of all models by name; a user's model hides a built-in one of the same name."""
    found: dict[str, Path] = {}
    for root in (BUILTIN_MODELS, user_models):
        if root is not None and root.is_dir():
            folders = (path.parent for path in root.glob(f"*/{MANIFEST_NAME}"))
            # A dot marks what an import is writing or was killed over.
            found.update({folder.name: folder for folder in folders if not folder.name.startswith(".")})
    return found
