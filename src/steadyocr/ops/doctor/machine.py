"""Checks of the machine: interpreter, processor, memory, disk, port, fonts, clock, descriptors."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from steadyocr.errors import ConfigError
from steadyocr.jobs.filesystems import file_system_of, refuse_network_file_system
from steadyocr.ops.doctor.findings import Finding, fail, ok, warn
from steadyocr.ops.sizing import threads_agree
from steadyocr.runtime.cpu import available_threads, cpu_flags, cpu_quota
from steadyocr.runtime.memory import memory_limit_bytes
from steadyocr.scheduling.governor import detect_budget_bytes
from steadyocr.settings import Settings

_OLDEST_PYTHON: Final = (3, 11)
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
# Measured: the front, and one engine with its models and one page in hand.
_FRONT_BYTES: Final = 128 * _MIB
_ENGINE_BYTES: Final = 512 * _MIB
_COMFORTABLE_DISK_BYTES: Final = 5 * _GIB
_MIN_FREE_INODES: Final = 10_000
_MIN_DESCRIPTORS: Final = 1024
_PORT_PATIENCE_S: Final = 2.0
_CLOCK_SAMPLE_S: Final = 0.2
_CLOCK_SLACK_S: Final = 0.05
_FC_LIST_S: Final = 20.0


def python(version: tuple[int, ...] = sys.version_info[:3], bits: int = sys.maxsize.bit_length() + 1) -> Finding:
    """Check the interpreter."""
    text = ".".join(str(part) for part in version)
    if version[:2] < _OLDEST_PYTHON:
        return fail("python", f"Python {text} is too old", "install Python 3.11 or newer")
    if bits < 64:
        return fail("python", f"Python {text} is a {bits}-bit build", "install a 64-bit Python")
    return ok("python", f"Python {text}, {bits} bit")


def processor(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()) -> Finding:
    """Check which instructions the processor has for inference."""
    flags = cpu_flags(cpuinfo)
    if not flags:
        return warn("processor", "its features cannot be read", "nothing to do; inference picks what works")
    if machine in ("aarch64", "arm64"):
        fast = sorted(flags & {"bf16", "i8mm", "asimddp"})
        return ok("processor", f"{machine}, {', '.join(fast) or 'no extensions for inference'}")
    levels = (
        ("AMX", {"amx_bf16", "amx_int8"}),
        ("AVX-512 BF16", {"avx512_bf16"}),
        ("VNNI", {"avx512_vnni", "avx_vnni"}),
        ("AVX-512", {"avx512f"}),
        ("AVX2", {"avx2"}),
    )
    found = [name for name, any_of in levels if flags & any_of]
    if not found:
        return warn(
            "processor",
            f"{machine} without AVX2",
            "pictures take several times as long; in a virtual machine, let it see the host's processor type",
        )
    return ok("processor", f"{machine} with {', '.join(found)}")


def cores(
    settings: Settings,
    threads_available: Callable[[], int] = available_threads,
    quota_of: Callable[[], float | None] = cpu_quota,
) -> Finding:
    """Check that engines and threads fit the cores and the quota."""
    available, quota = threads_available(), quota_of()
    config = settings.scheduler_config()
    engines, threads = config.engines, config.slot.engine.threads
    limit = f"{available} usable" + (f", quota {quota:g}" if quota is not None else "")
    if quota is not None and quota < 1:
        return warn("cores", f"{limit}: less than one core", "give the service at least one core, or expect long waits")
    if not threads_agree(engines, threads, available):
        return warn(
            "cores",
            f"{engines} engines x {threads} threads want more than there is ({limit})",
            "give no engine more threads than cores and all together no more than two for each core; "
            "engines.count and engines.threads fit by themselves when both are 0",
        )
    return ok("cores", f"{limit}; {engines} engines x {threads} threads")


def memory(
    settings: Settings,
    budget_of: Callable[[], int] = detect_budget_bytes,
    limit_of: Callable[[], int | None] = memory_limit_bytes,
) -> Finding:
    """Check that the engines fit the memory that may be used."""
    allowed, limit = budget_of(), limit_of()
    budget = settings.memory.budget_bytes or allowed
    engines = settings.scheduler_config().engines
    needed = _FRONT_BYTES + engines * _ENGINE_BYTES
    giver = "control group" if limit is not None and limit <= allowed else "machine"
    origin = "memory.budget_bytes" if settings.memory.budget_bytes else giver
    text = f"{budget / _GIB:.1f} GiB by {origin}; {engines} engines need about {needed / _GIB:.1f} GiB"
    most = min(allowed, limit or allowed)
    if settings.memory.budget_bytes > most:
        return fail(
            "memory",
            f"memory.budget_bytes is {budget / _GIB:.1f} GiB, but the {giver} allows {most / _GIB:.1f} GiB",
            "set memory.budget_bytes to 0, which takes what there is, or raise the limit (MemoryMax=, --memory)",
        )
    if budget < _FRONT_BYTES + _ENGINE_BYTES:
        return fail("memory", text, "give the service at least 1 GiB")
    if budget < needed:
        return warn("memory", text, "lower engines.count, or give it more; pictures will be made smaller")
    return ok("memory", text)


def disk(settings: Settings, mountinfo: str | None = None) -> Finding:
    """Check that state can be written, that there is room, and that the file system suits a database.

    A folder that is not there yet is not made: it would belong to whoever looks, and not to the service.
    """
    folder = place = settings.data_dir
    try:
        place = _place_of(folder)
        _write_in(place)
        usage, inodes = shutil.disk_usage(place), os.statvfs(place)
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape") if mountinfo is None else mountinfo
    except OSError as error:
        return fail(
            "disk",
            f"{folder} cannot be {'written' if place == folder else 'made'}: {error.strerror}",
            "set data_dir to a folder that the service's user may write, or free some space",
        )
    kind = file_system_of(folder.resolve(), mounts) or "unknown"
    text = f"{usage.free / _GIB:.1f} GiB free on {folder} ({kind})" + (
        "" if place == folder else ", made at the first start"
    )
    try:
        refuse_network_file_system(folder, mounts)
    except ConfigError as error:
        return fail("disk", text, error.message)
    if usage.free < settings.jobs.min_free_bytes:
        return fail("disk", text, _refused_below(settings))
    if inodes.f_files and inodes.f_favail < _MIN_FREE_INODES:
        return warn("disk", f"{text}, only {inodes.f_favail} inodes", "delete small files, or use another file system")
    if usage.free < _COMFORTABLE_DISK_BYTES:
        return warn("disk", text, "keep 5 GiB free, or lower jobs.max_stored_bytes and jobs.keep_s")
    if kind == "tmpfs":
        return warn("disk", f"{text}: it is memory", "set data_dir to a disk, or jobs are lost with the power")
    return ok("disk", text)


def job_pictures(settings: Settings) -> Finding:
    """Check the folder of the pictures of jobs where it is not in the data folder.

    Nodes may share it, so its file system may be one of the network. Like the data folder it is not made.
    """
    name, where = "job pictures", settings.jobs.blobs_url(settings.data_dir)
    if "://" in where:
        return ok(name, "in a bucket, which is not asked")
    folder = place = Path(where)
    try:
        if settings.data_dir.resolve() in folder.resolve().parents:
            return ok(name, "in the data folder")
        place = _place_of(folder)
        _write_in(place)
        free = shutil.disk_usage(place).free
    except OSError as error:
        return fail(
            name,
            f"{folder} cannot be {'written' if place == folder else 'made'}: {error.strerror}",
            "set jobs.blobs to a folder that the service's user may write, or free some space",
        )
    text = f"{free / _GIB:.1f} GiB free on {folder}" + ("" if place == folder else ", made at the first start")
    if free < settings.jobs.min_free_bytes:
        return fail(name, text, _refused_below(settings))
    if free < _COMFORTABLE_DISK_BYTES:
        return warn(name, text, "keep 5 GiB free, or lower jobs.max_stored_bytes and jobs.keep_s")
    return ok(name, text)


def _refused_below(settings: Settings) -> str:
    floor = settings.jobs.min_free_bytes / _MIB
    return f"free some space; jobs are refused below {floor:.0f} MiB (jobs.min_free_bytes)"


def _place_of(folder: Path) -> Path:
    """Return where a folder is, or will be made."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _write_in(place: Path) -> None:
    """Write something that is gone again at once.

    Raises:
        OSError: It cannot be written.
    """
    with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-") as probe:
        probe.write(b"x")
        probe.flush()


