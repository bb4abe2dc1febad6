"""All checks, in the order in which one would ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from steadyocr.ops.doctor import installation, machine
from steadyocr.ops.doctor.findings import Finding, fail
from steadyocr.settings import Settings


def examine(load: Callable[[], Settings], settings_path: Path | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Run the checks one by one.

    Args:
        load: Reads the settings; may raise :class:`ConfigError`.
        settings_path: The settings file that it reads, if there is one.
        environ: The environment.
    """
    yield machine.python()
    yield machine.processor()
    yield machine.clock()
    yield machine.descriptors()
    yield machine.fonts()
    yield installation.settings_file(settings_path)
    yield installation.environment(environ)
    finding, settings = installation.values(load)
    yield finding
    if settings is not None:
        for name, check in _checks_with(settings).items():
            yield _guarded(name, check)
    yield _guarded("systemd", installation.systemd)


def _checks_with(settings: Settings) -> dict[str, Callable[[], Finding]]:
    return {
        "cores": lambda: machine.cores(settings),
        "memory": lambda: machine.memory(settings),
        "disk": lambda: machine.disk(settings),
        "job pictures": lambda: machine.job_pictures(settings),
        "port": lambda: machine.port(settings),
        "models": lambda: installation.models(settings),
        "device": lambda: installation.device(settings),
        "alerts": lambda: installation.alerts(settings),
        "job database": lambda: installation.job_database(settings),
    }


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Run a check; one that breaks says so instead of hiding the others."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a doctor that dies of the illness is of no use
        return fail(name, f"the check itself failed: {error!r}", "report this")
