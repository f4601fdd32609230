"""Classes of which there are few images, brought up in training: by the loss or by the order of
images. Validation stays as the data are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnets.kinds.sample import Sample
from resnets.tasks import Task, describe_task, make_task


def strata_of(task: Task, samples: Sequence[Sample], classes: Sequence[str]) -> np.ndarray:
    """(n,) the class of each sample, by its number.

    Raises:
        ValueError: Samples of the task have no single class each.
    """
    if not task.by_class:
        raise ValueError(
            f"balance needs one class for each image, which the task {task.kind.name} does not"
            " have; allowed there: none"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[sample.labels[0]] for sample in samples])


def weighted(task: Task, samples: Sequence[Sample], classes: Sequence[str]) -> Task:
    """The task with its loss weighted by the inverse frequency of classes; over the samples, the
    mean weight is 1.

    Raises:
        ValueError: As of `strata_of`.
    """
    counts = np.bincount(strata_of(task, samples, classes), minlength=len(classes))
    weights = len(samples) / (len(classes) * np.maximum(counts, 1))
    return make_task({**describe_task(task), "class_weights": [round(one, 6) for one in weights]})
