"""``steadyocr models``: what is there, taking in checkpoints, choosing one, checking hashes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from steadyocr.cli.exit_codes import ExitCode
from steadyocr.cli.settings_file import set_value
from steadyocr.cli.tables import print_table, uncut
from steadyocr.errors import InvalidOption, SteadyOCRError
from steadyocr.runtime.manifest import BUILTIN_MODELS, Manifest, find_model, list_models, load_manifest
from steadyocr.settings import ENV_PREFIX, Settings, load_settings

Say = Callable[[str], None]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def refuse_name(name: str, hint: str = "") -> None:
    """Refuse what cannot be the name of a model.

    Raises:
        InvalidOption: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise InvalidOption(
            f"a model name has small letters, digits, '.', '_' and '-', and starts with a letter or digit{hint}"
        )


def user_models(settings: Settings) -> Path:
    """Return the folder of the user's own models."""
    return settings.data_dir / "models"


def weights_at(asked: str, settings: Settings) -> Path:
    """Return where weights lie that are asked for by path or by the name of a model.

    Raises:
        ModelMissing: It can only be a name, and no model has it.
    """
    path = Path(asked)
    return path if path.exists() or len(path.parts) > 1 else find_model(asked, user_models(settings)).folder


def print_models(config_file: Path | None) -> None:
    """Print all models; a star marks those in use."""
    settings, _ = load_settings(config_file=config_file)
    in_use = {settings.models.detector, settings.models.recogniser}
    table = Table("", uncut("name"), "task", "where", "licence", "source", box=None, pad_edge=False)
    for name, folder in sorted(list_models(user_models(settings)).items()):
        where = "built in" if folder.parent == BUILTIN_MODELS else str(folder)
        try:
            manifest = load_manifest(folder)
        except SteadyOCRError as error:
            table.add_row("", name, "?", where, "", error.message)
            continue
        table.add_row("*" if name in in_use else "", name, manifest.task, where, manifest.licence, manifest.source)
    print_table(table)


def verify_models(config_file: Path | None, say: Say) -> ExitCode:
    """Check every model's files against its manifest, those that only fine-tuning needs too."""
    settings, _ = load_settings(config_file=config_file)
    failed = False
    for name, folder in sorted(list_models(user_models(settings)).items()):
        try:
            manifest = load_manifest(folder)
            manifest.verified_file()
            manifest.verified_remainder()
        except SteadyOCRError as error:
            failed = True
            say(f"{name}: {error.message} [{error.code}]")
        else:
            say(f"{name}: ok")
    return ExitCode.MODEL_PROBLEM if failed else ExitCode.OK


def use_model(name: str, config_file: Path | None, say: Say) -> None:
    """Make a model the one that serves, in the settings file.

    Raises:
        ModelMissing: There is no such model.
        ModelCorrupt: Its file is damaged.
    """
    settings, _ = load_settings(config_file=config_file)
    manifest = find_model(name, user_models(settings))
    manifest.verified_file()
    key = "detector" if manifest.task == "detection" else "recogniser"
    path = _settings_file(config_file, settings)
    set_value(path, "models", key, name)
    say(f"{path}: models.{key} = {name}; restart the service to use it")
    variable = f"{ENV_PREFIX}MODELS__{key.upper()}"
    if os.environ.get(variable, name) != name:
        say(f"but the environment variable {variable} is set and is stronger: {os.environ[variable]}")


def _settings_file(given: Path | None, settings: Settings) -> Path:
    if given is not None:
        return given
    named = os.environ.get("STEADYOCR_CONFIG")
    return Path(named) if named else settings.data_dir / "steadyocr.toml"


def import_model(
    checkpoint: Path, name: str, *, licence: str, data: Path | None, replace: bool, config_file: Path | None, say: Say
) -> Manifest:
    """Turn a checkpoint into a model of the user's own.

    Raises:
        CheckpointMismatch: It holds another network; the message says why.
    """
    from steadyocr.cli.export import describe
    from steadyocr.export.deliver import Proof, deliver_onnx
    from steadyocr.export.onnx import Label
    from steadyocr.training.dialects import read_weights
    from steadyocr.training.labels import read_folder

    refuse_name(name)
    settings, _ = load_settings(config_file=config_file)
    weights = read_weights(checkpoint)
    if weights.dropped:
        say(f"not needed and left out: {', '.join(weights.dropped)}")
    label = Label(name=name, licence=licence, source=f"imported from {checkpoint.name} ({weights.dialect})")
    proof = Proof(images=read_folder(data, "test") if data else ())
    folder = user_models(settings) / name
    delivery = deliver_onnx(weights, folder, label, proof, fp16_storage=True, replace=replace)
    say(f"{folder}: imported, {weights.dialect} checkpoint, neck of width {weights.inner_channels}")
    describe(delivery, say)
    say(f"choose it with: steadyocr models use {name}")
    return load_manifest(folder)
