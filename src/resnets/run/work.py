"""A run in work: images in memory, and the number of steps fixed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from resnets.data.loader import ImageCache, TrainingBatches
from resnets.data.splits import class_indices
from resnets.data.transforms import Augmentation
from resnets.kinds.sample import Sample
from resnets.modelfile import Model
from resnets.run.folder import RunFolder
from resnets.run.spec import Spec
from resnets.run.timing import measure_costs
from resnets.screen import Screen
from resnets.tasks.classification import Classification
from resnets.training.loop import Row, TrainingState
from resnets.training.optimizers import Average, make_optimizer
from resnets.training.recipe import TrainSettings, choose_device, memory_for_images

Callback = Callable[[Row], Any]
VALIDATIONS = 20  # at most about so many in a run


@dataclass
class Job:
    """A run in work: what was decided, and the objects that do it."""

    spec: Spec
    folder: RunFolder
    net: nn.Module
    samples: list[Sample]
    screen: Screen
    callbacks: Sequence[Callback]
    started: float
    device: torch.device
    batches: TrainingBatches
    held_out: ImageCache
    measured: ImageCache
    stopped: bool = False
    diverged: str = ""


def read_images(
    spec: Spec,
    folder: RunFolder,
    net: nn.Module,
    samples: list[Sample],
    screen: Screen,
    callbacks: Sequence[Callback],
    started: float,
) -> Job:
    """Decodes the images into memory, as far as the budget goes; held-out ones first, since they
    are all needed every time."""
    settings, preprocessing = spec.settings, spec.preprocessing
    assert settings.batch_size is not None
    device = choose_device(settings.device)
    budget, workers = memory_for_images(settings.cache_gb), settings.workers or None
    parts = {
        split: [sample for sample in samples if sample.split == split]
        for split in ("train", "val", "test")
    }
    augmentation = Augmentation(settings.crop or "none", settings.smallest or 1.0, settings.flip)
    held_out = ImageCache(parts["val"], preprocessing, None, budget, workers)
    measured = (
        ImageCache(parts["test"], preprocessing, None, budget, workers)
        if parts["test"]
        else held_out
    )
    training = ImageCache(
        parts["train"], preprocessing, augmentation.short_side(preprocessing), budget, workers
    )
    for title, pictures in (
        ("held-out images", held_out),
        ("test images", measured),
        ("training images", training),
    ):
        if pictures.kept:
            continue
        pictures.budget = budget
        with screen.progress(title, len(pictures)) as bar:
            for done in pictures.fill():
                bar.update(done)
        budget -= pictures.bytes
    kept, total = training.kept, len(training)
    beyond = (
        "" if kept == total else f"; {total - kept:,} beyond it are decoded every time (--cache-gb)"
    )
    screen.say(
        f"{kept:,} of {total:,} training images in memory ({training.bytes / 1e9:.2f} GB){beyond}"
    )
    labels = class_indices(parts["train"], spec.classes)
    batches = TrainingBatches(training, labels, settings.batch_size, augmentation, settings.seed)
    net = net.to(device).to(memory_format=torch.channels_last)
    return Job(
        spec, folder, net, samples, screen, callbacks, started, device, batches, held_out, measured
    )


def plan(job: Job) -> Spec:
    """Fixes the number of steps, once: from the epochs, or from the time that is left.

    Raises:
        ValueError: The time does not suffice for one step.
    """
    settings, per_epoch = job.spec.settings, job.batches.steps_per_epoch
    if settings.minutes is None:
        assert settings.epochs is not None
        return replace(job.spec, steps=max(1, round(settings.epochs * per_epoch)))
    left = max(0.0, settings.minutes * 60 - (time.monotonic() - job.started))
    model = Model(job.net, job.spec.classes, job.spec.preprocessing, job.spec.network)
    task = Classification(settings.smoothing or 0.0)
    with job.screen.progress("timing a few steps, a validation and the export", 1):
        costs = measure_costs(
            make_state(job.net, settings, 100),
            job.batches,
            task,
            model,
            job.held_out,
            job.measured,
            left,
        )
    left = max(0.0, settings.minutes * 60 - (time.monotonic() - job.started))
    steps = costs.steps_within(left, lambda steps: validation_interval(steps, per_epoch))
    if steps < 1:
        raise ValueError(
            f"{settings.minutes:g} minutes are too short: {costs}, and {max(0.0, left):.0f} s are"
            " left; give more, or --epochs"
        )
    job.screen.say(
        f"{steps:,} steps ({steps / per_epoch:.1f} epochs) fit into {settings.minutes:g} minutes:"
        f" {costs}"
    )
    return replace(job.spec, steps=steps)


def make_state(net: nn.Module, settings: TrainSettings, steps: int) -> TrainingState:
    """A run's state before its first step."""
    assert settings.lr is not None
    assert settings.weight_decay is not None
    optimizer = make_optimizer(net, settings.lr, settings.momentum, settings.weight_decay)
    return TrainingState(net, optimizer, Average(net, settings.average * steps))


def validation_interval(steps: int, per_epoch: int) -> int:
    """Steps between validations: whole epochs, so many that there are about `VALIDATIONS` at
    most."""
    return per_epoch * max(1, round(steps / per_epoch / VALIDATIONS))
