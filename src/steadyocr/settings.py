"""All settings: one tree, read once, frozen, unknown keys refused.

Sources, strongest first: arguments of the command line, environment (``STEADYOCR_QUEUE__MAX_SIZE=32``), the TOML file
(``STEADYOCR_CONFIG`` or ``steadyocr.toml`` in the data folder), defaults.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from steadyocr.errors import ConfigError
from steadyocr.runtime.cpu import available_threads
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.pressure import LadderParams
from steadyocr.scheduling.scheduler import SchedulerConfig
from steadyocr.scheduling.slot import SlotConfig

ENV_PREFIX = "STEADYOCR_"
_NESTING = "__"
# Read by this module or by make, not part of the tree.
_OTHER_NAMES = frozenset({"STEADYOCR_CONFIG"})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Section):
    """Where and how HTTP is served."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="port; 0 takes a free one")
    root_path: str = Field("", description="path prefix that a proxy strips")
    drain_timeout_s: float = Field(25.0, ge=0, le=600, description="seconds that running requests get on stop")
    insecure: bool = Field(False, description="allow a public address without API keys")


def _not_blank(key: SecretStr) -> SecretStr:
    # A blank key would let everybody in who sends none.
    if not key.get_secret_value().strip():
        raise ValueError("a key must not be blank")
    return key


class AuthSettings(_Section):
    """Who may use the service."""

    api_keys: tuple[Annotated[SecretStr, AfterValidator(_not_blank)], ...] = Field(
        (), description="accepted keys; none means open to all who reach it"
    )


class LimitSettings(_Section):
    """What a picture may be, checked before any work."""

    max_bytes: int = Field(32 << 20, ge=1024, le=1 << 30, description="bytes of one encoded picture")
    max_pixels: int = Field(64_000_000, ge=1024, le=1_000_000_000, description="pixels, from the header")
    max_side_ratio: float = Field(100.0, ge=1, description="longer side over shorter")


class QueueSettings(_Section):
    """The admission queue."""

    max_size: int = Field(64, ge=1, le=100_000, description="pictures that may wait; one more gets 503")
    max_per_client: int = Field(0, ge=0, description="of one client; one more gets 429; 0 is no such bound")
    timeout_s: float = Field(60.0, gt=0, le=3600, description="seconds a request may take when it does not say")
    max_timeout_s: float = Field(300.0, gt=0, le=3600, description="most that a request may ask for, in seconds")


class EngineSettings(_Section):
    """The engine processes."""

    count: int = Field(0, ge=0, le=256, description="engine processes; 0 fits the machine")
    threads: int = Field(0, ge=0, le=512, description="threads of one engine; 0 fits the machine")
    backend: Literal["auto", "openvino", "onnxruntime"] = Field("auto", description="inference library")
    precision: Literal["auto", "f32"] = Field("auto", description="auto uses bf16 where the CPU has it")
    start_timeout_s: float = Field(60.0, gt=0, le=3600, description="seconds until a starting engine is given up")
    item_limit_s: float = Field(60.0, gt=0, le=3600, description="seconds on one picture after which an engine hangs")
    heartbeat_s: float = Field(20.0, gt=0, le=600, description="seconds of silence after which an engine hangs")
    retire_items: int = Field(50_000, ge=0, description="pictures after which an engine is replaced; 0 never")
    retire_growth_bytes: int = Field(
        256 << 20, ge=0, description="bytes of growth while idle after which an engine is replaced"
    )
    memory_slack_bytes: int = Field(
        32 << 20,
        ge=0,
        description="bytes an engine may keep over its base line before it gives scratch memory back",
    )


class MemorySettings(_Section):
    """The memory contract and the pressure ladder."""

    budget_bytes: int = Field(0, ge=0, description="bytes of the whole service; 0 takes the tightest limit found")
    calibrate: bool = Field(True, description="measure what pictures cost when first started on a machine")
    smaller_at: float = Field(0.80, gt=0, le=1, description="used share from which pictures are made smaller")
    one_at_a_time_at: float = Field(0.88, gt=0, le=1, description="used share from which one engine works at a time")
    shed_at: float = Field(0.95, gt=0, le=1, description="used share from which new work is refused")
    smaller_side: int = Field(960, ge=32, description="side limit under pressure, in pixels")


class ModelSettings(_Section):
    """Which models serve."""

    detector: str = Field("pp-ocrv6-small-det", description="detection model")
    recogniser: str = Field("pp-ocrv6-small-rec", description="recognition model")


class LoggingSettings(_Section):
    """Logs, on standard error."""

    format: Literal["json", "console"] = Field("console", description="JSON lines, or for a human eye")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="threshold")


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    return Path(base) / "steadyocr"


