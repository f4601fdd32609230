"""The order in which an epoch shows the training images: a function of (seed, epoch) alone."""

from __future__ import annotations

import numpy as np


def epoch_order(count: int, seed: int, epoch: int, strata: np.ndarray | None = None) -> np.ndarray:
    """(count,) numbers; a number modulo `count` is an image.

    Args:
        count: Images, and numbers of an epoch.
        seed: Of the run.
        epoch: Counted from 0.
        strata: (count,) integers, the class of each image, where classes are to be equally
            frequent: images of rare ones come several times, with a number and so a crop of its own
            each time; of frequent ones a part comes, another one in every epoch. None: each image
            comes once.
    """
    rng = np.random.default_rng((seed, epoch))
    if strata is None:
        return rng.permutation(count)
    classes = rng.permutation(np.unique(strata))  # what does not divide goes to the first
    drawn = []
    for rank, one in enumerate(classes):
        members = np.flatnonzero(strata == one)
        wanted = count // len(classes) + (rank < count % len(classes))
        rounds = [
            rng.permutation(members) + count * again for again in range(-(-wanted // len(members)))
        ]
        drawn.append(np.concatenate(rounds)[:wanted])
    return rng.permutation(np.concatenate(drawn))
