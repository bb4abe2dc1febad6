"""A model and everything that belongs to it: file, hash, preprocessing, default thresholds.

Preprocessing belongs to the weights, not to a code path: the same detector code serves any model whose manifest says
how its input is made.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steadyocr.errors import ModelCorrupt, ModelMissing

BUILTIN_MODELS = Path(__file__).parent.parent / "models"
MANIFEST_NAME = "manifest.toml"

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
_CHUNK_BYTES = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """Where the weights are: beside the manifest, or inside an installed package."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    package: str | None = None


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
        folder: Where the manifest was read; relative file paths start here.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    task: Literal["detection", "recognition"]
    licence: str
    source: str
    file: FileEntry
    input: InputEntry
    defaults: DetectionDefaults = DetectionDefaults()
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
        actual = sha256_of(path)
        if actual != self.file.sha256:
            raise ModelCorrupt(
                f"model {self.name}: {self.file.path} has sha256 {actual[:12]}…, the manifest says "
                f"{self.file.sha256[:12]}…; the file is damaged or was replaced"
            )
        return path

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
