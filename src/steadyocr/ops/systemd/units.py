"""The text of the units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from steadyocr.ops.systemd.plan import ABORT_S, NAME, RESTART_S, START_LIMIT_BURST, Plan, is_hidden

SERVICE: Final = f"{NAME}.service"
SOCKET: Final = f"{NAME}.socket"
ALERT: Final = f"{NAME}-alert@.service"
UNIT_NAMES: Final = (SERVICE, SOCKET, ALERT)

# The first line of every file that is ours to replace or remove.
MARK: Final = (
    "# Written by 'steadyocr systemd install', which replaces it; put changes into a drop-in (systemctl edit)."
)

# Exit codes after which another start would fail the same way: usage, configuration, model.
_HOPELESS: Final = "2 4 5"

# Name of the credential.
_CHANNELS: Final = "channels"

_MOST_CARDS: Final = 16
_CARD_DEVICES: Final = (
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
    "/dev/nvidia-caps",
    *(f"/dev/nvidia{number}" for number in range(_MOST_CARDS)),
)

_SANDBOX: Final = (
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "PrivateUsers=yes",
    "ProtectSystem=strict",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "# Read-only, so the service still sees its own limits and takes its budget and threads from them.",
    "ProtectControlGroups=yes",
    "ProtectProc=invisible",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RemoveIPC=yes",
    "LockPersonality=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "# Training and exports stand back behind serving.",
    "SystemCallFilter=setpriority sched_setscheduler",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
    "# A core dump would hold pictures.",
    "LimitCORE=0",
)


def render_units(plan: Plan) -> Mapping[str, str]:
    """Return the text of each unit by file name."""
    return {SERVICE: _text(_service(plan)), SOCKET: _text(_socket(plan)), ALERT: _text(_alert(plan))}


def _text(lines: Iterator[str]) -> str:
    return "\n".join((MARK, *lines)) + "\n"


def _service(plan: Plan) -> Iterator[str]:
    yield from (
        "[Unit]",
        "Description=steadyocr: text in pictures over HTTP",
        f"Requires={SOCKET}",
        f"After=network.target {SOCKET}",
        f"RequiresMountsFor={_path(plan.data_dir)}",
        f"# A crash within {plan.start_limit_interval_s // START_LIMIT_BURST - RESTART_S} s of its start, "
        f"{START_LIMIT_BURST} times in a row, ends in 'failed' and one alert.",
        f"StartLimitIntervalSec={plan.start_limit_interval_s}",
        f"StartLimitBurst={START_LIMIT_BURST}",
        f"OnFailure={NAME}-alert@%n.service",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_command(plan, 'serve')}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *_environment(plan),
        "Restart=always",
        f"RestartSec={RESTART_S}",
        "# Wrong settings and damaged models do not mend by trying again.",
        f"RestartPreventExitStatus={_HOPELESS}",
        f"TimeoutStartSec={plan.start_s}",
        "# Longer than server.drain_timeout_s.",
        f"TimeoutStopSec={plan.stop_s}",
        f"TimeoutAbortSec={ABORT_S}",
        "# Longer than engines.item_limit_s: fed by answered pictures only.",
        f"WatchdogSec={plan.watchdog_s}",
        "KillMode=mixed",
        "# An engine that is killed for memory is replaced; the service lives on.",
        "OOMPolicy=continue",
        f"MemoryMax={plan.memory_bytes}",
        "MemorySwapMax=0",
        f"# {plan.engines} x {plan.threads} engine threads.",
        # Two places at most: systemd drops a number with more.
        f"CPUQuota={round(plan.cpus * 100, 2):.12g}%",
        f"TasksMax={plan.tasks_max}",
        "LimitNOFILE=8192",
        *_identity(plan),
        *_devices(plan),
        *_SANDBOX,
        *(() if plan.jit else ("MemoryDenyWriteExecute=yes",)),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        f"Also={SOCKET}",
    )


def _socket(plan: Plan) -> Iterator[str]:
    yield from (
        "[Unit]",
        "Description=steadyocr: where connections wait while the service restarts",
        "",
        "[Socket]",
        f"ListenStream={plan.listen}",
        "# The address need not be up yet.",
        "FreeBind=yes",
        "Backlog=512",
        "NoDelay=yes",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    )


def _alert(plan: Plan) -> Iterator[str]:
    yield from (
        "[Unit]",
        "Description=steadyocr: tell somebody that %i failed",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={_command(plan, 'alerts', 'unit-failed')} %i",
        *_environment(plan),
        "TimeoutStartSec=120",
        "MemoryMax=268435456",
        "TasksMax=64",
        *_identity(plan),
        "PrivateDevices=yes",
        *_SANDBOX,
    )


def _environment(plan: Plan) -> Iterator[str]:
    yield f"Environment={_quoted(f'STEADYOCR_DATA_DIR={plan.data_dir}')}"
    if plan.config_file is not None:
        yield f"Environment={_quoted(f'STEADYOCR_CONFIG={plan.config_file}')}"
    # This path, like the one of the credential, is taken as it stands: quotes would become part of it.
    yield f"EnvironmentFile=-{_plain(plan.environment_file)}"
    if plan.channels_file is not None:
        # Read by systemd, which is root, and handed over; the user of the service could not read a secret of root's.
        yield f"LoadCredential={_CHANNELS}:{_plain(plan.channels_file)}"
        yield f"Environment=STEADYOCR_ALERTS__CHANNELS_FILE=%d/{_CHANNELS}"


def _identity(plan: Plan) -> Iterator[str]:
    yield f"User={plan.user}"
    if plan.dynamic_user:
        yield "DynamicUser=yes"
    if plan.state_directory is not None:
        yield f"StateDirectory={_quoted(plan.state_directory)}"
        yield "StateDirectoryMode=0700"
    for path in plan.state_elsewhere:
        # What lies where the sandbox hides everything has to be put back there.
        yield f"{'BindPaths' if is_hidden(path) else 'ReadWritePaths'}={_path(path)}"
    # An empty folder in the place of each home keeps what is mounted into it in reach.
    yield "ProtectHome=yes" if plan.homes_hidden_fully else "ProtectHome=tmpfs"
    for path in plan.visible:
        yield f"BindReadOnlyPaths={_path(path)}"


def _devices(plan: Plan) -> Iterator[str]:
    yield "PrivateDevices=yes"
    if plan.cuda:
        yield "# The card's devices are put into a /dev of the service's own; those that are not there are left out."
        yield f"BindPaths={' '.join(f'-{device}' for device in _CARD_DEVICES)}"
        yield "DeviceAllow=char-nvidia* rw"


def _command(plan: Plan, *arguments: str) -> str:
    # A dollar in the program's own path stays as it is: only arguments know variables.
    return " ".join((_path(plan.python), "-m", "steadyocr", *arguments))


def _path(path: object) -> str:
    return _quoted(str(path))


def _plain(text: object) -> str:
    return str(text).replace("%", "%%")


def _quoted(text: str) -> str:
    """Write a word so that systemd reads the same: specifiers doubled, quoted when it holds more than plain signs."""
    text = _plain(text)
    if any(sign in text for sign in " \t\"'\\;"):
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    return text
