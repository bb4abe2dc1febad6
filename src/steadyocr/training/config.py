"""Everything a training run depends on, as one frozen value, kept in the run folder."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from steadyocr.errors import ConfigError
from steadyocr.training.augment import AugmentParams
from steadyocr.training.losses import LossWeights
from steadyocr.training.targets import TargetParams

T = TypeVar("T")

_DEVICE: Final = re.compile(r"cpu|cuda(:[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder of labelled pictures and how often it is drawn from.

    Attributes:
        path: The folder; every layout that ``labels.read_folder`` knows.
        weight: Share of the crops, against the other sources.
        dataset_weights: Share inside the source by the manifest's ``dataset``; sets not named are left out.
            Empty: every picture alike.
        split: ``train`` or ``test``, for the ICDAR-2015 layout.
    """

    path: str
    weight: float = 1.0
    dataset_weights: Mapping[str, float] = field(default_factory=dict)
    split: str = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """How weights are moved.

    Attributes:
        kind: ``sgd`` has Nesterov momentum 0.9.
        lr: Peak learning rate.
        weight_decay: On convolution weights only, not on BatchNorm or biases.
        schedule: Fall of the rate from its peak to zero.
        poly_power: Of the ``poly`` schedule.
        warmup_steps: The rate climbs linearly for so many steps.
        clip_norm: Gradients are scaled down to this norm; 0 is off.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1.5e-3
    weight_decay: float = 1e-4
    schedule: Literal["poly", "cosine"] = "poly"
    poly_power: float = 0.9
    warmup_steps: int = 100
    clip_norm: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """How the running average of the weights is judged during training.

    Attributes:
        sources: Folders to judge on; none means no validation and the last weights are the best.
        every_steps: Distance between validations; 0 means at the end of each epoch.
        max_side: Longer side given to the network, in pixels.
        bin_thresholds: Each is tried, the best counts and is kept with the weights: where the background
            settles shifts during training, and one fixed threshold would judge that, not the network.
        unclip_ratios: Tried likewise.
        box_threshold: Mean probability below which a quad is dropped.
    """

    sources: tuple[Source, ...] = ()
    every_steps: int = 0
    max_side: int = 960
    bin_thresholds: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5)
    unclip_ratios: tuple[float, ...] = (1.2, 1.5)
    box_threshold: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationConfig:
    """Another detector that is learned from beside the labels.

    Attributes:
        teacher: Its model folder; empty means that there is none.
        features: Name of a tensor inside its network, with a fourth of the input's size, that is learned too.
        feature_weight: Factor of the loss on these features.
        probability_weight: Factor of the loss on its probability map.
        warmup_steps: So many first steps teach the heads that speak to the teacher, and not yet the network.
    """

    teacher: str = ""
    features: str = ""
    feature_weight: float = 3.0
    probability_weight: float = 6.0
    warmup_steps: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run; the original system's fine-tuning recipe is in :func:`finetune`.

    Attributes:
        sources: Where crops come from.
        inner_channels: Width of the neck.
        init_weights: Checkpoint to start from; empty means random.
        crop_size: Side of a crop in pixels, a multiple of 32.
        batch_size: Crops in a step.
        epochs: How many, at most.
        crops_per_epoch: Crops in an epoch; 0 means the number of pictures.
        max_minutes: Time for training, validation included, over all resumes; the rate falls with time or
            steps, whichever is further on, so that a run cut by time still ends at rate zero. 0 is unlimited.
        seed: Of everything random.
        bf16: Compute in bfloat16 where it is safe and the device is faster for it; weights stay float32.
        device: ``cpu`` or ``cuda``.
        threads: Of torch on the CPU; 0 leaves torch's choice.
        num_workers: Processes that make crops; 0 makes them in the training process.
        cache_bytes: Decoded pictures that each crop-making process keeps at most.
        ema_decay: Of the running average of the weights.
        log_every_steps: Distance between rows of the curve.
        checkpoint_minutes: Distance between checkpoints.
        optimiser: How weights are moved.
        loss: What is made small.
        augment: How crops are drawn.
        targets: What the network should say.
        validation: How it is judged.
        distillation: Who teaches besides the labels.
    """

    sources: tuple[Source, ...]
    inner_channels: int = 256
    init_weights: str = ""
    crop_size: int = 448
    batch_size: int = 8
    epochs: int = 5
    crops_per_epoch: int = 0
    max_minutes: float = 0.0
    seed: int = 1
    bf16: bool = True
    device: str = "cpu"
    threads: int = 0
    num_workers: int = 1
    cache_bytes: int = 1 << 30
    ema_decay: float = 0.999
    log_every_steps: int = 20
    checkpoint_minutes: float = 10.0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    augment: AugmentParams = field(default_factory=AugmentParams)
    targets: TargetParams = field(default_factory=TargetParams)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before any work is done."""
        checks = (
            (bool(self.sources), "sources: name at least one folder"),
            (all(source.weight >= 0 for source in self.sources), "sources: a weight is negative"),
            (
                all(_can_share(source) for source in (*self.sources, *self.validation.sources)),
                "sources: dataset_weights has a negative weight, or none above 0",
            ),
            (self.inner_channels >= 4 and self.inner_channels % 4 == 0, "inner_channels: a multiple of 4"),
            (self.crop_size >= 32 and self.crop_size % 32 == 0, "crop_size: a multiple of 32"),
            (self.batch_size >= 1, "batch_size: at least 1"),
            (self.epochs >= 1, "epochs: at least 1"),
            (self.crops_per_epoch >= 0, "crops_per_epoch: at least 0"),
            (self.log_every_steps >= 1, "log_every_steps: at least 1"),
            (self.checkpoint_minutes >= 0, "checkpoint_minutes: not negative"),
            (self.threads >= 0, "threads: at least 0"),
            (_DEVICE.fullmatch(self.device) is not None, "device: cpu, cuda or cuda:N"),
            (self.optimiser.lr > 0, "optimiser.lr: above 0"),
            (
                self.optimiser.warmup_steps >= 0 and self.optimiser.poly_power >= 0,
                "optimiser.warmup_steps, optimiser.poly_power: not negative",
            ),
            (0.0 <= self.ema_decay < 1.0, "ema_decay: from 0 to below 1"),
            (0.0 < self.targets.shrink_ratio < 1.0, "targets.shrink_ratio: between 0 and 1"),
            (
                bool(self.validation.bin_thresholds and self.validation.unclip_ratios),
                "validation: empty thresholds",
            ),
            (self.validation.every_steps >= 0, "validation.every_steps: at least 0"),
            (self.validation.max_side >= 1, "validation.max_side: at least 1"),
            *_augment_checks(self.augment),
            (
                bool(self.distillation.features) or not self.distillation.teacher,
                "distillation.features: name a tensor of the teacher",
            ),
            (self.seed >= 0, "seed: not negative"),
            (self.max_minutes >= 0 and self.num_workers >= 0, "max_minutes, num_workers: not negative"),
        )
        for holds, rule in checks:
            if not holds:
                raise ConfigError(f"training configuration: {rule}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_dict` turns back into the same configuration."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from plain values; unknown keys and wrong types are refused."""
        return _build(cls, values, "")

    @classmethod
    def from_file(cls, path: Path) -> TrainConfig:
        """Read a JSON file."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(f"{path}: not JSON: {error}") from error
        return cls.from_dict(values)


def finetune(
    train_folder: Path, judged: tuple[Source, ...], init_weights: Path | None, **changes: object
) -> TrainConfig:
    """Return the original system's fine-tuning recipe: batch 8, 5 epochs, SGD at 0.007, poly 0.9.

    Args:
        train_folder: Pictures to train on.
        judged: Pictures to judge on, after each epoch.
        init_weights: Where to start; ``None`` is random, which needs far more than 5 epochs.
        changes: Fields of :class:`TrainConfig` to set otherwise.
    """
    defaults: dict[str, object] = {
        "sources": (Source(path=str(train_folder)),),
        "init_weights": str(init_weights or ""),
        "optimiser": OptimiserConfig(kind="sgd", lr=0.007, warmup_steps=10),
        "validation": ValidationConfig(sources=judged),
        "ema_decay": 0.95,
        "checkpoint_minutes": 1.0,
        "log_every_steps": 5,
    }
    return TrainConfig(**{**defaults, **changes})  # type: ignore[arg-type]


def _can_share(source: Source) -> bool:
    """Whether the weights of a source's data sets can be shares of a whole."""
    weights = source.dataset_weights.values()
    return not weights or (min(weights) >= 0 and max(weights) > 0)


def _augment_checks(augment: AugmentParams) -> tuple[tuple[bool, str], ...]:
    # Sizes are drawn evenly by their logarithm.
    return (
        (0 < augment.scale_min <= augment.scale_max, "augment.scale_min: above 0, and not above scale_max"),
        (
            0 < augment.text_height_min <= augment.text_height_max,
            "augment.text_height_min: above 0, and not above text_height_max",
        ),
        (augment.aspect_max >= 1, "augment.aspect_max: at least 1"),
    )


def _build(kind: type[T], values: object, where: str) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"training configuration: {where or 'the file'}: an object is due")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"training configuration: unknown key {where}{unknown[0]}")
    try:
        return kind(**{name: _value(hints[name], values[name], f"{where}{name}") for name in values})
    except TypeError as error:
        raise ConfigError(f"training configuration: {where or 'the file'}: {error}") from error


def _value(kind: object, value: object, where: str) -> object:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{where}.")
    if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        inner = typing.get_args(kind)[0]
        return tuple(_value(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    if not _fits(kind, value):
        raise ConfigError(f"training configuration: {where}: {value!r} does not fit")
    # JSON writes 1.0 as 1 now and then.
    return float(value) if kind is float and isinstance(value, int) else value


def _fits(kind: object, value: object) -> bool:
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if kind is float:
        # JSON has whole numbers of any length, and Python reads NaN and Infinity.
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not isinstance(kind, type):  # names with a number each
        return isinstance(value, Mapping) and all(_fits(float, number) for number in value.values())
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
