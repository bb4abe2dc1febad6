"""The training loop: steps, validation, checkpoints, and a stop that loses nothing."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steadyocr.errors import ConfigError, InsufficientStorage, ModelError
from steadyocr.training import checkpoint
from steadyocr.training.config import TrainConfig
from steadyocr.training.dataset import MixedDataset, Sample, read_batches, require_pictures
from steadyocr.training.distillation import Distillation
from steadyocr.training.ema import WeightAverage
from steadyocr.training.losses import LossTerms, Targets, db_loss
from steadyocr.training.model import DBNet
from steadyocr.training.normalise import MEAN, STD, to_network_input
from steadyocr.training.optimiser import make_optimiser
from steadyocr.training.precision import bf16_pays
from steadyocr.training.progress import Outcome, Progress, Report, Watch, Window, curve_row
from steadyocr.training.rundir import Curve, open_run_folder, write_config
from steadyocr.training.schedule import learning_rate, progress
from steadyocr.training.start import starting_weights
from steadyocr.training.validation import read_sources, validate

_log = logging.getLogger("steadyocr.training")


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    report: Report = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train, from the start or from the last checkpoint.

    Args:
        config: What to do. A resumed run may change anything but the network's width, the kind of optimiser and
            whether it has a teacher.
        folder: The run folder; must be empty or, when resuming, hold a checkpoint.
        resume: Go on with the folder's last checkpoint.
        report: Called at every row of the curve.
        should_stop: Asked before each step; after a yes, a checkpoint is written and the run ends.
        clock: Seconds from any origin.

    Returns:
        How it ended.

    Raises:
        ConfigError: The configuration or the folder is not as it must be.
        ConflictError: Another process trains in the folder.
        InsufficientStorage: The disk is full; the run can be resumed once it is not.
    """
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("device: there is no CUDA card here, or this torch was built without CUDA; use cpu")
    if not resume and config.init_weights and Path(config.init_weights).resolve().parent == folder.resolve():
        # A folder that counts as empty is emptied before the weights are read.
        raise ConfigError(f"{folder}: the weights to start from lie in it; name another folder for the run")
    with open_run_folder(folder, resume=resume):
        trainer = Trainer(config, folder, report, clock)
        if resume:
            trainer.restore(checkpoint.load(folder / checkpoint.LAST_NAME))
        elif config.init_weights:
            trainer.start_from(Path(config.init_weights))
        return trainer.run(should_stop)


