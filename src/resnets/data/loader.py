"""Images in memory.

Training images are decoded once and kept as uint8, up to a budget; those beyond it are decoded
again, at reduced scale, by threads that work ahead of the network. Decoding releases Python's lock,
so threads do what processes would, without copying.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from resnets.clip import open_video, read_clip
from resnets.data.transforms import Augmentation
from resnets.images import BadImage
from resnets.kinds.sample import Sample
from resnets.kinds.view import View
from resnets.preprocessing import RESAMPLING, Preprocessing
from resnets.sampling import Sampling


class Loaded(NamedTuple):
    """What was made of an image.

    Args:
        pixels: (h, w, C); of a window of a video (T, h, w, C).
        size: Height and width of the whole image, upright.
    """

    pixels: np.ndarray
    size: tuple[int, int]


class ImageCache:
    """Arrays made of some images, in memory as far as the budget goes: the shared part of
    `PreparedImages` and `KeptImages`, which say what is made of an image.

    Args:
        samples: Where they lie.
        preprocessing: Of the network.
        budget: Bytes that may be kept.
        workers: Threads that decode; by default one a core.
        sampling: Which images of a video are one input; None where samples are images.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        budget: float,
        workers: int | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.samples, self.sampling = samples, sampling
        self.preprocessing = preprocessing
        self.budget = budget
        self.bytes = 0
        self._kept: dict[int, Loaded] = {}
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def kept(self) -> int:
        """How many are in memory."""
        return len(self._kept)

    def keeps(self, place: int) -> bool:
        """Whether an image is in memory."""
        return place in self._kept

    def decode(self, path: Path) -> Loaded:
        """What is made of an image file."""
        raise NotImplementedError

    def prepare(self, image: Image.Image) -> np.ndarray:
        """What is made of an image of a video: (h, w, C)."""
        raise NotImplementedError

    def _window(self, sample: Sample, sampling: Sampling) -> Loaded:
        """What is made of a window of a video."""
        with open_video(sample.path) as video:
            times = sampling.times(sample.span or (0.0, video.seconds))
            images = read_clip(video, times, self.preprocessing.channels)
            return Loaded(np.stack([self.prepare(image) for image in images]), video.size[::-1])

    def view(self, size: tuple[int, int], shape: tuple[int, int]) -> View:
        """What of an image, of this height and width, an array of this shape shows."""
        raise NotImplementedError

    def read(self, place: int) -> np.ndarray:
        """The pixels of one image: (h, w, C)."""
        return self.load(place).pixels

    def load(self, place: int) -> Loaded:
        """What is made of one image, from memory or its file.

        Raises:
            BadImage: The file has become unreadable since it was checked.
        """
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        sample = self.samples[place]
        path = sample.path
        try:
            return self._window(sample, self.sampling) if self.sampling else self.decode(path)
        except BadImage as error:
            raise BadImage(
                f"{path}: {error}; it was readable when it was checked: put it back as it was, or"
                " train anew"
            ) from None

    def fill(self) -> Iterator[int]:
        """Reads images into memory until the budget is used; yields the number read so far."""
        for place, future in enumerate(self.prefetch(iter(range(len(self))))):
            loaded = future.result()
            if self.bytes + loaded.pixels.nbytes > self.budget:
                return
            self._kept[place] = loaded
            self.bytes += loaded.pixels.nbytes
            yield place + 1

    def prefetch(self, places: Iterator[int], ahead: int = 64) -> Iterator[Future[Loaded]]:
        """Futures in order, with `ahead` images being read."""
        waiting: list[Future[Loaded]] = []
        for place in places:
            waiting.append(self._pool.submit(self.load, place))
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting


class PreparedImages(ImageCache):
    """The input of the network, all of one size: for evaluation, and for training that does not cut
    images."""

    def decode(self, path: Path) -> Loaded:
        """The prepared input: (height, width, C)."""
        image, size = self.preprocessing.open_sized(path)
        return Loaded(self.prepare(image), size)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """The prepared input: (height, width, C)."""
        return self.preprocessing.pixels(image)

    def view(self, size: tuple[int, int], shape: tuple[int, int]) -> View:
        """What the input of the network shows."""
        return self.preprocessing.view(*size)

    def spread(self, count: int) -> PreparedImages:
        """So many of the images, spread over all of them, in memory."""
        places = np.unique(np.linspace(0, len(self) - 1, count).astype(int))
        chosen = [self.samples[place] for place in places]
        some = PreparedImages(chosen, self.preprocessing, math.inf, sampling=self.sampling)
        for _ in some.fill():
            pass
        return some

    def batches(
        self, size: int = 64
    ) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]]:
        """Everything in order: places (n,), pixels (n, height, width, C), or of videos (n, T,
        height, width, C), and the heights and widths of the n images themselves."""
        futures = self.prefetch(iter(range(len(self))), ahead=2 * size)
        for start in range(0, len(self), size):
            places = np.arange(start, min(start + size, len(self)))
            loaded = [next(futures).result() for _ in places]
            pixels = np.stack([one.pixels for one in loaded])
            yield places, pixels, [one.size for one in loaded]


class KeptImages(ImageCache):
    """Whole images, scaled down as far as random crops allow; of a panorama, the middle.

    Args:
        samples: Where they lie.
        preprocessing: Of the network.
        short_side: The shorter side of what is kept, in pixels; nothing is enlarged.
        budget: Bytes that may be kept.
        workers: Threads that decode; by default one a core.
        longest: Longer side over shorter one of what is kept; the ends of a longer image are cut.
        sampling: Which images of a video are one input; None where samples are images.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        short_side: int,
        budget: float,
        workers: int | None = None,
        longest: float = 2.0,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__(samples, preprocessing, budget, workers, sampling)
        self.short_side, self.longest = short_side, longest

    def decode(self, path: Path) -> Loaded:
        """The image, reduced: (h, w, C)."""
        image, size = self.preprocessing.open_sized(path, self.short_side)
        return Loaded(self.prepare(image), size)

    def view(self, size: tuple[int, int], shape: tuple[int, int]) -> View:
        """What is left of an image, scaled."""
        return View(self._part(*size), shape)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """What is kept of an image: (h, w, C)."""
        box = left, top, right, bottom = self._part(image.height, image.width)
        scale = min(1.0, self.short_side / min(image.size))
        size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
        small = image.resize(size, RESAMPLING["bilinear"], box)
        return np.asarray(small).reshape(small.height, small.width, self.preprocessing.channels)

    def _part(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what is kept."""
        most = self.longest * min(height, width)
        kept_w, kept_h = min(width, most), min(height, most)
        x, y = (width - kept_w) / 2, (height - kept_h) / 2
        return x, y, x + kept_w, y + kept_h


def training_images(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    budget: float,
    workers: int | None = None,
    sampling: Sampling | None = None,
) -> ImageCache:
    """What an augmentation is made from: whole images to cut, or the prepared input."""
    short_side, longest = augmentation.short_side(preprocessing), augmentation.longest
    if short_side is None:
        return PreparedImages(samples, preprocessing, budget, workers, sampling)
    return KeptImages(samples, preprocessing, short_side, budget, workers, longest, sampling)
