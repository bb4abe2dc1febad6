"""Training crops for torch: crop number i is a pure function of the seed and i, whoever makes it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from steadyocr.errors import DatasetError, SteadyOCRError
from steadyocr.training.augment import random_crop
from steadyocr.training.config import TrainConfig
from steadyocr.training.label_parts import is_file
from steadyocr.training.labels import read_folder
from steadyocr.training.pictures import read_image
from steadyocr.training.regions import LabelledImage
from steadyocr.training.sampling import group_images, plan_epoch
from steadyocr.training.targets import make_targets

ByteArray = NDArray[np.uint8]


class Sample(TypedDict):
    """One crop with its targets; batched by torch's default collation."""

    image: Tensor
    shrink_map: Tensor
    shrink_mask: Tensor
    threshold_map: Tensor
    threshold_mask: Tensor


class ImageCache:
    """Decoded pictures, up to a number of bytes.

    Draws are spread evenly, so what is in stays in: throwing out the oldest would only make every draw miss.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left_bytes = max_bytes
        self._images: dict[Path, ByteArray] = {}

    def read(self, path: Path) -> ByteArray:
        """Return the picture, decoding it where it is not kept."""
        image = self._images.get(path)
        if image is None:
            image = read_image(path)
            if image.nbytes <= self._left_bytes:
                self._left_bytes -= image.nbytes
                self._images[path] = image
        return image


class MixedDataset(Dataset[Sample]):
    """Crops of all sources, mixed by weight.

    Args:
        config: Sources, crop size, seed, augmentation and targets.

    Raises:
        DatasetError: A source cannot be read, or a picture that it names is not there.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        parts = [(source, read_folder(Path(source.path), source.split)) for source in config.sources]
        self.images, self._groups = group_images(parts)
        # Now and not when its crop comes, which may be hours from here.
        require_pictures(self.images[member] for group in self._groups for member in group.members)
        self.crops_per_epoch = config.crops_per_epoch or sum(len(group.members) for group in self._groups)
        self._cache = ImageCache(config.cache_bytes)
        self._plan: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self.crops_per_epoch * self._config.epochs

    def __getitem__(self, position: int) -> Sample:
        """Make crop number ``position``, counted from the start of the run over all epochs."""
        config = self._config
        labelled = self.images[self.picture_of(position)]
        rng = np.random.default_rng((config.seed, position))
        image = self._cache.read(labelled.path)
        crop, regions = random_crop(image, labelled.regions, config.crop_size, config.augment, rng)
        targets = make_targets(regions, config.crop_size, config.crop_size, config.targets)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(crop)),
            "shrink_map": torch.from_numpy(targets.shrink_map),
            "shrink_mask": torch.from_numpy(targets.shrink_mask),
            "threshold_map": torch.from_numpy(targets.threshold_map),
            "threshold_mask": torch.from_numpy(targets.threshold_mask),
        }

    def picture_of(self, position: int) -> int:
        """Return the index of the picture that crop number ``position`` is cut from."""
        epoch, place = divmod(position, self.crops_per_epoch)
        if self._plan[0] != epoch:
            self._plan = (epoch, plan_epoch(self._groups, self.crops_per_epoch, self._config.seed, epoch))
        return int(self._plan[1][place])


def require_pictures(images: Iterable[LabelledImage]) -> None:
    """Make sure that the pictures are there; whether they can be read is seen when they are.

    Raises:
        DatasetError: One is not.
    """
    missing = [image.path for image in images if not is_file(image.path)]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(f"{missing[0]}: no such picture{more}; steadyocr dataset check names them all")


class StepSampler(Sampler[list[int]]):
    """The batches of a run from a given step on; the last one of an epoch may be smaller."""

    def __init__(self, crops_per_epoch: int, batch_size: int, epochs: int, first_step: int) -> None:
        self._crops = crops_per_epoch
        self._batch = batch_size
        self._epochs = epochs
        self._first = first_step
        self.steps_per_epoch = -(-crops_per_epoch // batch_size)

    def __len__(self) -> int:
        return max(0, self.steps_per_epoch * self._epochs - self._first)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._first, self.steps_per_epoch * self._epochs):
            epoch, place = divmod(step, self.steps_per_epoch)
            start = place * self._batch
            stop = min(start + self._batch, self._crops)
            yield [epoch * self._crops + crop for crop in range(start, stop)]


def read_batches(dataset: MixedDataset, config: TrainConfig, first_step: int) -> Iterator[Sample]:
    """Yield the batches of the run from ``first_step`` on.

    Raises:
        SteadyOCRError: A crop cannot be made; in the words it was raised with, whichever process made it.
    """
    try:
        yield from make_loader(dataset, config, first_step)
    except SteadyOCRError as error:
        # A worker's error comes as text, its trace put before the message.
        kind = type(error)
        _, found, message = error.message.rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")
        if not found:
            raise
        raise kind(message.rstrip()) from error


def make_loader(dataset: MixedDataset, config: TrainConfig, first_step: int) -> DataLoader[Sample]:
    """Return the batches of the run from ``first_step`` on."""
    sampler = StepSampler(dataset.crops_per_epoch, config.batch_size, config.epochs, first_step)
    workers = config.num_workers
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        worker_init_fn=_calm_worker if workers else None,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
        pin_memory=config.device.startswith("cuda"),
    )


def _calm_worker(_: int) -> None:
    # One process, one core: the workers' number says how many cores crops may take. An interrupt is the
    # trainer's to handle: it stops asking and then ends its workers.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
