"""A run in work: pictures in memory, the number of steps fixed, then training with validation and
checkpoints."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

from resnets.data.loader import Pictures, TrainingBatches
from resnets.data.sources import Sample
from resnets.data.splits import class_indices
from resnets.data.transforms import Augmentation
from resnets.modelfile import Model, write_model
from resnets.run import outcome
from resnets.run.folder import RunFolder
from resnets.run.spec import Spec
from resnets.run.timing import measure_costs
from resnets.screen import Screen
from resnets.tasks.classification import Classification
from resnets.training.checkpoint import pack, unpack
from resnets.training.loop import Hooks, Plan, Row, TrainingState, train_steps
from resnets.training.optimizers import Average, Schedule, make_optimizer
from resnets.training.recipe import TrainSettings, choose_device, memory_for_pictures

Callback = Callable[[Row], Any]
ROWS_AN_EPOCH = 5  # lines of results.csv
VALIDATIONS = 20  # at most about so many in a run
# results.csv is written whole: beyond so many every second time, then every third, so cost stays in
# proportion
MANY_ROWS = 200


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
    held_out: Pictures
    measured: Pictures
    stopped: bool = False


def read_pictures(
    spec: Spec,
    folder: RunFolder,
    net: nn.Module,
    samples: list[Sample],
    screen: Screen,
    callbacks: Sequence[Callback],
    started: float,
) -> Job:
    """Decodes the pictures into memory, as far as the budget goes; held-out ones first, since they
    are all needed every time."""
    settings, preprocessing = spec.settings, spec.preprocessing
    assert settings.batch_size is not None
    device = choose_device(settings.device)
    budget, workers = memory_for_pictures(settings.cache_gb), settings.workers or None
    parts = {
        split: [sample for sample in samples if sample.split == split]
        for split in ("train", "val", "test")
    }
    augmentation = Augmentation(settings.crop or "none", settings.smallest or 1.0, settings.flip)
    held_out = Pictures(parts["val"], preprocessing, None, budget, workers)
    measured = (
        Pictures(parts["test"], preprocessing, None, budget, workers) if parts["test"] else held_out
    )
    training = Pictures(
        parts["train"], preprocessing, augmentation.short_side(preprocessing), budget, workers
    )
    for title, pictures in (
        ("held-out pictures", held_out),
        ("test pictures", measured),
        ("training pictures", training),
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
        f"{kept:,} of {total:,} training pictures in memory ({training.bytes / 1e9:.2f} GB){beyond}"
    )
    labels = class_indices(parts["train"], spec.classes)
    batches = TrainingBatches(training, labels, settings.batch_size, augmentation, settings.seed)
    net = net.to(device).to(memory_format=torch.channels_last)
    return Job(
        spec, folder, net, samples, screen, callbacks, started, device, batches, held_out, measured
    )


def plan(job: Job) -> Spec:
    """Fixes the number of steps, once: from the epochs, or from the time that is left."""
    settings, per_epoch = job.spec.settings, job.batches.steps_per_epoch
    if settings.minutes is None:
        assert settings.epochs is not None
        return replace(job.spec, steps=max(1, round(settings.epochs * per_epoch)))
    left = settings.minutes * 60 - (time.monotonic() - job.started)
    model = Model(job.net, job.spec.classes, job.spec.preprocessing, job.spec.network)
    task = Classification(settings.smoothing or 0.0)
    costs = measure_costs(
        make_state(job.net, settings, 100),
        job.batches,
        task,
        model,
        job.held_out,
        job.measured,
        left,
    )
    left = settings.minutes * 60 - (time.monotonic() - job.started)
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


def carry_out(
    job: Job,
    tensors: dict[str, torch.Tensor] | None = None,
    checkpoint: dict[str, Any] | None = None,
) -> TrainingState:
    """Trains, from a checkpoint if one is given; keeps the best weights and the last state."""
    spec, settings = job.spec, job.spec.settings
    assert settings.lr is not None
    state = make_state(job.net, settings, spec.steps)
    if tensors is not None and checkpoint is not None:
        unpack(state, tensors, checkpoint)
        job.screen.say(f"resuming {job.folder.path} at step {state.step:,} of {spec.steps:,}")
    per_epoch = job.batches.steps_per_epoch
    plan = Plan(
        Schedule(settings.lr, spec.steps, round(settings.warmup * spec.steps)),
        per_epoch,
        max(1, per_epoch // ROWS_AN_EPOCH),
        validation_interval(spec.steps, per_epoch),
        seed=settings.seed,
        train_norms=settings.norms == "train",
        autocast=torch.bfloat16 if job.device.type == "cuda" else None,
    )
    task = Classification(settings.smoothing or 0.0)
    with _interruptible() as stopping, job.screen.progress("training", spec.steps) as bar:

        def on_step(state: TrainingState, loss: float) -> None:
            rate = state.step * job.batches.batch_size / max(1e-9, state.seconds)
            bar.update(state.step, f"loss {loss:.3f}  {rate:.0f} img/s  {_last(state.rows)}")

        def on_row(row: Row) -> bool:
            if (
                row["val_accuracy"] is not None
                or len(state.rows) % (1 + len(state.rows) // MANY_ROWS) == 0
            ):
                job.folder.write_results(state.rows)
            if row["val_accuracy"] is not None:
                job.screen.say(_row_words(state.rows))
            answers = [callback(row) for callback in job.callbacks]  # all of them are told
            return any(answers)

        hooks = Hooks(
            lambda state: _validate(job, state),
            lambda state: _save(job, state),
            on_step,
            on_row,
            stopping,
        )
        train_steps(state, job.batches.from_step(state.step, job.device), task, plan, hooks)
    if state.step < spec.steps:
        job.stopped = True
        job.screen.warn(
            f"stopped at step {state.step:,} of {spec.steps:,}, saved; go on with: resnets train"
            f" --resume {job.folder.path}"
        )
        if not state.best:
            _validate(job, state)
    return state


def _validate(job: Job, state: TrainingState) -> Row:
    """Measures raw and averaged weights; the better, if it is the best so far, becomes
    best.safetensors."""
    labels = class_indices(job.held_out.samples, job.spec.classes)
    row: Row = {}
    for weights, net, suffix in (("raw", state.net, ""), ("averaged", state.average.net, "_ema")):
        model = Model(net, job.spec.classes, job.spec.preprocessing, job.spec.network)
        probabilities = outcome.answer_all(model.answer, job.held_out).probabilities
        accuracy = float((probabilities.argmax(1) == labels).mean())
        loss = float(
            -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
        )
        if weights == "raw":
            row["val_loss"] = loss
        row[f"val_accuracy{suffix}"] = accuracy
        if not state.best or (accuracy, -loss) > (state.best["accuracy"], -state.best["loss"]):
            state.best = {
                "accuracy": accuracy,
                "loss": loss,
                "weights": weights,
                "step": state.step,
            }
            write_model(
                job.folder.best, net.state_dict(), {**job.spec.metadata(), "weights": state.best}
            )
    return row


def _save(job: Job, state: TrainingState) -> None:
    tensors, rest = pack(state)
    write_model(job.folder.last, tensors, {**job.spec.metadata(), "checkpoint": rest})


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step it is in; a second one stops at
    once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if (
        threading.current_thread() is not threading.main_thread()
    ):  # only there may signals be handled
        yield asked.is_set
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last(rows: Sequence[Row]) -> str:
    values = [row["val_accuracy"] for row in rows if row.get("val_accuracy") is not None]
    return f"accuracy {values[-1]:.3f}" if values else ""


def _row_words(rows: Sequence[Row]) -> str:
    """The last row's validation, and the training since the validation before it."""
    row, before = rows[-1], len(rows) - 1
    while before > 0 and rows[before - 1]["val_accuracy"] is None:
        before -= 1
    steps, losses, speeds = (
        [one[key] or 0.0 for one in rows] for key in ("step", "train_loss", "images_per_second")
    )
    counts = [after - earlier for earlier, after in pairwise([0.0, *steps])][
        before:
    ]  # rows are not all of one length
    loss = statistics.fmean(losses[before:], counts)
    speed = statistics.harmonic_mean(speeds[before:], counts)
    return (
        f"epoch {row['epoch']:6.1f}  loss {loss:.3f}  val loss {row['val_loss']:.3f}  val accuracy"
        f" {row['val_accuracy']:.3f}, averaged {row['val_accuracy_ema']:.3f}  {speed:.0f} img/s"
    )
