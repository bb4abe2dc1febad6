"""Where notices go. A channel's URL is a secret: it is never logged, shown or written, only its name is."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from steadyocr.errors import ConfigError
from steadyocr.settings.alerts import AlertSettings

MAX_CHANNELS: Final = 16
_MAX_FILE_BYTES: Final = 64 << 10
_ENTRY: Final = re.compile(r"(?:([A-Za-z0-9][A-Za-z0-9._-]{0,31})\s*=\s*)?([A-Za-z][A-Za-z0-9+.-]*)(://\S+)")
# Group may read, for credentials handed over by systemd or Kubernetes; others may not, and nobody else may write.
_TOO_OPEN: Final = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to people.

    Attributes:
        name: For logs and lists.
        url: As apprise understands it.
    """

    name: str
    url: SecretStr


def load_channels(settings: AlertSettings) -> tuple[Channel, ...]:
    """Return the configured channels, those of the settings first.

    Raises:
        ConfigError: An entry is no URL, a name is taken twice, there are too many, or the file cannot be read or is
            open to others. The message never repeats the entry.
    """
    entries = [(f"entry {number} of alerts.channels", secret) for number, secret in _numbered(settings.channels)]
    if settings.channels_file is not None:
        entries += _from_file(settings.channels_file)
    if len(entries) > MAX_CHANNELS:
        raise ConfigError(f"there are {len(entries)} alert channels; at most {MAX_CHANNELS} are allowed")
    channels = tuple(_parse(where, secret.get_secret_value()) for where, secret in entries)
    names = [channel.name for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two alert channels are called {name!r}")
    return channels


def _numbered(secrets: Iterable[SecretStr]) -> Iterator[tuple[int, SecretStr]]:
    return enumerate(secrets, start=1)


def _from_file(path: Path) -> list[tuple[str, SecretStr]]:
    try:
        with path.open("rb") as stream:
            status = path.stat()
            raw = stream.read(_MAX_FILE_BYTES + 1)
        text = raw.decode()
    except OSError as error:
        raise ConfigError(f"alerts.channels_file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"alerts.channels_file {path} is not UTF-8 text") from error
    if status.st_mode & _TOO_OPEN:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(f"alerts.channels_file {path} holds secrets and is open to others ({mode:04o}): chmod 600 it")
    if len(raw) > _MAX_FILE_BYTES:
        raise ConfigError(f"alerts.channels_file {path} is longer than {_MAX_FILE_BYTES} bytes")
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [
        (f"line {number} of {path.name}", SecretStr(line))
        for number, line in lines
        if line and not line.startswith("#")
    ]


def _parse(where: str, entry: str) -> Channel:
    found = _ENTRY.fullmatch(entry.strip())
    if found is None:
        raise ConfigError(f"{where} is no alert channel: write URL or NAME=URL, like json://host/path")
    name, scheme, rest = found.groups()
    url = scheme + rest
    # A short digest tells two channels of a kind apart and gives nothing away.
    name = name or f"{scheme.lower()}-{hashlib.sha256(url.encode()).hexdigest()[:6]}"
    return Channel(name, SecretStr(url))
