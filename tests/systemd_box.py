"""A real systemd as the first process of throw-away namespaces: own processes, mounts, network and control groups.

Its root is an overlay over this machine's root, so nothing is downloaded and nothing outside changes. It ends itself
after a while even if nobody stops it. Needs root, overlayfs and systemd; :func:`why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from support import wait_until

INIT = Path(__file__).parent / "systemd" / "box_init.sh"
LIFETIME_S = 600
_TOOLS = ("systemctl", "systemd-analyze", "unshare", "nsenter", "setpriv", "pivot_root", "dbus-daemon")
_CLONE_NEWNET = 0x40000000
_JOIN_GROUPS = 'while read -r _ group; do echo $$ > "$group/cgroup.procs"; done < "$0/cgroups"; exec "$@"'
_RTMIN = 34
# Asks systemd to power off.
_SIGPOWEROFF = _RTMIN + 4
_STARTED = ("running", "degraded")

P = ParamSpec("P")
T = TypeVar("T")


def why_not() -> str:
    """What keeps a systemd from being booted here; empty when nothing does."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing or not Path("/lib/systemd/systemd").exists():
        return f"not installed: {', '.join(missing) or 'systemd'}"
    if not _cgroup_mounts():
        return "no control groups are mounted"
    tried = subprocess.run(
        ["unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--fork", "--propagation", "private",
         "sh", "-c", "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/r &&"
         " mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w overlay /mnt/r"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return f"namespaces or overlays are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


def _cgroup_mounts() -> list[Path]:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def _own_group(mount_point: Path) -> Path:
    """This process's own group in the hierarchy that is mounted there."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        names = [name.removeprefix("name=") for name in controllers.split(",")]
        unified = controllers == "" and (mount_point / "cgroup.procs").exists() and not (mount_point / "tasks").exists()
        if mount_point.name in names or unified:
            return mount_point / path.lstrip("/")
    raise LookupError(mount_point)


class Box:
    """One booted systemd.

    Args:
        shown: Folders of this machine that are shown inside, read-only, at the same path.
    """

    def __init__(self, shown: Iterable[Path]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="systemd-box-", dir="/run"))
        self._groups: list[Path] = []
        self._launcher: subprocess.Popen[bytes] | None = None
        self._network: ThreadPoolExecutor | None = None
        self.pid = 0
        (self.folder / "binds").write_text("".join(f"{path}\n" for path in shown))
        (self.folder / "console").touch()

    def start(self) -> None:
        mounts = _cgroup_mounts()
        for mount_point in mounts:
            group = _own_group(mount_point) / self.folder.name
            group.mkdir()
            self._groups.append(group)
            if mount_point.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text((mount_point / name).read_text())
        pairs = zip(mounts, self._groups, strict=True)
        (self.folder / "cgroups").write_text("".join(f"{mount_point} {group}\n" for mount_point, group in pairs))
        with (self.folder / "console").open("wb") as console:
            self._launcher = subprocess.Popen(
                ["bash", "-c", _JOIN_GROUPS, self.folder, "timeout", "--signal=KILL", str(LIFETIME_S),
                 "unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--fork", "--kill-child=KILL",
                 "--propagation", "private", INIT, self.folder, "v2" if Path("/sys/fs/cgroup") in mounts else "v1"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        wait_until(self._booted)
        self._network = ThreadPoolExecutor(24, "in-the-box", initializer=_join_network, initargs=(self.pid,))

    def _booted(self) -> bool:
        assert self._launcher is not None
        assert self._launcher.poll() is None, (self.folder / "console").read_text()[-4000:]
        if not self.pid:
            unshare = _children(self._launcher.pid)
            self.pid = next(iter(_children(unshare[0])), 0) if unshare else 0
        if not self.pid:
            return False
        asked = self.run("systemctl", "is-system-running", check=False)
        return asked.stdout.strip() in _STARTED

    @property
    def root(self) -> Path:
        """The inside root as seen from here."""
        return Path(f"/proc/{self.pid}/root")

    def run(self, *command: str | Path, check: bool = True, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-p", "-m", "-u", "-i", "-n", "-C", "-r", "-w",
             "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def in_network(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call something in a thread that lives in the inside network."""
        assert self._network is not None
        return self._network.submit(call, *args, **kwargs)

    def stop(self) -> None:
        if self._network is not None:
            self._network.shutdown()
        if self._launcher is not None:
            if self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, _SIGPOWEROFF)
            try:
                self._launcher.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self._launcher.pid, signal.SIGKILL)
                self._launcher.wait(10)
        for group in self._groups:
            wait_until(lambda group=group: _removed(group))  # type: ignore[misc]
        shutil.rmtree(self.folder)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()


def _join_network(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as network:
        if libc.setns(network.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def booted(shown: Iterable[Path]) -> Iterator[Box]:
    box = Box(shown)
    try:
        box.start()
        yield box
    finally:
        box.stop()


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started
