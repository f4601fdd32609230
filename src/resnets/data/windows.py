"""Videos cut into the windows that a network sees, each a sample of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from resnets.clip import open_video
from resnets.images import BadImage
from resnets.kinds.sample import Sample
from resnets.sampling import Sampling

OVERLAP, MOST = 0.5, 8  # of the windows of a video that is trained on: step, and number at most


def to_windows(
    samples: Sequence[Sample],
    sampling: Sampling | None,
    training: bool = False,
    workers: int | None = None,
) -> list[Sample]:
    """The windows of each sample, in order; samples as they are where no video is sampled.

    Args:
        samples: Videos.
        sampling: Of the network; None where it takes images.
        training: Whether windows overlap, and are few of a long video; else they cover all of it.
        workers: Threads that open videos; by default one a core.

    Raises:
        BadImage: A video has become unreadable since it was checked.
    """
    if sampling is None:
        return list(samples)
    step, most = (OVERLAP, MOST) if training else (1.0, None)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        lengths = list(pool.map(_length, samples))
    return [
        replace(sample, span=span)
        for sample, length in zip(samples, lengths, strict=True)
        for span in sampling.windows(length, step, most)
    ]


def _length(sample: Sample) -> float:
    try:
        with open_video(sample.path) as video:
            return video.seconds
    except BadImage as error:
        raise BadImage(f"{sample.path}: {error}") from None
