"""Putting the units in place and taking them away."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from steadyocr.errors import ConfigError, ConflictError
from steadyocr.ops.systemd.units import MARK, SERVICE, SOCKET

_RUNS = Path("/run/systemd/system")
_UNIT_FOLDER = Path("etc/systemd/system")
_SYSTEMCTL_S = 300.0

Say = Callable[[str], None]


def install(units: Mapping[str, str], root: Path, say: Say, *, start: bool = True) -> None:
    """Write the units, and unless they go into another root, have systemd read, enable and start them.

    Done twice, the second time changes nothing. A service that runs is restarted when its unit changed.

    Args:
        units: Text by file name.
        root: ``/``, or a folder that becomes another machine's root.
        say: Takes a line for the person who asked.
        start: Enable and start them as well.

    Raises:
        ConflictError: A unit of that name was written by somebody else.
        ConfigError: A file cannot be written, or systemd refuses or does not run here.
    """
    folder = root / _UNIT_FOLDER
    if _is_own_root(root) and not _is_running():
        raise ConfigError("systemd does not run on this machine; units for another one are written with --root FOLDER")
    changed = [name for name, text in units.items() if _differs(folder / name, text)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in changed:
            (folder / name).write_text(units[name], encoding="utf-8")
            (folder / name).chmod(0o644)
    except OSError as error:
        raise ConfigError(f"the units cannot be written to {folder}: {error.strerror}; are you root?") from error
    for name in units:
        say(f"{folder / name}: {'written' if name in changed else 'unchanged'}")
    if not _is_own_root(root):
        return
    _systemctl("daemon-reload")
    if start:
        _start(changed)
        say(f"{SERVICE}: enabled and started")


def _start(changed: Sequence[str]) -> None:
    running = _is_active(SERVICE)
    if SOCKET in changed:
        # A socket cannot take over another address while it listens.
        _systemctl("stop", SOCKET, SERVICE)
    _systemctl("enable", "--now", SOCKET, SERVICE)
    if running and SERVICE in changed and SOCKET not in changed:
        _systemctl("restart", SERVICE)


def uninstall(names: Sequence[str], root: Path, say: Say) -> None:
    """Stop the service and remove its units. State and settings stay. Done twice, the second time changes nothing.

    Args:
        names: File names of the units.
        root: ``/``, or a folder that becomes another machine's root.
        say: Takes a line for the person who asked.

    Raises:
        ConflictError: A unit of that name was written by somebody else.
        ConfigError: A file cannot be removed, or systemd refuses.
    """
    folder = root / _UNIT_FOLDER
    present = [name for name in names if _is_ours(folder / name)]
    here = _is_own_root(root) and _is_running()
    if present and here:
        _systemctl("disable", "--now", *(name for name in present if "@" not in name))
    try:
        for name in present:
            (folder / name).unlink()
            say(f"{folder / name}: removed")
    except OSError as error:
        raise ConfigError(f"the units cannot be removed from {folder}: {error.strerror}; are you root?") from error
    if not present:
        say(f"{folder}: nothing to remove")
    elif here:
        _systemctl("daemon-reload")


def _is_running() -> bool:
    """Whether systemd started this machine (``sd_booted(3)``)."""
    return _RUNS.is_dir()


def _is_own_root(root: Path) -> bool:
    return root.resolve() == Path("/")


def _differs(path: Path, text: str) -> bool:
    return not _is_ours(path) or path.read_text(encoding="utf-8") != text


def _is_ours(path: Path) -> bool:
    """Whether a unit is there and was written by us.

    Raises:
        ConflictError: Somebody else wrote it.
    """
    try:
        first, *_ = path.read_text(encoding="utf-8").splitlines() or [""]
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if first != MARK:
        raise ConflictError(f"{path} was not written by this command; move it away first")
    return True


def _is_active(unit: str) -> bool:
    return _ask_systemd("is-active", "--quiet", unit).returncode == 0


def _systemctl(*arguments: str) -> None:
    """Have systemd do something.

    Raises:
        ConfigError: There is no systemd here, or it refuses.
    """
    done = _ask_systemd(*arguments)
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise ConfigError(f"systemctl {' '.join(arguments)}: {reason}")


def _ask_systemd(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - a fixed program and the names of our units
            ["systemctl", *arguments],  # noqa: S607 - wherever this system keeps it
            capture_output=True,
            text=True,
            timeout=_SYSTEMCTL_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise ConfigError("there is no systemd here; see 'steadyocr systemd print' or deploy/") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"systemctl {arguments[0]} took too long; see 'systemctl status {SERVICE}'") from error
