"""Augmentation of whole batches, drawn for each image by itself.

Every draw comes from (seed, epoch, sample), not from what was drawn before: the same crop whichever
worker, rank or resumed run asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnets.kinds.view import View
from resnets.preprocessing import Preprocessing

FLIPS = ("none", "horizontal", "both")
CROPS = ("resized", "jitter", "shift", "none")
OUT = 1.25  # how much smaller than in the prepared input an image gets at most


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Args:
        crop: `resized`: a part of random area and shape, scaled to the input (Szegedy et al. 2015,
            section 6). `jitter`: the whole image at another scale, moved by up to an eighth of the
            input, so that things stay in their shape. `shift`: the prepared input, moved by up to
            an eighth of its size (He et al. 2015, section 4.2, for 32 px). `none`.
        smallest: Area of the smallest part for `resized` and `jitter`, 0 to 1.
        flip: `none`, `horizontal`, or `both` where up and down mean nothing (microscopes,
            satellites).
        augment: What changes colour or shape after that (`policies.NAMES`).
        magnitude: Strength of RandAugment, 0 to 30.
        erase: Probability that a rectangle is erased.
    """

    crop: str = "resized"
    smallest: float = 0.25
    flip: str = "horizontal"
    augment: str = "none"
    magnitude: int = 9
    erase: float = 0.0

    def __post_init__(self) -> None:
        if self.crop not in CROPS or self.flip not in FLIPS or not 0 < self.smallest <= 1:
            raise ValueError(
                f"augmentation: crop={self.crop} flip={self.flip} smallest={self.smallest};"
                f" allowed: crop {'|'.join(CROPS)}, flip {'|'.join(FLIPS)}, smallest above 0 and up"
                " to 1"
            )

    @property
    def longest(self) -> float:
        """Longer side over shorter one of images that are kept; of longer ones, the middle."""
        return 2.0 if self.crop == "resized" else math.inf

    def short_side(self, preprocessing: Preprocessing) -> int | None:
        """The shorter side at which images are kept; None: the prepared input is kept instead."""
        if self.crop == "jitter":  # no part is enlarged beyond what is kept
            return math.ceil(min(preprocessing.size) / math.sqrt(self.smallest))
        return -(-max(preprocessing.size) * 115 // 100) if self.crop == "resized" else None

    def boxes(
        self, draws: np.ndarray, sizes: np.ndarray, preprocessing: Preprocessing
    ) -> np.ndarray:
        """What is shown of each kept image: (N, 6) draws and (N, 2) heights, widths to (N, 4)
        top, left, bottom, right."""
        if self.crop == "jitter":
            return self._jittered(draws, sizes, preprocessing)
        height, width = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
        if self.crop == "resized":
            area = height * width * (self.smallest + (1 - self.smallest) * draws[:, 0])
            # width over height, from 3/4 to 4/3
            shape = np.exp(np.log(4 / 3) * (2 * draws[:, 1] - 1))
            box_h, box_w = (
                np.minimum(np.sqrt(area / shape), height),
                np.minimum(np.sqrt(area * shape), width),
            )
            top, left = draws[:, 2] * (height - box_h), draws[:, 3] * (width - box_w)
        else:
            reach = (
                np.stack([height, width]) // 8
                if self.crop == "shift"
                else np.zeros((2, len(draws)))
            )
            top, left = (
                np.floor(draws[:, 2] * (2 * reach[0] + 1)) - reach[0],
                np.floor(draws[:, 3] * (2 * reach[1] + 1)) - reach[1],
            )
            box_h, box_w = height, width
        return np.stack([top, left, top + box_h, left + box_w], 1)

    def _jittered(
        self, draws: np.ndarray, sizes: np.ndarray, preprocessing: Preprocessing
    ) -> np.ndarray:
        """Boxes for `jitter`: what the prepared input shows, scaled evenly and moved."""
        shown = np.array([preprocessing.view(*size).box for size in sizes.tolist()])
        start, extent = shown[:, 1::-1], (shown[:, 2:] - shown[:, :2])[:, ::-1]
        low, high = math.log(self.smallest) / 2, math.log(OUT if self.smallest < 1 else 1)
        scale = np.exp(low + (high - low) * draws[:, :1])
        reach = extent / 8
        moved = start - reach + draws[:, 2:4] * (extent * (1 - scale) + 2 * reach)
        return np.concatenate([moved, moved + extent * scale], 1)

    def views(
        self,
        draws: np.ndarray,
        sizes: np.ndarray,
        preprocessing: Preprocessing,
        shape: tuple[int, int],
    ) -> list[View]:
        """What is shown of each kept image, as `augment` shows it in an input of this shape."""
        found = self.boxes(draws, sizes, preprocessing).tolist()
        turned = (self.flips(draws) < 0).tolist()
        return [
            View((left, top, right, bottom), shape, (vertical, horizontal))
            for (top, left, bottom, right), (vertical, horizontal) in zip(
                found, turned, strict=True
            )
        ]

    def flips(self, draws: np.ndarray) -> np.ndarray:
        """(N, 2) of 1 or -1: upside down, and left to right."""
        vertical = (draws[:, 4] < 0.5) if self.flip == "both" else np.zeros(len(draws), bool)
        horizontal = (draws[:, 5] < 0.5) if self.flip != "none" else np.zeros(len(draws), bool)
        return 1.0 - 2.0 * np.stack([vertical, horizontal], 1)


def uniform(seed: int, epoch: int, samples: np.ndarray, count: int) -> np.ndarray:
    """(N, count) numbers in [0, 1) that depend on (seed, epoch, sample) alone: SplitMix64 (Steele
    et al. 2014) as a hash."""
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.uint64(seed & (2**64 - 1)) + _GOLDEN) ^ np.uint64(epoch))
        keys = _mix(key ^ samples.astype(np.uint64))[:, None] + _GOLDEN * np.arange(
            1, count + 1, dtype=np.uint64
        )
        return (_mix(keys) >> np.uint64(11)) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray | np.uint64) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