class Settings(_Section):
    """The whole tree."""

    data_dir: Path = Field(default_factory=_default_data_dir, description="folder of all state")
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    queue: QueueSettings = QueueSettings()
    engines: EngineSettings = EngineSettings()
    memory: MemorySettings = MemorySettings()
    models: ModelSettings = ModelSettings()
    logging: LoggingSettings = LoggingSettings()

    def scheduler_config(self) -> SchedulerConfig:
        """Derive what the scheduler and its engines need, sized for this machine where a setting says 0."""
        cores = available_threads()
        count = self.engines.count or max(1, cores // 2)
        threads = self.engines.threads or max(1, cores // count)
        return SchedulerConfig(
            slot=SlotConfig(
                engine=self._engine_config(threads),
                start_timeout_s=self.engines.start_timeout_s,
                item_limit_s=self.engines.item_limit_s,
                heartbeat_s=self.engines.heartbeat_s,
                retire_items=self.engines.retire_items,
                retire_growth_bytes=self.engines.retire_growth_bytes,
            ),
            engines=count,
            queue_size=self.queue.max_size,
            max_per_client=self.queue.max_per_client,
            budget_bytes=self.memory.budget_bytes,
            calibrate=self.memory.calibrate,
            ladder=LadderParams(
                smaller_at=self.memory.smaller_at,
                one_at_a_time_at=self.memory.one_at_a_time_at,
                shed_at=self.memory.shed_at,
                smaller_side=self.memory.smaller_side,
            ),
            quarantine_file=self.data_dir / "quarantine.json",
        )

    def _engine_config(self, threads: int) -> EngineConfig:
        return EngineConfig(
            detector=self.models.detector,
            recogniser=self.models.recogniser,
            user_models=str(self.data_dir / "models"),
            backend=self.engines.backend,
            precision=self.engines.precision,
            threads=threads,
            max_bytes=self.limits.max_bytes,
            max_pixels=self.limits.max_pixels,
            max_side_ratio=self.limits.max_side_ratio,
            memory_slack_bytes=self.engines.memory_slack_bytes,
            cache_dir=str(self.data_dir / "cache"),
            log_format=self.logging.format,
            log_level=self.logging.level,
        )

    def refuse_open_door(self) -> None:
        """Refuse a public address without a key.

        Raises:
            ConfigError: The address is not loopback, no key is set and ``insecure`` does not say so.
        """
        if self.server.host in _LOOPBACK or self.auth.api_keys or self.server.insecure:
            return
        raise ConfigError(
            f"listening on {self.server.host} without an API key would open the service to everybody who reaches it; "
            "set auth.api_keys, or pass --insecure if something in front checks who comes"
        )


class Origins:
    """Where each value of a :class:`Settings` came from, by dotted name."""

    def __init__(self) -> None:
        self._origins: dict[str, str] = {}

    def note(self, values: Mapping[str, Any], origin: str, prefix: str = "") -> None:
        """Record an origin for every leaf of a tree."""
        for key, value in values.items():
            if isinstance(value, Mapping):
                self.note(value, origin, f"{prefix}{key}.")
            else:
                self._origins[f"{prefix}{key}"] = origin

    def of(self, name: str) -> str:
        """Return the origin of a value, or of a section that somebody gave a value in."""
        for known, origin in self._origins.items():
            if f"{known}.".startswith(f"{name}.") or f"{name}.".startswith(f"{known}."):
                return origin
        return "default"


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Settings, Origins]:
    """Read all sources once.

    Args:
        overrides: A tree that beats every other source (the command line).
        config_file: TOML file; by default ``STEADYOCR_CONFIG``, else ``steadyocr.toml`` in the data folder if there.
        environ: The environment; the process's own by default.

    Raises:
        ConfigError: A key is unknown, a value is out of range or a file cannot be read; the message names it.
    """
    environ = os.environ if environ is None else environ
    origins = Origins()
    from_env = _from_environment(environ)
    path = _config_path(config_file, environ, from_env)
    from_file = _from_file(path) if path else {}
    origins.note(from_file, str(path))
    origins.note(from_env, "environment")
    origins.note(overrides or {}, "command line")
    merged = _merge(_merge(from_file, from_env), overrides or {})
    try:
        return Settings.model_validate(merged), origins
    except ValidationError as error:
        problems = "; ".join(_describe(entry["loc"], entry["msg"], origins) for entry in error.errors())
        raise ConfigError(f"the settings cannot be used: {problems}") from error


def _describe(location: tuple[int | str, ...], message: str, origins: Origins) -> str:
    name = ".".join(str(part) for part in location)
    return f"{name} ({origins.of(name)}): {message}"


def _config_path(given: Path | None, environ: Mapping[str, str], from_env: Mapping[str, Any]) -> Path | None:
    if given is not None:
        return given
    if environ.get("STEADYOCR_CONFIG"):
        return Path(environ["STEADYOCR_CONFIG"])
    usual = Path(from_env.get("data_dir") or _default_data_dir()) / "steadyocr.toml"
    return usual if usual.is_file() else None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Turn ``STEADYOCR_A__B=x`` into ``{"a": {"b": "x"}}``; a misspelt name is refused later as an unknown key."""
    tree: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX) or name in _OTHER_NAMES:
            continue
        *parents, leaf = name.removeprefix(ENV_PREFIX).lower().split(_NESTING)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(
                    f"{name} gives a value inside {parent!r}, which another variable gives a value itself"
                )
        if leaf in node:
            raise ConfigError(f"{name} gives {leaf!r} a value, which other variables give values inside")
        # Lists are written as a comma-separated text.
        node[leaf] = [part.strip() for part in text.split(",") if part.strip()] if leaf == "api_keys" else text
    return tree


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged
