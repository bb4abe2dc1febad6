"""Reading the tree from its sources, and remembering which value came from where."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steadyocr.errors import ConfigError
from steadyocr.settings.tree import Settings, default_data_dir

ENV_PREFIX = "STEADYOCR_"
_NESTING = "__"
_LISTS = ("api_keys", "allowed_hosts")
# Read by this module, by make or by commands that speak to a server; not part of the tree.
OTHER_NAMES = frozenset({"STEADYOCR_CONFIG", "STEADYOCR_API_KEY"})


class Origins:
    """Where each value of a :class:`Settings` came from, by dotted name."""

    def __init__(self) -> None:
        self._origins: dict[str, str] = {}

    def note(self, values: Mapping[str, Any], origin: str, prefix: str = "") -> None:
        """Record an origin for every leaf of a tree."""
        for key, value in values.items():
            if isinstance(value, Mapping):
                self.note(value, origin, f"{prefix}{key}.")
            else:
                self._origins[f"{prefix}{key}"] = origin

    def of(self, name: str) -> str:
        """Return the origin of a value, or of a section that somebody gave a value in."""
        for known, origin in self._origins.items():
            if f"{known}.".startswith(f"{name}.") or f"{name}.".startswith(f"{known}."):
                return origin
        return "default"


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Settings, Origins]:
    """Read all sources once.

    Args:
        overrides: A tree that beats every other source (the command line).
        config_file: TOML file; by default ``STEADYOCR_CONFIG``, else ``steadyocr.toml`` in the data folder if there.
        environ: The environment; the process's own by default.

    Raises:
        ConfigError: A key is unknown, a value is out of range or a file cannot be read; the message names it.
    """
    environ = os.environ if environ is None else environ
    origins = Origins()
    from_env = _from_environment(environ)
    path = _find_file(config_file, environ, from_env)
    from_file = _from_file(path) if path else {}
    origins.note(from_file, str(path))
    origins.note(from_env, "environment")
    origins.note(overrides or {}, "command line")
    merged = _merge(_merge(from_file, from_env), overrides or {})
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        problems = "; ".join(_describe(entry["loc"], entry["msg"], origins) for entry in error.errors())
        raise ConfigError(f"the settings cannot be used: {problems}") from error
    settings._file = path
    return settings, origins


def load_alert_settings(
    *, config_file: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Settings, str]:
    """Read the settings for somebody who has to tell that they are broken.

    What is wrong elsewhere must not keep an alert from being sent: then only ``data_dir`` and ``alerts`` are read, and
    every other section has its defaults. A file that is not TOML at all counts as absent.

    Returns:
        The tree, and what is wrong with the settings; empty when nothing is.

    Raises:
        ConfigError: What is wrong is in those two.
    """
    try:
        return load_settings(config_file=config_file, environ=environ)[0], ""
    except ConfigError as error:
        problem = error.message
    environ = os.environ if environ is None else environ
    from_env = _from_environment(environ)
    path = _find_file(config_file, environ, from_env)
    try:
        from_file = _from_file(path) if path else {}
    except ConfigError:
        from_file = {}
    merged = _merge(from_file, from_env)
    try:
        return Settings.model_validate(
            {name: merged[name] for name in ("data_dir", "alerts") if name in merged}
        ), problem
    except ValidationError:
        raise ConfigError(problem) from None


def _describe(location: tuple[int | str, ...], message: str, origins: Origins) -> str:
    name = ".".join(str(part) for part in location)
    return f"{name} ({origins.of(name)}): {message}"


def config_path(given: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the settings file that is read, without reading it; ``None`` when there is none.

    Raises:
        ConfigError: The environment contradicts itself.
    """
    environ = os.environ if environ is None else environ
    return _find_file(given, environ, _from_environment(environ))


def _find_file(given: Path | None, environ: Mapping[str, str], from_env: Mapping[str, Any]) -> Path | None:
    if given is not None:
        return given
    if environ.get("STEADYOCR_CONFIG"):
        return Path(environ["STEADYOCR_CONFIG"])
    usual = Path(from_env.get("data_dir") or default_data_dir()) / "steadyocr.toml"
    return usual if usual.is_file() else None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        # Some editors begin a file with a mark of its encoding.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Turn ``STEADYOCR_A__B=x`` into ``{"a": {"b": "x"}}``; a misspelt name is refused later as an unknown key."""
    tree: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX) or name in OTHER_NAMES:
            continue
        if name == f"{ENV_PREFIX}DATA_DIR" and not text:
            continue  # set to nothing; it would be the folder that one happens to be in
        *parents, leaf = name.removeprefix(ENV_PREFIX).lower().split(_NESTING)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(
                    f"{name} gives a value inside {parent!r}, which another variable gives a value itself"
                )
        if leaf in node:
            raise ConfigError(f"{name} gives {leaf!r} a value, which other variables give values inside")
        node[leaf] = _list_of(name, text) if leaf in _LISTS else text
    return tree


def _list_of(name: str, text: str) -> list[str]:
    """Read a comma-separated text; one in brackets is meant as JSON, and its quotes are not part of the values."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name} begins with a bracket and is no JSON; write it as a,b") from error
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigError(f"{name} must be a list of texts; write it as a,b")
    return values


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged
