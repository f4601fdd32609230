"""Classes of which there are few images, brought up in training: by the loss or by the order of
images. Validation stays as the data are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnets.data.splits import class_indices
from resnets.kinds.sample import Sample
from resnets.tasks import Task, describe_task, make_task


def weighted(task: Task, samples: Sequence[Sample], classes: Sequence[str]) -> Task:
    """The task with its loss weighted by the inverse frequency of classes; over the samples, the
    mean weight is 1."""
    counts = np.bincount(class_indices(samples, classes), minlength=len(classes))
    weights = len(samples) / (len(classes) * np.maximum(counts, 1))
    return make_task({**describe_task(task), "class_weights": [round(one, 6) for one in weights]})
