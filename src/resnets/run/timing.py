"""How many steps a run takes: from the epochs, or from a given time, for which everything that a
run will do is done once beforehand, timed and thrown away."""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from torch import nn

from resnets.data.loader import PreparedImages
from resnets.evaluation.curves import plot_curves
from resnets.modelfile import Model, write_model
from resnets.run import outcome
from resnets.run.reporting import Account, write_outcome_report
from resnets.run.spec import Spec
from resnets.run.validation import measure_quickly
from resnets.run.work import Images, make_plan, make_state, validation_interval
from resnets.screen import Screen
from resnets.torch_engine import TorchEngine
from resnets.training.checkpoint import pack
from resnets.training.loop import Hooks, Row, TrainingState, train_steps
from resnets.training.plan import Phase, split_steps

MARGIN = 0.05  # of the time that is left: machines are not perfectly even
TRIAL = 0.04  # of the time that is left may go into timing steps
WARM_UP = 2  # steps that are not counted
FEW = 64  # images that measuring and the report are timed on
CASES = 1200  # images that a report shows at most (`choose_cases`)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Costs:
    """Seconds that parts of a run take on this machine.

    Args:
        phases: Of the run.
        steps: One training step of each phase.
        validation: One validation, of raw and averaged weights, and what is saved after it.
        end: Measuring, report, export and proof.
    """

    phases: tuple[Phase, ...]
    steps: tuple[float, ...]
    validation: float
    end: float

    def __str__(self) -> str:
        steps = ", then ".join(f"{step:.2f} s" for step in self.steps)
        return (
            f"a step takes {steps}, a validation {self.validation:.1f} s, the end {self.end:.0f} s"
        )

    def total(self, steps: int, interval: int) -> float:
        """Seconds of a run of so many steps with a validation every `interval`."""
        counts = split_steps(self.phases, steps)
        training = sum(count * step for count, step in zip(counts, self.steps, strict=True))
        return training + -(-steps // interval) * self.validation + self.end

    def steps_within(self, seconds: float, interval: Callable[[int], int]) -> int:
        """The most steps that end in time; 0 if none do."""
        low, high = 0, int(seconds / min(self.steps)) + 1
        while high - low > 1:
            steps = (low + high) // 2
            low, high = (
                (steps, high)
                if self.total(steps, interval(steps)) <= seconds * (1 - MARGIN)
                else (low, steps)
            )
        return low


def decide_steps(
    spec: Spec, net: nn.Module, images: Images, screen: Screen, started: float
) -> Spec:
    """Fixes the number of steps, once: from the epochs, or from the time that is left.

    Raises:
        ValueError: The time does not suffice for one step.
    """
    settings, per_epoch = spec.settings, images.batches.steps_per_epoch
    if settings.minutes is None:
        assert settings.epochs is not None
        return replace(spec, steps=max(1, round(settings.epochs * per_epoch)))

    def left() -> float:
        assert settings.minutes is not None
        return max(0.0, settings.minutes * 60 - (time.monotonic() - started))

    with screen.progress("timing a few steps, a validation and the end", 1):
        costs = measure_costs(spec, net, images, left())
    seconds = left()
    steps = costs.steps_within(seconds, lambda steps: validation_interval(steps, per_epoch))
    if steps < 1:
        raise ValueError(
            f"{settings.minutes:g} minutes are too short: {costs}, and {seconds:.0f} s are left;"
            " give more, or --epochs"
        )
    screen.say(
        f"{steps:,} steps ({steps / per_epoch:.1f} epochs) fit into {settings.minutes:g} minutes:"
        f" {costs}"
    )
    return replace(spec, steps=steps)


def measure_costs(spec: Spec, net: nn.Module, images: Images, seconds: float) -> Costs:
    """Tries a few steps of each phase on a copy of the network, one batch of a validation, what is
    saved, and the end on a few images.

    Args:
        spec: Of the run.
        net: Before its first step.
        images: Of the run.
        seconds: What is left of the time.
    """
    budget = TRIAL * seconds / len(spec.phases)
    trials = [_try_steps(spec, phase, net, images, budget) for phase in spec.phases]
    state = trials[-1][0]
    model = spec.make_model(net)
    few = _some(images.measured, FEW)
    engine = TorchEngine(model)
    measure_quickly(engine, few)
    quick, _ = _timed(measure_quickly, engine, few)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # the best weights, and the checkpoint
        written, file = (state.net.state_dict(), pack(state)[0]), folder / "trial.safetensors"
        saving = sum(_timed(write_model, file, tensors, {})[0] for tensors in written)
        end = _time_end(model, images.measured, few, folder)
    validation = 2 * quick / len(few) * len(images.held_out) + saving
    return Costs(spec.phases, tuple(step for _, step in trials), validation, end)


def _time_end(model: Model, images: PreparedImages, few: PreparedImages, folder: Path) -> float:
    """Seconds of measuring, report and export, from a few images."""
    export, _ = _timed(outcome.export_outcome, model, folder / "trial.onnx", images.samples)
    measuring, _ = _timed(outcome.measure_model, model, few)
    one = _some(images, 1)
    _report(model, one, folder)  # once for what is imported and found only the first time
    least, _ = _timed(_report, model, one, folder)
    more, _ = _timed(_report, model, few, folder)
    case = max(0.0, more - least) / max(1, len(few) - 1)
    return measuring / len(few) * len(images) + least + case * min(len(images), CASES) + export


def _report(model: Model, images: PreparedImages, folder: Path) -> None:
    measured = outcome.measure_model(model, images)
    row: Row = {"epoch": 1.0, "train_loss": 1.0, "val_loss": 1.0}
    plot_curves([row] * 100, folder / "trial.png")
    report = folder / "trial.html"
    account = Account("", "", (), rows=(row,) * 100)
    write_outcome_report(report, model, measured, images, account)


def _some(images: PreparedImages, count: int) -> PreparedImages:
    """Some of the images, spread over all of them, in memory."""
    places = np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    chosen = [images.samples[place] for place in places]
    some = PreparedImages(chosen, images.preprocessing, math.inf, sampling=images.sampling)
    for _ in some.fill():
        pass
    return some


def _timed(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> tuple[float, R]:
    tick = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - tick, result


def _try_steps(
    spec: Spec, phase: Phase, net: nn.Module, images: Images, seconds: float
) -> tuple[TrainingState, float]:
    """A trial of one phase with hardly any learning rate: its end, and the seconds of a step."""
    start, marks = time.monotonic(), list[float]()
    device, per_epoch = next(net.parameters()).device, images.batches.steps_per_epoch
    settings = replace(spec.settings, lr=1e-6, warmup=0.0)
    trial = replace(spec, settings=settings, phases=(phase,), steps=10_000)
    plan = replace(make_plan(trial, per_epoch, device), log_every=10_000, validate_every=10_000)
    task = spec.make_task()
    state = make_state(copy.deepcopy(net), task, plan, settings.average)

    def enough() -> bool:
        return len(marks) > WARM_UP + 1 and time.monotonic() - start > seconds

    def on_step(state: TrainingState, loss: float) -> None:
        marks.append(time.perf_counter())

    hooks = Hooks(lambda _: {}, lambda _: None, on_step, stopping=enough)
    batches = islice(images.batches.from_step(0, device, phase.size), 40)
    train_steps(state, batches, task, plan, hooks)
    between = zip(marks[WARM_UP - 1 :], marks[WARM_UP:], strict=False)
    return state, statistics.median(after - before for before, after in between)
