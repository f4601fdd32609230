"""Images in memory, and batches in steps.

Training images are decoded once and kept as uint8, up to a budget; those beyond it are decoded
again, at reduced scale, by threads that work ahead of the network. Decoding releases Python's lock,
so threads do what processes would, without copying.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnets.data.transforms import Augmentation, augment, normalise, uniform
from resnets.images import BadImage
from resnets.kinds.sample import Sample
from resnets.preprocessing import RESAMPLING, Preprocessing

AHEAD = 2  # batches prepared ahead of the network


class ImageCache:
    """Arrays made of some images, in memory as far as the budget goes: the shared part of
    `PreparedImages` and `KeptImages`, which say what is made of an image.

    Args:
        samples: Where they lie.
        preprocessing: Of the network.
        budget: Bytes that may be kept.
        workers: Threads that decode; by default one a core.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        budget: float,
        workers: int | None = None,
    ) -> None:
        self.samples = samples
        self.preprocessing = preprocessing
        self.budget = budget
        self.bytes = 0
        self._kept: dict[int, np.ndarray] = {}
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def kept(self) -> int:
        """How many are in memory."""
        return len(self._kept)

    def decode(self, path: Path) -> np.ndarray:
        """What is made of an image file: (h, w, C)."""
        raise NotImplementedError

    def read(self, place: int) -> np.ndarray:
        """What is made of one image, from memory or its file.

        Raises:
            BadImage: The file has become unreadable since it was checked.
        """
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        path = self.samples[place].path
        try:
            return self.decode(path)
        except BadImage as error:
            raise BadImage(
                f"{path}: {error}; it was readable when it was checked: put it back as it was, or"
                " train anew"
            ) from None

    def fill(self) -> Iterator[int]:
        """Reads images into memory until the budget is used; yields the number read so far."""
        for place, future in enumerate(self.prefetch(iter(range(len(self))))):
            array = future.result()
            if self.bytes + array.nbytes > self.budget:
                return
            self._kept[place] = array
            self.bytes += array.nbytes
            yield place + 1

    def prefetch(self, places: Iterator[int], ahead: int = 64) -> Iterator[Future[np.ndarray]]:
        """Futures in order, with `ahead` images being read."""
        waiting: list[Future[np.ndarray]] = []
        for place in places:
            waiting.append(self._pool.submit(self.read, place))
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting


class PreparedImages(ImageCache):
    """The input of the network, all of one size: for evaluation, and for training that does not cut
    images."""

    def decode(self, path: Path) -> np.ndarray:
        """The prepared input: (height, width, C)."""
        return self.preprocessing.pixels(self.preprocessing.open(path))

    def batches(self, size: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Everything in order: places (n,) and pixels (n, height, width, C)."""
        futures = self.prefetch(iter(range(len(self))), ahead=2 * size)
        for start in range(0, len(self), size):
            places = np.arange(start, min(start + size, len(self)))
            yield places, np.stack([next(futures).result() for _ in places])


class KeptImages(ImageCache):
    """Whole images, scaled down as far as random crops allow; of a panorama, the middle.

    Args:
        samples: Where they lie.
        preprocessing: Of the network.
        short_side: The shorter side of what is kept, in pixels; nothing is enlarged.
        budget: Bytes that may be kept.
        workers: Threads that decode; by default one a core.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        short_side: int,
        budget: float,
        workers: int | None = None,
    ) -> None:
        super().__init__(samples, preprocessing, budget, workers)
        self.short_side = short_side

    def decode(self, path: Path) -> np.ndarray:
        """The image, reduced: (h, w, C)."""
        return self.reduce(self.preprocessing.open(path, self.short_side))

    def reduce(self, image: Image.Image) -> np.ndarray:
        """What is kept of an image: (h, w, C)."""
        short = min(image.size)
        width, height = (min(side, 2 * short) for side in image.size)  # of a panorama, the middle
        x, y = (image.width - width) / 2, (image.height - height) / 2
        scale = min(1.0, self.short_side / short)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = image.resize(size, RESAMPLING["bilinear"], (x, y, x + width, y + height))
        return np.asarray(small).reshape(small.height, small.width, self.preprocessing.channels)


def training_images(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    budget: float,
    workers: int | None = None,
) -> ImageCache:
    """What an augmentation is made from: whole images to cut, or the prepared input."""
    short_side = augmentation.short_side(preprocessing)
    if short_side is None:
        return PreparedImages(samples, preprocessing, budget, workers)
    return KeptImages(samples, preprocessing, short_side, budget, workers)


@dataclass(frozen=True)
class Batch:
    """One training step's input: images (N, C, H, W) normalised, and the ground truth as tensors by
    name, first dimension N."""

    images: Tensor
    targets: dict[str, Tensor]

    @property
    def count(self) -> int:
        """N."""
        return len(self.images)


class TrainingBatches:
    """An endless course through the training images, addressed by step.

    Args:
        images: The training images.
        make_targets: Samples of a batch to their ground truth as tensors.
        batch_size: Images a step; what does not fill a batch at the end of an epoch waits for
            another epoch.
        augmentation: How they are varied.
        seed: Fixes order and draws.
    """

    def __init__(
        self,
        images: ImageCache,
        make_targets: Callable[[Sequence[Sample]], dict[str, Tensor]],
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.images, self.make_targets = images, make_targets
        self.augmentation, self.seed = augmentation, seed
        self.batch_size = min(batch_size, len(images))
        self.steps_per_epoch = len(images) // self.batch_size

    def places(self, step: int) -> np.ndarray:
        """Which images a step takes: a part of the epoch's own order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        return order[position * self.batch_size : (position + 1) * self.batch_size]

    def from_step(
        self, first: int, device: torch.device, size: int | None = None
    ) -> Iterator[Batch]:
        """Batches from a step on, without end.

        Args:
            first: The step.
            device: Where they are put.
            size: Side of the square input in pixels; by default that of the preprocessing.
        """
        preprocessing = self.images.preprocessing
        shape = (size, size) if size else preprocessing.size
        waiting: list[tuple[int, np.ndarray, list[Future[np.ndarray]]]] = []
        step = first
        while True:
            while len(waiting) <= AHEAD:
                places = self.places(step)
                futures = list(self.images.prefetch(iter(places.tolist()), ahead=0))
                waiting.append((step, places, futures))
                step += 1
            now, places, futures = waiting.pop(0)
            draws = uniform(self.seed, now // self.steps_per_epoch, places, 6)
            arrays = [future.result() for future in futures]
            images = augment(arrays, self.augmentation, preprocessing, draws, shape)
            images = normalise(images.to(device, non_blocking=True), preprocessing)
            truth = self.make_targets([self.images.samples[place] for place in places])
            yield Batch(images, {name: one.to(device) for name, one in truth.items()})
