"""What the units say, worked out from the settings and this machine, so that their numbers agree with each other."""

from __future__ import annotations

import math
import os
import pwd
import shlex
import sys
import sysconfig
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

import steadyocr
from steadyocr.errors import ConfigError
from steadyocr.ops.sizing import threads_agree
from steadyocr.runtime.cpu import available_threads
from steadyocr.runtime.memory import memory_limit_bytes
from steadyocr.settings import Settings
from steadyocr.settings.sizing import default_engines

NAME = "steadyocr"
STATE_ROOT = Path("/var/lib")
DEFAULT_ENVIRONMENT_FILE = Path("/etc/steadyocr/environment")

# Left to the rest of the machine.
_MEMORY_SHARE = 0.8
_MIN_MEMORY_BYTES = 1 << 30
# Below it not even one engine starts; a number without its unit is the usual way to get there.
_LEAST_MEMORY_BYTES = 256 << 20
# One percent of a core. systemd drops a quota that is smaller, and the limit with it.
_LEAST_CPUS = 0.01
_MIB = 1 << 20
# One more start counts as a storm when so many came before it. What crashes later than the interval allows is slow
# enough to be served in between, and is told by the alerts on engine deaths and readiness instead.
START_LIMIT_BURST = 5
RESTART_S = 2
_SLOWEST_CRASH_S = 50
# Beyond draining: jobs let go, engines end, connections close. The server asks for the same.
STOP_MARGIN_S = 20
ABORT_S = 10
# An inference library starts a pool for each thread setting of its own, and a replacement is warmed beside an engine.
_FRONT_TASKS = 96
_ENGINE_TASKS = 32
_TASKS_PER_THREAD = 8

# Where the sandbox shows the service empty folders instead.
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - told apart, not written to


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator decides; ``None`` leaves it to the machine.

    Attributes:
        user: Who the service runs as; ``None`` takes a user that exists only while it runs.
        data_dir: Folder of all state.
        config_file: Settings file, when it is not the one in the data folder.
        environment_file: Read at each start if it is there; for keys, since only root need be able to read it.
        channels_file: Alert channels; handed over at each start, so that only root need be able to read it.
        memory_bytes: Limit of the whole service.
        cpus: CPU quota, in cores.
    """

    user: str | None = None
    data_dir: Path = STATE_ROOT / NAME
    config_file: Path | None = None
    environment_file: Path = DEFAULT_ENVIRONMENT_FILE
    channels_file: Path | None = None
    memory_bytes: int | None = None
    cpus: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the units are rendered from.

    Attributes:
        user: Who the service runs as.
        dynamic_user: systemd makes that user up while the service runs.
        python: The interpreter, with our package in reach.
        visible: Folders that must stay readable although they lie where the sandbox hides everything.
        writable: Folders outside ``data_dir`` that the settings put state into.
        homes_hidden_fully: Nothing of ``visible`` and no state lies in a home folder.
        listen: Address and port of the socket unit.
        engines: Engine processes.
        threads: Threads of each.
        cuda: Engines use a graphics card.
        jit: The inference library, or the card's driver, makes machine code at run time.
    """

    user: str
    dynamic_user: bool
    data_dir: Path
    config_file: Path | None
    environment_file: Path
    channels_file: Path | None
    python: Path
    visible: tuple[Path, ...]
    writable: tuple[Path, ...]
    homes_hidden_fully: bool
    listen: str
    memory_bytes: int
    cpus: float
    engines: int
    threads: int
    cuda: bool
    jit: bool
    tasks_max: int
    watchdog_s: int
    start_s: int
    stop_s: int
    start_limit_interval_s: int

    @property
    def state_directory(self) -> str | None:
        """Name under ``/var/lib`` that systemd makes and owns for us; ``None`` for a folder elsewhere."""
        return self.data_dir.name if self.data_dir.parent == STATE_ROOT else None

    @property
    def state_elsewhere(self) -> tuple[Path, ...]:
        """Folders of state that systemd does not make for us."""
        return self.writable if self.state_directory is not None else (self.data_dir, *self.writable)


