"""The sections of the settings tree, each value with its unit and range."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


class Section(BaseModel):
    """A part of the tree: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    """Where and how HTTP is served."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="port; 0 takes a free one")
    root_path: str = Field("", description="path prefix that a proxy strips")
    drain_timeout_s: float = Field(25.0, ge=0, le=600, description="seconds that running requests get on stop")
    max_connections: int = Field(512, ge=8, le=65_536, description="open connections; one more gets 503")
    upload_stall_s: float = Field(
        30.0, gt=0, le=3600, description="seconds in which a body must get on by 64 KiB, else 408"
    )
    write_stall_s: float = Field(
        30.0, gt=0, le=3600, description="seconds in which a client must take 64 KiB of its answer, else it is cut off"
    )
    insecure: bool = Field(False, description="allow a public address without API keys")
    allowed_hosts: tuple[str, ...] = Field(
        (),
        max_length=64,
        description="names by which a service without keys may be asked for, besides addresses, localhost and the "
        "machine's own; a proxy in front may pass on its own",
    )


def _sendable(key: SecretStr) -> SecretStr:
    """Return a key without the blanks round it, which no header keeps; a file with a key ends in a new line, say."""
    text = key.get_secret_value().strip()
    # A blank key would let everybody in who sends none.
    if not text:
        raise ValueError("a key must not be blank")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("a key must be of plain characters (printable ASCII): others do not travel in a header")
    return SecretStr(text)


class AuthSettings(Section):
    """Who may use the service."""

    api_keys: tuple[Annotated[SecretStr, AfterValidator(_sendable)], ...] = Field(
        (), description="accepted keys; none means open to all who reach it"
    )


class LimitSettings(Section):
    """What a picture may be, checked before any work."""

    max_bytes: int = Field(32 << 20, ge=1024, le=1 << 30, description="bytes of one encoded picture")
    max_pixels: int = Field(64_000_000, ge=1024, le=1_000_000_000, description="pixels, from the header")
    max_side_ratio: float = Field(100.0, ge=1, description="longer side over shorter")
    body_budget_bytes: int = Field(
        0,
        ge=0,
        description="bytes of all pictures coming in, waiting and being read; one more gets 503; 0 is an eighth of "
        "the memory, from 64 MiB to 1 GiB",
    )


class QueueSettings(Section):
    """The admission queue."""

    max_size: int = Field(
        64, ge=1, le=100_000, description="pictures that may wait; one more gets 503. A batch's keep no single one out"
    )
    max_per_client: int = Field(0, ge=0, description="of one client; one more gets 429; 0 is no such bound")
    timeout_s: float = Field(60.0, gt=0, le=3600, description="seconds a request may take when it does not say")
    max_timeout_s: float = Field(300.0, gt=0, le=3600, description="most that a request may ask for, in seconds")


class EngineSettings(Section):
    """The engine processes."""

    count: int = Field(0, ge=0, le=256, description="engine processes; 0 fits the machine")
    threads: int = Field(0, ge=0, le=512, description="threads of one engine; 0 fits the machine")
    backend: Literal["auto", "openvino", "onnxruntime", "torch"] = Field("auto", description="inference library")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d{1,2})?)$", description="cpu, cuda or cuda:N")
    device_memory_share: float = Field(
        0.9, gt=0, le=1, description="of the card's memory, that all engines together may take"
    )
    precision: Literal["auto", "f32"] = Field("auto", description="auto uses bf16 where the CPU is faster with it")
    start_timeout_s: float = Field(60.0, gt=0, le=3600, description="seconds until a starting engine is given up")
    item_limit_s: float = Field(60.0, gt=0, le=3600, description="seconds on one picture after which an engine hangs")
    heartbeat_s: float = Field(20.0, gt=0, le=600, description="seconds of silence after which an engine hangs")
    retire_items: int = Field(50_000, ge=0, description="pictures after which an engine is replaced; 0 never")
    retire_age_s: float = Field(0.0, ge=0, description="seconds after which an engine is replaced; 0 never")
    retire_growth_bytes: int = Field(
        256 << 20, ge=0, description="bytes of growth while idle after which an engine is replaced"
    )
    memory_slack_bytes: int = Field(
        32 << 20,
        ge=0,
        description="bytes an engine may keep over its base line before it gives scratch memory back",
    )
    scratch_bytes: int = Field(
        512 << 20, ge=0, description="the same while more work waits and memory is plentiful; 0 gives back every time"
    )


class MemorySettings(Section):
    """The memory contract and the pressure ladder."""

    budget_bytes: int = Field(0, ge=0, description="bytes of the whole service; 0 takes the tightest limit found")
    calibrate: bool = Field(True, description="measure what pictures cost when first started on a machine")
    smaller_at: float = Field(0.80, gt=0, le=1, description="used share from which pictures are made smaller")
    one_at_a_time_at: float = Field(0.88, gt=0, le=1, description="used share from which one engine works at a time")
    shed_at: float = Field(0.95, gt=0, le=1, description="used share from which new work is refused")
    smaller_side: int = Field(960, ge=32, description="side limit under pressure, in pixels")


class ModelSettings(Section):
    """Which models serve."""

    detector: str = Field("pp-ocrv6-small-det", description="detection model")
    recogniser: str = Field("pp-ocrv6-small-rec", description="recognition model")
    max_side: int = Field(
        0,
        ge=0,
        le=4096,
        description="longest side given to the detector, when a request does not say; 0 is the model's own",
    )
