"""Images as the backbone of a network sees them: the features that a linear head is fitted to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from resnets.data.loader import PreparedImages
from resnets.run.spec import Spec
from resnets.run.work import Job, autocast_of
from resnets.tasks import Task
from resnets.training.device import autocasting, place_input
from resnets.training.probe import Featured

BATCH = 32  # images at a time


def can_probe(net: nn.Module, task: Task) -> bool:
    """Whether a network ends in a linear head on features."""
    return task.features(net) is not None and isinstance(task.head(net), nn.Linear)


def find_features(
    spec: Spec,
    net: nn.Module,
    images: PreparedImages,
    progress: Callable[[int], None] = lambda done: None,
    mirrored: bool = False,
) -> Featured:
    """The features of prepared images, on the CPU, in the precision of the run.

    Args:
        spec: Of the run.
        net: Of it, with whatever weights.
        images: To look at.
        progress: Told of images that are done.
        mirrored: Look at their mirror images, left for right.
    """
    task, preprocessing = spec.make_task(), spec.preprocessing
    device = next(net.parameters()).device
    features = task.features(net.eval())
    assert features is not None
    autocast, found = autocast_of(spec.settings, device), []
    with torch.inference_mode():
        for places, pixels, _ in images.batches(BATCH):
            inputs = place_input(torch.from_numpy(preprocessing.normalise(pixels)), device)
            inputs = inputs.flip(-1) if mirrored else inputs
            with autocasting(device, autocast):
                found.append(features(inputs).float().cpu())
            progress(int(places[-1]) + 1)
    truths = task.kind.ground_truth(images.samples, spec.classes)
    return Featured(torch.cat(found).clone(), task.collate(truths))


def training_images_of(job: Job) -> PreparedImages:
    """The training images as they are prepared for evaluation; none is kept."""
    samples, workers = job.images.batches.images.samples, job.spec.settings.workers or None
    return PreparedImages(samples, job.spec.preprocessing, 0, workers)