def is_hidden(path: Path) -> bool:
    """Whether the sandbox puts an empty folder in the place of one that this lies in."""
    return _inside(path, (*_HOMES, *_TEMPORARY))


def refuse_missing_folders(plan: Plan) -> None:
    """Refuse to run over folders that are not there: systemd ends each start then, with 226 and no word on which.

    Raises:
        ConfigError: One is missing; the message says how to make it.
    """
    for path in plan.state_elsewhere:
        if not path.is_dir():
            command = f"install -d -o {plan.user} -m 0700 {shlex.quote(str(path))}"
            raise ConfigError(f"{path} is not there, and systemd does not make it; make it first: {command}")


def refuse_unknown_user(plan: Plan) -> None:
    """Refuse a user whom this machine does not know: systemd ends each start with 217 then.

    Raises:
        ConfigError: The user is not there; the message says how to make one.
    """
    if plan.dynamic_user:
        return
    try:
        if plan.user.isdecimal():
            pwd.getpwuid(int(plan.user))
        else:
            pwd.getpwnam(plan.user)
    except (KeyError, OverflowError) as error:
        raise ConfigError(
            f"there is no user {plan.user} on this machine; make one first (useradd --system NAME), or leave out "
            "--user, which takes one that exists only while the service runs"
        ) from error


def make_plan(settings: Settings, wishes: Wishes) -> Plan:
    """Work out what the units say.

    Args:
        settings: As the service will see them.
        wishes: What the operator decides.

    Raises:
        ConfigError: The wishes, the settings and the machine do not go together; the message says what to change.
    """
    settings.refuse_open_door()
    cpus = wishes.cpus if wishes.cpus is not None else float(available_threads())
    memory_bytes = _memory(wishes.memory_bytes)
    _refuse_budget_beyond(memory_bytes, settings.memory.budget_bytes)
    engines, threads = _engines_and_threads(settings, cpus, memory_bytes)
    visible = _hidden_roots(wishes.config_file, settings.lab.datasets_dir)
    writable = _state_elsewhere(settings, wishes.data_dir)
    cuda = settings.engines.device.startswith("cuda")
    patience = max(settings.engines.item_limit_s, settings.engines.heartbeat_s)
    plan = Plan(
        user=wishes.user or NAME,
        dynamic_user=wishes.user is None,
        data_dir=wishes.data_dir,
        config_file=wishes.config_file,
        environment_file=wishes.environment_file,
        channels_file=wishes.channels_file,
        python=Path(sys.executable),
        visible=visible,
        writable=writable,
        homes_hidden_fully=not any(_inside(path, _HOMES) for path in (*visible, wishes.data_dir, *writable)),
        listen=_listen_address(settings),
        memory_bytes=memory_bytes,
        cpus=cpus,
        engines=engines,
        threads=threads,
        cuda=cuda,
        jit=cuda or settings.engines.backend != "onnxruntime",
        tasks_max=_FRONT_TASKS + 2 * engines * (_ENGINE_TASKS + _TASKS_PER_THREAD * threads),
        # One picture may take its whole limit, a hung engine is found and replaced in between: neither is our death.
        watchdog_s=round(1.5 * patience) + 30,
        # Only until the service asks for more, which it does as long as its models load.
        start_s=60,
        stop_s=round(settings.server.drain_timeout_s) + STOP_MARGIN_S,
        start_limit_interval_s=START_LIMIT_BURST * (RESTART_S + _SLOWEST_CRASH_S),
    )
    if plan.state_directory is None and plan.dynamic_user:
        raise ConfigError(f"a data folder outside {STATE_ROOT} needs --user: it must belong to somebody who stays")
    named = [path for path in (plan.config_file, plan.channels_file) if path is not None]
    for path in (plan.data_dir, plan.environment_file, *named, *plan.visible, *plan.writable):
        if not path.is_absolute() or ":" in str(path) or not str(path).isprintable():
            raise ConfigError(f"systemd needs an absolute path without a colon, not {str(path)!r}")
    return plan


