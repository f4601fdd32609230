"""Images in memory, and batches in steps.

Training images are decoded once and kept as uint8, up to a budget; those beyond it are decoded
again, at reduced scale, by threads that work ahead of the network. Decoding releases Python's lock,
so threads do what processes would, without copying.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

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
    """Decoded images of some samples, in memory as far as the budget goes.

    Args:
        samples: Where they lie.
        preprocessing: Of the network.
        short_side: What is kept: the whole image, scaled down to this shorter side; None: the
            prepared input.
        budget: Bytes that may be kept.
        workers: Threads that decode; by default one a core.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        short_side: int | None,
        budget: float,
        workers: int | None = None,
    ) -> None:
        self.samples = samples
        self.preprocessing = preprocessing
        self.short_side = short_side
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

    def reduce(self, image: Image.Image) -> np.ndarray:
        """What is kept of an image: (h, w, C)."""
        if self.short_side is None:
            return self.preprocessing.pixels(image)
        short = min(image.size)
        width, height = (min(side, 2 * short) for side in image.size)  # of a panorama, the middle
        x, y = (image.width - width) / 2, (image.height - height) / 2
        scale = min(1.0, self.short_side / short)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = image.resize(size, RESAMPLING["bilinear"], (x, y, x + width, y + height))
        return np.asarray(small).reshape(small.height, small.width, self.preprocessing.channels)

    def read(self, place: int) -> np.ndarray:
        """One image, from memory or its file.

        Raises:
            BadImage: The file has become unreadable since it was checked.
        """
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        sample = self.samples[place]
        try:
            return self.reduce(self.preprocessing.open(sample.path, self.short_side))
        except BadImage as error:
            raise BadImage(
                f"{sample.path}: {error}; it was readable when it was checked: put it back as it"
                " was, or train anew"
            ) from None

    def fill(self) -> Iterator[int]:
        """Reads images into memory until the budget is used; yields the number read so far."""
        for place, future in enumerate(self.prefetch(iter(range(len(self))))):
            picture = future.result()
            if self.bytes + picture.nbytes > self.budget:
                return
            self._kept[place] = picture
            self.bytes += picture.nbytes
            yield place + 1

    def prefetch(self, places: Iterator[int], ahead: int = 64) -> Iterator[Future[np.ndarray]]:
        """Futures in order, with `ahead` images being read."""
        waiting: list[Future[np.ndarray]] = []
        for place in places:
            waiting.append(self._pool.submit(self.read, place))
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting

    def batches(self, size: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Everything in order, prepared: places (n,) and pixels (n, height, width, C)."""
        assert self.short_side is None, "whole images are not prepared input"
        futures = self.prefetch(iter(range(len(self))), ahead=2 * size)
        for start in range(0, len(self), size):
            places = np.arange(start, min(start + size, len(self)))
            yield places, np.stack([next(futures).result() for _ in places])


@dataclass(frozen=True)
class Batch:
    """One training step's input: images (N, C, H, W) normalised, labels (N,)."""

    images: Tensor
    labels: Tensor


class TrainingBatches:
    """An endless course through the training images, addressed by step.

    Args:
        pictures: The training images.
        labels: (N,) class of each.
        batch_size: Images a step; what does not fill a batch at the end of an epoch waits for
            another epoch.
        augmentation: How they are varied.
        seed: Fixes order and draws.
    """

    def __init__(
        self,
        pictures: ImageCache,
        labels: np.ndarray,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.pictures, self.labels, self.augmentation, self.seed = (
            pictures,
            labels,
            augmentation,
            seed,
        )
        self.batch_size = min(batch_size, len(pictures))
        self.steps_per_epoch = len(pictures) // self.batch_size

    def places(self, step: int) -> np.ndarray:
        """Which images a step takes: a part of the epoch's own order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.pictures))
        return order[position * self.batch_size : (position + 1) * self.batch_size]

    def from_step(self, first: int, device: torch.device) -> Iterator[Batch]:
        """Batches from a step on, without end."""
        preprocessing = self.pictures.preprocessing
        waiting: list[tuple[int, np.ndarray, list[Future[np.ndarray]]]] = []
        step = first
        while True:
            while len(waiting) <= AHEAD:
                places = self.places(step)
                waiting.append(
                    (step, places, list(self.pictures.prefetch(iter(places.tolist()), ahead=0)))
                )
                step += 1
            now, places, futures = waiting.pop(0)
            draws = uniform(self.seed, now // self.steps_per_epoch, places, 6)
            images = augment(
                [future.result() for future in futures], self.augmentation, preprocessing, draws
            )
            images = normalise(images.to(device, non_blocking=True), preprocessing)
            yield Batch(images, torch.from_numpy(self.labels[places]).to(device))
