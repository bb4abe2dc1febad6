"""Names that nobody reads: misspelt settings and environment variables, with what was probably meant."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from steadyocr.settings import ENV_PREFIX, Settings
from steadyocr.settings.load import OTHER_NAMES

_OURS: Final = re.compile(r"STEADY_?-?OCR", re.IGNORECASE)
_ALIKE: Final = 0.6


def known_settings(tree: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    for name, field in tree.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_settings(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def environment_name(setting: str) -> str:
    """Return the environment variable of a setting."""
    return ENV_PREFIX + setting.upper().replace(".", "__")


def misspelt_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield variables that look like ours and are not, each with the name that was probably meant, or an empty text."""
    settings = [environment_name(setting) for setting in known_settings()]
    known = settings + sorted(OTHER_NAMES)
    for name in sorted(environ):
        # After the prefix the service takes small letters as well, but for settings only.
        obeyed = name in OTHER_NAMES or (name.startswith(ENV_PREFIX) and name.upper() in settings)
        if _OURS.match(name) and not obeyed:
            yield name, nearest(name.upper(), known)


def misspelt_settings(file: Path) -> Iterator[tuple[str, str]]:
    """Yield names in a settings file that are none, likewise.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not valid TOML.
    """
    known = list(known_settings())
    # As the service reads it: some editors begin a file with a mark of its encoding.
    for name in _leaves(tomllib.loads(file.read_text(encoding="utf-8-sig"))):
        if name not in known:
            yield name, nearest(name, known)


def nearest(name: str, known: list[str]) -> str:
    """Return the known name most like this one; empty when none is like it."""
    # One underscore too few is the usual slip, and hides how alike the rest is.
    plain = {re.sub(r"[._]+", "_", each): each for each in known}
    found = difflib.get_close_matches(re.sub(r"[._-]+", "_", name), plain, n=1, cutoff=_ALIKE)
    return plain[found[0]] if found else ""


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
