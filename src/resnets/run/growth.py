"""What more images would bring: linear probes on parts of the training images, in seconds."""

from __future__ import annotations

import csv
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from resnets.data.splits import class_indices
from resnets.evaluation import EVALUATORS
from resnets.evaluation.forecast import Growth, extrapolate
from resnets.files import csv_text, write_file
from resnets.run.featured import judge_raw
from resnets.run.validation import main_number
from resnets.run.work import Job
from resnets.training.probe import Featured, Fitted

PARTS = {0.125: 4, 0.25: 3, 0.5: 2}  # of the training images, and how often each is drawn
# Training images: from 100, the forecast was more than 2 points off in 5 of 12 trials, from 250 or
# more in 4 of 21 (benchmarks/learning_curve.py); more than the most take too long
FEWEST, MOST = 200, 20_000


def measure_growth(
    job: Job, train: Featured, whole: Fitted, fit: Callable[[Featured], Fitted], val: Tensor
) -> None:
    """Writes learning_curve.csv; nothing where what is measured is no share of right images.

    Args:
        job: The run.
        train: Its training images.
        whole: The probe on all of them.
        fit: A probe on some of them.
        val: Features (n, channels) of its validation images.
    """
    is_right, samples = EVALUATORS[job.task.kind.name].right, job.images.batches.images.samples
    if is_right is None or not FEWEST <= len(samples) <= MOST:
        return

    def judge(fitted: Fitted) -> np.ndarray:
        return np.array([is_right(one) for one in judge_raw(job, fitted(val))], np.float64)

    strata = class_indices(samples, job.spec.classes)
    with job.screen.progress("learning curve", sum(PARTS.values())) as bar:
        sizes, right = grow(train, strata, fit, judge, bar.update)
    growth = extrapolate(
        main_number(job.task), [*sizes, len(samples)], np.stack([*right, judge(whole)])
    )
    write_file(job.folder.learning_curve, csv_text(growth.rows()))


def grow(
    train: Featured,
    strata: np.ndarray,
    fit: Callable[[Featured], Fitted],
    judge: Callable[[Fitted], np.ndarray],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[int], list[np.ndarray]]:
    """Probes on parts of the images.

    Args:
        train: All of them.
        strata: (n,) classes; each part has its share of each.
        fit: A probe on some of them.
        judge: A probe to (m,), whether it is right on each validation image.
        progress: Told of probes that are done.

    Returns:
        The number of images of each part, and (m,) how often a validation image was right.
    """
    sizes, right, done = list[int](), list[np.ndarray](), 0
    for part, draws in PARTS.items():
        found = []
        for draw in range(draws):
            places = _part(strata, part, draw)
            targets = {name: one[places] for name, one in train.targets.items()}
            found.append(judge(fit(Featured(train.features[places], targets))))
            done += 1
            progress(done)
        sizes.append(len(places))
        right.append(np.mean(found, 0))
    return sizes, right


def read_growth(job: Job) -> Growth | None:
    """What the probe of a run wrote."""
    if not job.folder.learning_curve.is_file():
        return None
    with job.folder.learning_curve.open(newline="", encoding="utf-8") as file:
        return Growth.read(list(csv.DictReader(file)))


def _part(strata: np.ndarray, part: float, draw: int) -> Tensor:
    """Places of a part of each class, at least one image."""
    rng, places = np.random.default_rng((draw, round(1 / part))), []
    for name in np.unique(strata):
        own = rng.permutation(np.flatnonzero(strata == name))
        places.append(own[: max(1, round(part * len(own)))])
    return torch.from_numpy(np.sort(np.concatenate(places)))