def port(settings: Settings) -> Finding:
    """Check that the address is free, or that it is this very service that has it."""
    host, number = settings.server.host, settings.server.port
    where = f"{host} port {number}"
    if number == 0:
        return ok("port", "a free one is taken")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return _port_problem(settings, where, error)
    return ok("port", f"{where} is free")


def _port_problem(settings: Settings, where: str, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        if _answers(settings):
            return ok("port", f"{where}: a steadyocr answers there")
        return fail("port", f"{where} is taken by another program", "stop it (ss -ltnp names it), or set server.port")
    if error.errno == errno.EACCES:
        return fail("port", f"{where} needs a privilege", "use a port above 1023, or the socket unit of systemd")
    return fail("port", f"{where}: {error.strerror}", "set server.host to an address of this machine")


def _answers(settings: Settings) -> bool:
    """Whether what listens there is a steadyocr; an open probe of ours says so."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.server.host, settings.server.host)  # noqa: S104 - compared, not bound
    connection = http.client.HTTPConnection(host, settings.server.port, timeout=_PORT_PATIENCE_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            return answer.status == http.HTTPStatus.OK and answer.read(16) == b"ok\n"
        except (OSError, http.client.HTTPException):
            return False


def fonts(program: str = "fc-list") -> Finding:
    """Check the fonts. Overlays need none: their numbers are drawn with strokes that come with the library."""
    found = shutil.which(program)
    families: list[str] = []
    if found is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(  # noqa: S603 - a program of the system, with fixed arguments
                [found, ":lang=zh", "family"], capture_output=True, text=True, timeout=_FC_LIST_S, check=False
            )
            families = done.stdout.splitlines()
    if not families:
        return warn(
            "fonts",
            "overlays need none; no Chinese font is installed",
            "only 'steadyocr synth' needs one: install fonts-noto-cjk and fontconfig for it",
        )
    return ok("fonts", f"overlays need none; {len(families)} Chinese ones for 'steadyocr synth'")


def clock(
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    not_before: float | None = None,
) -> Finding:
    """Check that the time is not before this program was made, and that it runs evenly."""
    made_at = Path(__file__).stat().st_mtime if not_before is None else not_before
    wall_before, monotonic_before = wall(), monotonic()
    sleep(_CLOCK_SAMPLE_S)
    drift = (wall() - wall_before) - (monotonic() - monotonic_before)
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall_before))
    if wall_before < made_at - 86_400:
        return fail("clock", f"{shown} is before this program was installed", "set the clock; timedatectl set-ntp true")
    if abs(drift) > _CLOCK_SLACK_S:
        return warn(
            "clock",
            f"the wall clock moved by {drift:+.2f} s against the monotonic one within {_CLOCK_SAMPLE_S:g} s",
            "something sets the clock in jumps; waits are not harmed, but times in logs and leases of jobs are",
        )
    return ok("clock", f"{shown}, runs evenly")


def descriptors(limit: int | None = None) -> Finding:
    """Check how many files and connections the process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if soft != resource.RLIM_INFINITY and soft < _MIN_DESCRIPTORS:
        return warn("descriptors", f"only {soft} may be open", "raise LimitNOFILE= or ulimit -n to 1024 at least")
    return ok("descriptors", f"{soft} may be open" if soft != resource.RLIM_INFINITY else "no limit")
