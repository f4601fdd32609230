"""Training images in batches, a step each, with what is true of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor

from resnets.data.loader import ImageCache, Loaded
from resnets.data.order import epoch_order
from resnets.data.policies import DRAWS, ERASING, change_images, erase
from resnets.data.transforms import Augmentation, augment_clips, normalise, uniform
from resnets.kinds.prediction import Prediction
from resnets.kinds.sample import Sample

AHEAD = 2  # batches prepared ahead of the network
VIEW = 6  # draws for what is shown of an image
ALL_DRAWS = VIEW + DRAWS + ERASING


@dataclass(frozen=True)
class Truth:
    """How ground truth is read, and becomes tensors.

    Args:
        read: Samples to what is true of each, in pixels of its image.
        collate: What is seen of the images of a batch to tensors, first dimension N.
    """

    read: Callable[[Sequence[Sample]], list[Prediction]]
    collate: Callable[[Sequence[Prediction]], dict[str, Tensor]]


@dataclass(frozen=True)
class Batch:
    """One training step's input: images (N, C, H, W), or clips (N, C, T, H, W), normalised, and the
    ground truth as tensors by name, first dimension N."""

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
        truth: What is true of them.
        batch_size: Images a step; what does not fill a batch at the end of an epoch waits for
            another epoch.
        augmentation: How they are varied.
        seed: Fixes order and draws.
        strata: Classes that are to be equally frequent (`epoch_order`); None: as they are.
        accumulate: Batches of a step.

    Raises:
        ValueError: There are not enough images for a step.
    """

    def __init__(
        self,
        images: ImageCache,
        truth: Truth,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        accumulate: int = 1,
        strata: np.ndarray | None = None,
    ) -> None:
        self.images, self.truth = images, truth
        self.augmentation, self.seed, self.strata = augmentation, seed, strata
        self._known: dict[int, Prediction] = {}
        self.batch_size, self.accumulate = min(batch_size, len(images)), accumulate
        self.step_size = self.batch_size * accumulate
        self.steps_per_epoch = len(images) // self.step_size
        if not self.steps_per_epoch:
            raise ValueError(
                f"accumulate={accumulate}: {accumulate} batches of {self.batch_size} are more than"
                f" the {len(images):,} training images; allowed: 1 to"
                f" {len(images) // self.batch_size}"
            )

    def numbers(self, step: int) -> np.ndarray:
        """What a step takes of the epoch's own order (`epoch_order`)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_order(len(self.images), self.seed, epoch, self.strata)
        return order[position * self.step_size : (position + 1) * self.step_size]

    def places(self, step: int) -> np.ndarray:
        """Which images a step takes."""
        return self.numbers(step) % len(self.images)

    def from_step(
        self, first: int, device: torch.device, size: int | None = None
    ) -> Iterator[Batch]:
        """The batches of a step, and of those that follow, without end.

        Args:
            first: The step.
            device: Where they are put.
            size: Side of the square input in pixels; by default that of the preprocessing.
        """
        preprocessing = self.images.preprocessing
        shape = (size, size) if size else preprocessing.size
        waiting: list[tuple[int, np.ndarray, list[Future[Loaded]]]] = []
        coming = self._coming(first)
        while True:
            for step, numbers in islice(coming, AHEAD + 1 - len(waiting)):
                places = numbers % len(self.images)
                futures = list(self.images.prefetch(iter(places.tolist()), ahead=0))
                waiting.append((step, numbers, futures))
            now, numbers, futures = waiting.pop(0)
            draws = uniform(self.seed, now // self.steps_per_epoch, numbers, ALL_DRAWS)
            places = numbers % len(self.images)
            loaded = [future.result() for future in futures]
            arrays = [one.pixels for one in loaded]
            images = augment_clips(arrays, self.augmentation, preprocessing, draws, shape)
            images = change_images(images, *self._policy(draws), preprocessing)
            images = normalise(images.to(device, non_blocking=True), preprocessing)
            images = erase(images, self.augmentation.erase, draws[:, VIEW + DRAWS :])
            sizes = np.array([array.shape[-3:-1] for array in arrays])
            views = self.augmentation.views(draws, sizes, preprocessing, shape)
            truths = self._truths(places.tolist(), loaded)
            targets = self.truth.collate(
                [truth.seen(view) for truth, view in zip(truths, views, strict=True)]
            )
            yield Batch(images, {name: one.to(device) for name, one in targets.items()})

    def _policy(self, draws: np.ndarray) -> tuple[str, np.ndarray, int]:
        """What changes images: its name, draws and strength."""
        how = self.augmentation
        return how.augment, draws[:, VIEW : VIEW + DRAWS], how.magnitude

    def _coming(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """The steps of the batches from a step on, and what each batch takes (`numbers`)."""
        for now in count(step):
            for numbers in np.split(self.numbers(now), self.accumulate):
                yield now, numbers

    def _truths(self, places: Sequence[int], loaded: Sequence[Loaded]) -> list[Prediction]:
        """What is true of images, in pixels of what was made of them: found once, if the image is
        in memory too."""
        known = [self._known.get(place) for place in places]
        fresh = [place for place, one in zip(places, known, strict=True) if one is None]
        samples = [self.images.samples[place] for place in fresh]
        read = dict(zip(fresh, self.truth.read(samples), strict=True)) if fresh else {}
        truths = []
        for place, truth, one in zip(places, known, loaded, strict=True):
            if truth is None:
                height, width = one.pixels.shape[-3:-1]
                truth = read[place].seen(self.images.view(one.size, (height, width)))
                if self.images.keeps(place):
                    self._known[place] = truth
            truths.append(truth)
        return truths