def augment(
    arrays: Sequence[np.ndarray],
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    draws: np.ndarray,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """A batch: images (h, w, C) of any sizes to (N, C, height, width) float32 in grey levels,
    channels_last.

    All images go into one canvas; one bilinear sampling then cuts, scales and flips each by its
    own draws (N, 6). Outside an image is the pad colour. The size is that of the preprocessing
    where none is given.
    """
    sizes = np.array([array.shape[:2] for array in arrays])
    images = _canvas(arrays, sizes, preprocessing)
    boxes = augmentation.boxes(draws, sizes, preprocessing)
    grid = _grid(augmentation, boxes, draws, sizes, size or preprocessing.size)
    pad = float(preprocessing.pad_color)
    sampled = F.grid_sample(
        images - pad if pad else images,
        grid,
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return (sampled + pad if pad else sampled).contiguous(memory_format=torch.channels_last)


def augment_clips(
    arrays: Sequence[np.ndarray],
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    draws: np.ndarray,
    size: tuple[int, int],
) -> Tensor:
    """`augment`; of clips (T, h, w, C), whose images are all shown alike: (N, C, T, height,
    width)."""
    if arrays[0].ndim == 3:
        return augment(arrays, augmentation, preprocessing, draws, size)
    frames, stills = len(arrays[0]), [image for array in arrays for image in array]
    images = augment(stills, augmentation, preprocessing, draws.repeat(frames, 0), size)
    return images.unflatten(0, (-1, frames)).transpose(1, 2).contiguous()


def _canvas(
    arrays: Sequence[np.ndarray], sizes: np.ndarray, preprocessing: Preprocessing
) -> Tensor:
    """(N, C, h, w) float32: each image at the top left, the pad colour around it."""
    canvas = np.full(
        (len(arrays), *sizes.max(0), preprocessing.channels),
        preprocessing.pad_color,
        preprocessing.dtype,
    )
    for place, array in enumerate(arrays):
        canvas[place, : array.shape[0], : array.shape[1]] = array
    if preprocessing.value_range > 255:
        canvas = canvas.astype(np.float32)  # torch samples no uint16
    return torch.from_numpy(canvas).permute(0, 3, 1, 2).to(torch.float32).contiguous()


def _grid(
    augmentation: Augmentation,
    boxes: np.ndarray,
    draws: np.ndarray,
    sizes: np.ndarray,
    shape: tuple[int, int],
) -> Tensor:
    """(N, height, width, 2): where on the canvas each pixel of the input comes from."""
    canvas_h, canvas_w = sizes.max(0)
    top, left, bottom, right = boxes.T
    flip_y, flip_x = augmentation.flips(draws).T
    # input coordinates in [-1, 1] to canvas coordinates in [-1, 1]
    theta = np.zeros((len(sizes), 2, 3))
    theta[:, 0, 0] = flip_x * (right - left) / canvas_w
    theta[:, 0, 2] = (right + left) / canvas_w - 1
    theta[:, 1, 1] = flip_y * (bottom - top) / canvas_h
    theta[:, 1, 2] = (bottom + top) / canvas_h - 1
    # the number of channels does not matter
    shape_of_batch = [len(sizes), 1, *shape]
    grid = F.affine_grid(torch.from_numpy(theta).float(), shape_of_batch, align_corners=False)
    if augmentation.crop != "resized":
        return grid
    # a part of the image ends at its outermost pixels, it does not fade into the pad colour
    width_height = torch.from_numpy(sizes[:, ::-1].copy()).view(-1, 1, 1, 2)
    canvas_size = torch.tensor([canvas_w, canvas_h])
    return grid.clamp(1 / canvas_size - 1, (2 * width_height - 1) / canvas_size - 1)


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(N, C, H, W) or (N, C, T, H, W) float32 grey levels to what the network takes:
    `Preprocessing.normalise` on a device."""
    shape = (1, -1, *(1 for _ in images.shape[2:]))
    mean = (
        torch.tensor(preprocessing.mean, device=images.device).view(shape)
        * preprocessing.value_range
    )
    std = (
        torch.tensor(preprocessing.std, device=images.device).view(shape)
        * preprocessing.value_range
    )
    return (images - mean) / std
