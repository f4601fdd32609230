"""First weights whose BatchNorm statistics came folded: measured anew on training images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from resnets.data.loader import ImageCache
from resnets.models.statistics import folded_norms, unfold_statistics
from resnets.run.work import Job
from resnets.screen import Bar

IMAGES = 512  # that statistics are measured on


def restore_statistics(job: Job) -> None:
    """Where the first weights have folded statistics, gives them those of training images, since
    training on folded ones collapses; says so."""
    if not folded_norms(job.net):
        return
    training = [sample for sample in job.samples if sample.split == "train"]
    places = np.unique(np.linspace(0, len(training) - 1, IMAGES).astype(int))
    images = ImageCache(
        [training[place] for place in places],
        job.spec.preprocessing,
        None,
        0,
        job.spec.settings.workers or None,
    )
    with job.screen.progress("BatchNorm statistics", len(images)) as bar:
        unfold_statistics(job.net, _inputs(job, images, bar))
    said = f"BatchNorm statistics re-estimated on {len(images):,} training images"
    job.screen.say(f"{said}: the weights came with folded ones")
    job.spec = replace(job.spec, weights=f"{job.spec.weights}; {said}")


def _inputs(job: Job, images: ImageCache, bar: Bar) -> Iterator[Tensor]:
    for places, pixels in images.batches(32):
        yield torch.from_numpy(job.spec.preprocessing.normalise(pixels)).to(
            job.device, memory_format=torch.channels_last
        )
        bar.update(int(places[-1]) + 1)
