"""Reading an ``EnvironmentFile`` as systemd does, as far as settings need it."""

from __future__ import annotations

from pathlib import Path

from steadyocr.errors import ConfigError

_COMMENT = ("#", ";")
_QUOTES = ('"', "'")


def read_environment_file(path: Path) -> dict[str, str]:
    """Return the assignments of a file; empty when there is none.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the environment file {path} cannot be read; are you root?") from error
    pairs = (line.strip().partition("=") for line in lines if not line.lstrip().startswith(_COMMENT))
    return {name.strip(): _unquoted(value.strip()) for name, sign, value in pairs if sign}


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0] else text