def _engines_and_threads(settings: Settings, cpus: float, memory_bytes: int) -> tuple[int, int]:
    """Return engine processes and threads of each, as the service will choose them under this quota and limit."""
    if not _LEAST_CPUS <= cpus < math.inf:
        raise ConfigError(f"--cpus is a number of cores, {_LEAST_CPUS:g} at least")
    cores = max(1, int(cpus + 0.01))
    budget = settings.memory.budget_bytes or memory_bytes
    fitting = default_engines(cores, budget_bytes=budget, device=settings.engines.device)
    engines = settings.engines.count or fitting
    threads = settings.engines.threads or max(1, cores // engines)
    if not threads_agree(engines, threads, cores):
        raise ConfigError(
            f"engines.count x engines.threads is {engines} x {threads}, but the quota is {cpus:g} cores: threads "
            "that share a core slow each other down; lower engines.count or engines.threads, or raise --cpus"
        )
    return engines, threads


def _memory(wished: int | None) -> int:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    within = min(machine, memory_limit_bytes() or machine)
    memory = wished if wished is not None else int(within * _MEMORY_SHARE) // _MIB * _MIB
    if memory > within:
        raise ConfigError(f"--memory is more than the {within // _MIB} MiB that this machine allows")
    if memory < _LEAST_MEMORY_BYTES and wished is not None:
        raise ConfigError(f"--memory is {memory} bytes, in which no engine starts; write it like 3G")
    if wished is None and memory < _MIN_MEMORY_BYTES:
        raise ConfigError(f"this machine has {within // _MIB} MiB; say with --memory how much the service may take")
    return memory


def _refuse_budget_beyond(memory_bytes: int, budget_bytes: int) -> None:
    """Refuse settings that let the service take more than the kernel will give it: it would be killed for that."""
    if budget_bytes > memory_bytes:
        raise ConfigError(
            f"memory.budget_bytes is {budget_bytes // _MIB} MiB, but the unit allows {memory_bytes // _MIB} MiB: set "
            "it to 0, which follows the limit, or raise --memory"
        )


def _listen_address(settings: Settings) -> str:
    host, port = settings.server.host, settings.server.port
    if port == 0:
        raise ConfigError("a socket unit needs a port: set server.port")
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ConfigError(f"a socket unit needs an IP address: server.host is {host}") from error
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _hidden_roots(config_file: Path | None, datasets_dir: str) -> tuple[Path, ...]:
    """Return what the service must read and the sandbox would hide: a checkout, an interpreter, data sets in a home."""
    package = Path(steadyocr.__file__).parent.parent
    needed = {Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("purelib")), package}
    needed |= {path.resolve() for path in needed} | {Path(sys.executable).resolve().parent.parent}
    if config_file is not None:
        needed.add(config_file)
    if datasets_dir:
        needed.add(Path(datasets_dir))
    hidden = sorted(path for path in needed if is_hidden(path))
    # A folder brings along what is below it.
    return tuple(path for path in hidden if not any(other in path.parents for other in hidden))


def _state_elsewhere(settings: Settings, data_dir: Path) -> tuple[Path, ...]:
    """Return the folders of the job store when the settings put them outside the data folder."""
    database, blobs = settings.jobs.database_url(data_dir), settings.jobs.blobs_url(data_dir)
    folders = [Path(blobs)] if "://" not in blobs else []
    if database.startswith("sqlite:////"):
        folders.append(Path(unquote(database.removeprefix("sqlite:///").partition("?")[0])).parent)
    return tuple(sorted({path for path in folders if data_dir not in (path, *path.parents)}))


def _inside(path: Path, trees: tuple[Path, ...]) -> bool:
    return any(tree in (path, *path.parents) for tree in trees)
