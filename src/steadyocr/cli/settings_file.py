"""Changing one value in a TOML settings file and nothing else in it, comments included."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from steadyocr.errors import ConfigError


def get_value(path: Path, section: str, key: str) -> Any:  # noqa: ANN401 - any value of TOML
    """Return what the file says; ``None`` where it says nothing.

    Raises:
        ConfigError: The file cannot be read or is not valid TOML.
    """
    found = _parse(_read(path), path).get(section)
    return found.get(key) if isinstance(found, dict) else None


def set_value(path: Path, section: str, key: str, value: str | int) -> None:
    """Set ``[section] key = value``, creating what is missing. The file stays its owner's.

    Raises:
        ConfigError: The file is not valid TOML, or says this in a way that cannot be changed safely.
    """
    path = path.resolve()  # a link stays one
    text = _read(path)
    before = _parse(text, path)
    changed = _with_value(text, section, key, value)
    wanted = {**before, section: {**before.get(section, {}), key: value}}
    # The proof that only this value has changed: both texts are parsed and compared.
    if _parse(changed, path) != wanted:
        raise ConfigError(f"{path}: cannot be changed safely; write [{section}] {key} = {json.dumps(value)} by hand")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(changed, encoding="utf-8")
    _take_after(path, temporary)
    temporary.replace(path)


def _take_after(path: Path, temporary: Path) -> None:
    """Give the new file the owner and the rights of the old one: root may tune, and the service must read it after."""
    # A new one belongs to whom the folder belongs.
    model = path.stat() if path.exists() else path.parent.stat()
    if (model.st_uid, model.st_gid) != (os.geteuid(), os.getegid()):
        # Only root may give a file away.
        with contextlib.suppress(PermissionError):
            os.chown(temporary, model.st_uid, model.st_gid)
    if path.exists():
        temporary.chmod(stat.S_IMODE(model.st_mode))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error}") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}") from error


def _with_value(text: str, section: str, key: str, value: str | int) -> str:
    lines = text.splitlines()
    row = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    header = _first(lines, rf"\s*\[\s*{section}\s*\]", 0)
    if header is None:
        dotted = _first(lines, rf"\s*{section}\s*\.\s*{key}\s*=", 0)
        if dotted is not None:
            lines[dotted] = f"{section}.{row}"
        else:
            lines += ["", f"[{section}]", row] if lines else [f"[{section}]", row]
        return "\n".join(lines) + "\n"
    end = _first(lines, r"\s*\[", header + 1) or len(lines)
    old = _first(lines[:end], rf"\s*{key}\s*=", header + 1)
    if old is None:
        lines.insert(header + 1, row)
    else:
        lines[old] = row
    return "\n".join(lines) + "\n"


def _first(lines: list[str], pattern: str, start: int) -> int | None:
    return next((index for index in range(start, len(lines)) if re.match(pattern, lines[index])), None)
