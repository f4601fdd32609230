"""Training steps on blank images: whether a network can take them, and how long they are."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from resnets.data.batches import Batch
from resnets.kinds.sample import Sample
from resnets.kinds.view import View
from resnets.run.spec import Spec
from resnets.run.work import autocast_of, make_state
from resnets.tasks import Task
from resnets.training.loop import Hooks, TrainingState, train_steps
from resnets.training.means import Means
from resnets.training.optimizers import Schedule
from resnets.training.plan import Phase, Plan, PlannedPhase

TIMED = 1  # step, after one that warms up


def blank_images(count: int, spec: Spec, device: torch.device, side: int | None = None) -> Tensor:
    """Images that show nothing, but are not all alike, in the size of the run or of a phase."""
    shape = spec.input_shape(count, side)
    return torch.linspace(-1, 1, math.prod(shape), device=device).reshape(shape)


def blank_batch(
    spec: Spec, samples: Sequence[Sample], device: torch.device, side: int | None = None
) -> Batch:
    """Blank images, and what is true of the first pixels of the samples, as if these were they."""
    images, task = blank_images(len(samples), spec, device, side), spec.make_task()
    height, width = images.shape[-2:]
    view = View((0, 0, width, height), (height, width))
    truths = [one.seen(view) for one in task.kind.ground_truth(samples, spec.classes)]
    targets = {name: one.to(device) for name, one in task.collate(truths).items()}
    return Batch(images, targets)


def take_steps(
    net: nn.Module, spec: Spec, phase: Phase, batch: Batch, count: int = 1
) -> tuple[TrainingState, list[float]]:
    """Steps of a phase with hardly any learning rate: their end, and the seconds of each."""
    marks = [time.perf_counter()]
    planned = PlannedPhase(Schedule(1e-6, count, 0), phase=phase)
    autocast = autocast_of(spec.settings, batch.images.device)
    train_norms = spec.settings.norms != "frozen"
    means = Means.of(spec.settings)
    plan = Plan(
        *((planned,), 1, 2 * count, 2 * count),
        train_norms=train_norms,
        autocast=autocast,
        means=means,
    )
    task: Task = spec.make_task()
    state = make_state(net, task, plan, spec.settings.average)

    def on_step(state: TrainingState, loss: float) -> None:
        marks.append(time.perf_counter())

    hooks = Hooks(lambda _: {}, lambda _: None, on_step)
    state = train_steps(state, [batch] * count * means.accumulate, task, plan, hooks)
    return state, [after - before for before, after in pairwise(marks)]


def time_step(
    net: nn.Module, spec: Spec, samples: Sequence[Sample], side: int | None = None
) -> tuple[float, float]:
    """Seconds of a training step on as many images as there are samples, in one batch, and its
    loss, on a copy of the network."""
    spec = replace(spec, settings=replace(spec.settings, accumulate=1))
    device = next(net.parameters()).device
    batch, trial = blank_batch(spec, samples, device, side), copy.deepcopy(net)
    with torch.random.fork_rng([]):
        state, seconds = take_steps(trial, spec, spec.phases[-1], batch, 1 + TIMED)
    loss = state.rows[-1]["train_loss"]
    assert loss is not None
    return statistics.median(seconds[1:]), loss