class Trainer:
    """State of one run: network, average, optimiser and counters."""

    def __init__(self, config: TrainConfig, folder: Path, report: Report, clock: Callable[[], float]) -> None:
        _seed(config)
        self._config = config
        self._folder = folder
        self._report = report
        self._clock = clock
        self.model = DBNet(config.inner_channels)
        self.model = self.model.to(config.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = WeightAverage(self.model, config.ema_decay)
        self._distillation: Distillation | None = None
        # All that the optimiser moves.
        self._trained: nn.Module = self.model
        if config.distillation.teacher:
            self._distillation = Distillation(config.distillation, config.inner_channels, config.device, config.threads)
            self._trained = nn.ModuleList((self.model, self._distillation.heads))
        self._optimiser = make_optimiser(self._trained, config.optimiser)
        self._bf16 = config.bf16 and bf16_pays(config.device)
        self._dataset = MixedDataset(config)
        self._judged = read_sources(config.validation.sources)
        require_pictures(self._judged)
        self.step = 0
        self._elapsed_s = 0.0
        self._best: float | None = None
        self._start_is_judged = False
        self._verdict: dict[str, Any] = {}
        steps_per_epoch = -(-self._dataset.crops_per_epoch // config.batch_size)
        self.total_steps = steps_per_epoch * config.epochs
        self._validate_every = config.validation.every_steps or steps_per_epoch

    def start_from(self, path: Path) -> None:
        """Begin with the weights of a checkpoint or model folder and everything else fresh."""
        weights = starting_weights(path)
        if weights.inner_channels != self._config.inner_channels:
            raise ConfigError(
                f"{path}: its neck is {weights.inner_channels} wide, the configuration says inner_channels = "
                f"{self._config.inner_channels}"
            )
        weights.load_into(self.model)
        self._average = WeightAverage(self.model, self._config.ema_decay)
        self._average.start_warm()

    def restore(self, values: dict[str, Any]) -> None:
        """Take up a run exactly where a checkpoint left it.

        Raises:
            ConfigError: It is no checkpoint of a run, or of one that the configuration cannot go on with.
        """
        if values.get("format") != checkpoint.FORMAT:
            raise ConfigError(f"{checkpoint.LAST_NAME}: not a checkpoint of this program's training")
        if values["config"]["inner_channels"] != self._config.inner_channels:
            raise ConfigError("inner_channels differs from the run that is resumed")
        kind = values["config"]["optimiser"]["kind"]
        if kind != self._config.optimiser.kind:
            raise ConfigError(f"optimiser.kind differs from the run that is resumed, which has {kind}")
        checkpoint.load_weights(self.model, values["model"], checkpoint.LAST_NAME)
        checkpoint.load_weights(self._average.model, values["ema"], checkpoint.LAST_NAME)
        self._average.updates = values["ema_updates"]
        if (self._distillation is None) != ("teacher_heads" not in values):
            raise ConfigError("distillation differs from the run that is resumed")
        if self._distillation is not None:
            checkpoint.load_weights(self._distillation.heads, values["teacher_heads"], checkpoint.LAST_NAME)
        self._restore_optimiser(values["optimiser"])
        self.step = values["step"]
        self._elapsed_s = values["elapsed_s"]
        self._restore_best(values)
        checkpoint.restore_rng(values["rng"])

    def _restore_best(self, values: dict[str, Any]) -> None:
        """Take up what is to be beaten: ``best.pt`` is newer than the checkpoint where a kill came between the two."""
        self._best = values["best_hmean"]
        self._start_is_judged = self._best is not None
        self._verdict = values.get("validation") or {}  # not kept by older versions
        try:
            best = checkpoint.load(self._folder / checkpoint.BEST_NAME)
        except ModelError:
            return  # none yet, or damaged
        hmean = best.get("best_hmean")  # not kept by older versions either
        if hmean is not None and (self._best is None or hmean > self._best):
            self._best = hmean
            self._verdict = best["validation"]

    def _restore_optimiser(self, state: dict[str, Any]) -> None:
        """Take up its moments; how strongly weights decay is the configuration's to say."""
        decays = [group["weight_decay"] for group in self._optimiser.param_groups]
        self._optimiser.load_state_dict(state)
        for group, decay in zip(self._optimiser.param_groups, decays, strict=True):
            group["weight_decay"] = decay

    def run(self, should_stop: Callable[[], bool]) -> Outcome:
        """Train to the end of the run or until asked to stop."""
        write_config(self._folder, self._config.to_dict())
        curve = Curve(self._folder, self.step)
        watch = Watch(self._clock, self._elapsed_s)
        window = Window(watch.elapsed_s)
        saved_s = watch.elapsed_s
        stopped, lr = False, 0.0
        if self.step == 0:
            # So that a run killed early can be taken up like any other; first of all, as best.pt alone could not be.
            self._save(watch.elapsed_s)
            if self._config.init_weights and self._judged and not self._start_is_judged:
                self._judge(curve, 0.0, watch)  # what fine-tuning has to beat
                self._save(watch.elapsed_s)
        for batch in self._batches():
            done = self._done(watch.elapsed_s)
            stopped = should_stop()
            if stopped or done >= 1.0:
                break
            lr = self._set_rate(done)
            window.add(self._train_step(batch), len(batch["image"]))
            # Before a validation too: it takes time that is not the steps', so their window ends here.
            if any(self.step % every == 0 for every in (self._config.log_every_steps, self._validate_every)):
                self._log(curve, window, lr, watch.elapsed_s)
                window = Window(watch.elapsed_s)
            if self.step % self._validate_every == 0:
                self._judge(curve, lr, watch)
                window = Window(watch.elapsed_s)
            if watch.elapsed_s - saved_s >= self._config.checkpoint_minutes * 60:
                self._save_if_room(watch.elapsed_s)
                saved_s = watch.elapsed_s
        if window.steps:  # the last ones, fewer than a whole window
            self._log(curve, window, lr, watch.elapsed_s)
        if not stopped and self.step % self._validate_every:
            self._judge(curve, 0.0, watch)
        self._save(watch.elapsed_s)
        return Outcome(self.step, not stopped, self._best)

    def _batches(self) -> Iterator[Sample]:
        return read_batches(self._dataset, self._config, self.step)

    def _done(self, elapsed_s: float) -> float:
        return progress(self.step, self.total_steps, elapsed_s, self._config.max_minutes * 60)

    def _set_rate(self, done: float) -> float:
        lr = learning_rate(self.step, done, self._config.optimiser)
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        return lr

    def _train_step(self, batch: Sample) -> LossTerms:
        config = self._config
        self.model.train()
        images = to_network_input(batch["image"].to(config.device, non_blocking=True))
        with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=self._bf16):
            fused = self.model.fused(images)
            prob_logits, threshold_logits = self.model.decoder.logits(fused)
        terms = db_loss(prob_logits, threshold_logits, _targets(batch, config.device), config.loss)
        if self._distillation is not None:
            terms = terms.with_distillation(self._distillation.loss(batch["image"], fused, self.step))
        self._optimiser.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call]
        if config.optimiser.clip_norm > 0:
            nn.utils.clip_grad_norm_(self._trained.parameters(), config.optimiser.clip_norm)
        self._optimiser.step()
        self._average.update(self.model)
        self.step += 1
        return terms

    def _log(self, curve: Curve, window: Window, lr: float, elapsed_s: float) -> None:
        losses = window.means()
        done = self._done(elapsed_s)
        at = Progress(
            self.step,
            self.total_steps,
            done,
            self._eta_s(elapsed_s),
            window.crops_per_s(elapsed_s),
            lr,
            losses,
        )
        curve.append(curve_row(at, elapsed_s) | {key: round(value, 5) for key, value in losses.items()})
        self._report(at)

    def _eta_s(self, elapsed_s: float) -> float:
        done = self._done(elapsed_s)
        return elapsed_s * (1.0 - done) / done if done > 0 else 0.0

    def _judge(self, curve: Curve, lr: float, watch: Watch) -> None:
        """Validate the average; keep it where it is the best, or always where there is nothing to judge on."""
        if not self._judged:
            self._save_best()
            return
        config = self._config
        verdict = validate(self._average.model, self._judged, config.validation, device=config.device, bf16=self._bf16)
        if self._best is None or verdict.hmean > self._best:
            self._best = verdict.hmean
            self._verdict = verdict.to_dict()
            self._save_best()
        elapsed_s = watch.elapsed_s
        at = Progress(
            step=self.step,
            total_steps=self.total_steps,
            done=self._done(elapsed_s),
            eta_s=self._eta_s(elapsed_s),
            crops_per_s=0.0,
            lr=lr,
            hmean=verdict.hmean,
            hmean_by_set={name: count.hmean for name, count in sorted(verdict.counts.items())},
        )
        curve.append(curve_row(at, elapsed_s) | verdict.to_dict())
        self._report(at)

    def _save_best(self) -> None:
        """Write the average alone: what export and fine-tuning need, and how good it is."""
        values = {
            "format": checkpoint.FORMAT,
            "state_dict": self._average.state_dict(),
            "inner_channels": self._config.inner_channels,
            "mean": list(MEAN),
            "std": list(STD),
            "step": self.step,
            "best_hmean": self._best,
            "validation": self._verdict,
            "config": self._config.to_dict(),
        }
        checkpoint.save_atomically(values, self._folder / checkpoint.BEST_NAME)

    def _save_if_room(self, elapsed_s: float) -> None:
        """Write a checkpoint, or go on with the one before: the next one may find room again."""
        try:
            self._save(elapsed_s)
        except InsufficientStorage as error:
            _log.warning("%s", error.message)

    def _save(self, elapsed_s: float) -> None:
        values = {
            "format": checkpoint.FORMAT,
            "model": self.model.state_dict(),
            "ema": self._average.state_dict(),
            "ema_updates": self._average.updates,
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "elapsed_s": elapsed_s,
            "best_hmean": self._best,
            "validation": self._verdict,  # the thresholds go with these weights too
            "rng": checkpoint.rng_states(),
            "config": self._config.to_dict(),
        }
        if self._distillation is not None:
            values["teacher_heads"] = self._distillation.heads.state_dict()
        checkpoint.save_atomically(values, self._folder / checkpoint.LAST_NAME)


def _seed(config: TrainConfig) -> None:
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)


def _targets(batch: Sample, device: str) -> Targets:
    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True).float()

    return Targets(
        move(batch["shrink_map"]),
        move(batch["shrink_mask"]),
        move(batch["threshold_map"]),
        move(batch["threshold_mask"]),
    )
