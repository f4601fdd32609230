"""Images that are the same, or nearly: found without comparing every pair.

An image is reduced to 9 x 8 grey levels; whether each is brighter than its left neighbour gives 64
bits (a difference hash). Re-encoding, scaling and small edits flip few of them. The hashes are
sorted eight times, each time from another byte on, and only neighbours in an order are compared:
two hashes that differ in at most 3 bits share two bytes in a row, so they meet in one of the orders
(unless many share them). A small thumbnail then confirms the pair. Time grows as N log N.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

THUMBNAIL = (18, 16)  # width, height: 2 x 2 of these make one of the 9 x 8 levels
MAX_BITS = 8
MAX_LEVELS = 6.0  # mean difference of the thumbnails, grey levels; JPEG at quality 50 stays below 4
# Of thumbnails: on a plain background small differences are all that there is to see
MIN_CORRELATION = 0.9
# standard deviation below which an image is too flat to be told from another by its shape
MIN_CONTRAST = 8.0
WINDOW = 16  # neighbours looked at in each of the eight orders


@dataclass(frozen=True)
class Pair:
    """Two images, by their places in the list given, and how they are alike: `exact`, `near` or
    `mirrored`."""

    first: int
    second: int
    kind: str


def thumbnail(image: Image.Image) -> np.ndarray:
    """(16, 18) uint8 grey levels: what `find_pairs` compares."""
    return np.asarray(image.convert("L").resize(THUMBNAIL, Image.Resampling.BOX))


def find_pairs(digests: Sequence[bytes], thumbnails: np.ndarray) -> list[Pair]:
    """All pairs of equal files, and those of images that look the same, also in a mirror.

    Args:
        digests: A hash of each file's content.
        thumbnails: (N, 16, 18) uint8 of `thumbnail`.

    Returns:
        Pairs sorted by place. An image that equals several others is paired with the first of them
        only.
    """
    pairs: dict[tuple[int, int], str] = {}
    first_of: dict[bytes, int] = {}
    for index, digest in enumerate(digests):
        first = first_of.setdefault(digest, index)
        if first != index:
            pairs[first, index] = "exact"
    unique = np.fromiter(first_of.values(), np.int64, len(first_of))
    unique = unique[thumbnails[unique].std((1, 2)) >= MIN_CONTRAST]
    both = np.concatenate([thumbnails[unique], thumbnails[unique][:, :, ::-1]])
    for a, b in _similar(both):
        if a < len(unique) and a != b - len(
            unique
        ):  # not two mirror images, and not an image with its own
            first, second = sorted((int(unique[a]), int(unique[b % len(unique)])))
            kind = "near" if b < len(unique) else "mirrored"
            if pairs.get((first, second)) != "near":
                pairs[first, second] = kind
    return [Pair(first, second, kind) for (first, second), kind in sorted(pairs.items())]


def _hashes(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 16, 18) to (N,) uint64 difference hashes."""
    levels = thumbnails.reshape(-1, 8, 2, 9, 2).mean((2, 4), dtype=np.float32)
    bits = np.packbits(levels[:, :, 1:] > levels[:, :, :-1], axis=2)
    return np.ascontiguousarray(bits).reshape(-1, 8).view(np.uint64)[:, 0]


def _centred(thumbnails: np.ndarray) -> np.ndarray:
    """As float32 around 0: brighter or darker as a whole is still the same image."""
    levels = thumbnails.astype(np.float32)
    return levels - levels.mean((1, 2), keepdims=True)


def _similar(thumbnails: np.ndarray) -> Iterator[tuple[int, int]]:
    """Places (a, b), a before b, whose hashes and thumbnails are near."""
    hashes = _hashes(thumbnails)
    for turn in range(0, 64, 8):
        turned = (hashes << np.uint64(turn)) | (hashes >> np.uint64((64 - turn) % 64))
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            near = np.flatnonzero(np.bitwise_count(hashes[a] ^ hashes[b]) <= MAX_BITS)
            first, second = (_centred(thumbnails[places[near]]) for places in (a, b))
            levels = np.abs(first - second).mean((1, 2))
            lengths = np.linalg.norm(first, axis=(1, 2)) * np.linalg.norm(second, axis=(1, 2))
            alike = (first * second).sum((1, 2)) >= MIN_CORRELATION * lengths
            near = near[alike & (levels <= MAX_LEVELS)]
            yield from zip(
                np.minimum(a, b)[near].tolist(), np.maximum(a, b)[near].tolist(), strict=True
            )
