"""How many steps a run takes: from the epochs, or from a given time, for which everything that a
run will do is done once beforehand, timed and thrown away."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

from torch import nn

from resnets.data.batches import Batch
from resnets.data.loader import PreparedImages
from resnets.evaluation import EVALUATORS
from resnets.evaluation.curves import plot_curves
from resnets.modelfile import Model, write_model
from resnets.run import outcome
from resnets.run.familiarity import time_fit
from resnets.run.featured import time_seeing
from resnets.run.norms import measure_norms
from resnets.run.reporting import Account, write_outcome_report
from resnets.run.spec import Spec
from resnets.run.suspects import time_search
from resnets.run.validation import measure_quickly
from resnets.run.work import (
    Images,
    Job,
    autocast_of,
    make_plan,
    make_state,
    validation_interval,
)
from resnets.torch_engine import TorchEngine
from resnets.training.checkpoint import pack
from resnets.training.loop import Hooks, Row, TrainingState, train_steps
from resnets.training.plan import Phase, split_steps

VALIDATING = 0.15  # of the time of training may go into validations
MARGIN = 0.05  # of the time that is left: machines are not perfectly even
TRIAL = 0.04  # of the time that is left may go into timing steps
WARM_UP = 2  # steps that are not counted
END, EXIT = 1.15, 1.5  # the end may take so many times as long, and so many seconds more
FEW = 32  # images that measuring and the report are timed on
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

    def training(self, steps: int) -> float:
        """Seconds of so many steps."""
        counts = split_steps(self.phases, steps)
        return sum(count * step for count, step in zip(counts, self.steps, strict=True))

    def total(self, steps: int, interval: int) -> float:
        """Seconds of a run of so many steps with a validation every `interval`."""
        return self.training(steps) + -(-steps // interval) * self.validation + self.end

    def interval(self, steps: int, per_epoch: int) -> int:
        """Steps between validations, which are to take at most `VALIDATING` of the time: whole
        epochs, and one at the end in any case."""
        most = max(1, int(VALIDATING * self.training(steps) / self.validation))
        return max(
            validation_interval(steps, per_epoch), -(-steps // (most * per_epoch)) * per_epoch
        )

    def steps_within(self, seconds: float, per_epoch: int) -> tuple[int, int]:
        """The most steps that end in time, 0 if none do, and the steps between validations."""
        low, high = 0, int(seconds / min(self.steps)) + 1
        while high - low > 1:
            steps = (low + high) // 2
            total = self.total(steps, self.interval(steps, per_epoch))
            fits = total <= seconds * (1 - MARGIN)
            low, high = (steps, high) if fits else (low, steps)
        return low, self.interval(low, per_epoch)


def time_costs(job: Job, exporting: float | None = None) -> Costs | None:
    """What all layers cost, and the end; None where there is no time limit.

    Args:
        job: Before its first step.
        exporting: Seconds that export and proof took, if that is known.
    """
    if job.deadline is None:
        return None
    with job.screen.progress("timing a few steps, a validation and the end", 1):
        left = max(0.0, job.deadline - time.monotonic())
        return measure_costs(job.spec, job.net, job.images, left, exporting)


def decide_steps(job: Job, costs: Costs | None) -> Spec:
    """Fixes the number of steps, once: from the epochs, or from the time that is left. There may be
    none where a probe has made a model already.

    Args:
        job: Before its first step.
        costs: `time_costs`.

    Raises:
        ValueError: The time does not suffice for one step, and there is no model yet.
    """
    spec, screen, per_epoch = job.spec, job.screen, job.images.batches.steps_per_epoch
    settings = spec.settings
    if costs is None or job.deadline is None:
        assert settings.epochs is not None
        steps = max(1, round(settings.epochs * per_epoch)) if settings.epochs else 0
        return replace(spec, steps=steps, interval=validation_interval(steps, per_epoch))
    seconds = max(0.0, job.deadline - time.monotonic())
    steps, interval = costs.steps_within(seconds, per_epoch)
    if steps < 1 and spec.probe:
        screen.say(f"no time for more: {costs}, and {seconds:.0f} s are left")
        return spec
    if steps < 1:
        raise ValueError(
            f"no step fits into {settings.minutes:g} min: {costs}, and {seconds:.0f} s are left;"
            " give more, or --epochs"
        )
    screen.say(
        f"{steps:,} steps ({steps / per_epoch:.1f} epochs) fit into {settings.minutes:g} min:"
        f" {costs}"
    )
    return replace(spec, steps=steps, interval=interval)


def measure_costs(
    spec: Spec, net: nn.Module, images: Images, seconds: float, exporting: float | None = None
) -> Costs:
    """Tries a few steps of each phase on a copy of the network, one batch of a validation, what is
    saved, and the end on a few images.

    Args:
        spec: Of the run.
        net: Before its first step.
        images: Of the run.
        seconds: What is left of the time.
        exporting: Seconds of export and proof; measured if they are not known.
    """
    budget = TRIAL * seconds / len(spec.phases)
    device, batches = next(net.parameters()).device, images.batches
    per_epoch, most = batches.steps_per_epoch, 40 * spec.settings.accumulate
    trials = [
        try_steps(
            *(spec, phase, net, islice(batches.from_step(0, device, phase.size), most)),
            *(per_epoch, budget),
        )
        for phase in spec.phases
    ]
    state = trials[-1][0]
    model = spec.make_model(net)
    few = images.measured.spread(FEW)
    engine = TorchEngine(model, autocast_of(spec.settings, device))
    measure_quickly(engine, few)
    quick, _ = _timed(measure_quickly, engine, few)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # the best weights, and the checkpoint
        written, file = (state.net.state_dict(), pack(state)[0]), folder / "trial.safetensors"
        saving = sum(_timed(write_model, file, tensors, {})[0] for tensors in written)
        end = _time_end(model, images.measured, few, folder, exporting)
    end += _time_second_look(spec, model, few, len(images.samples))
    end = END * end + EXIT
    if spec.settings.norms == "measured":
        anew, _ = _timed(measure_norms, spec, state.net, few)
        quick += anew
    validation = 2 * quick / len(few) * len(images.held_out) + saving
    return Costs(spec.phases, tuple(step for _, step in trials), validation, end)


def _time_second_look(spec: Spec, model: Model, few: PreparedImages, count: int) -> float:
    """Seconds of what features of all images are computed for, and of themselves."""
    seeing, some = time_seeing(spec, model, few, count)
    if some is None:
        return 0.0
    return seeing + time_search(model, some, count) + time_fit(model, some)


def _time_end(
    model: Model,
    images: PreparedImages,
    few: PreparedImages,
    folder: Path,
    exporting: float | None,
) -> float:
    """Seconds of measuring, report and export, from a few images."""
    if exporting is None:
        file = folder / "trial.onnx"
        exporting, _ = _timed(outcome.export_outcome, model, file, images.samples)
    measuring, measured = _timed(outcome.measure_model, model, few)
    one = images.spread(1)
    single = outcome.measure_model(model, one)
    _report(model, single, one, folder)  # once for what is imported and found only the first time
    least, _ = _timed(_report, model, single, one, folder)
    more, _ = _timed(_report, model, measured, few, folder)
    evidence, worst = measured.evidence, EVALUATORS[model.task.kind.name].worst
    case = max(0.0, more - least) / max(1, len(worst(evidence)) - 1)
    # as many images as there are, of which as many are wrong as of these
    cases = len(worst((evidence * -(-len(images) // len(few)))[: len(images)]))
    return measuring / len(few) * len(images) + least + case * cases + exporting


def _report(model: Model, measured: outcome.Measured, images: PreparedImages, folder: Path) -> None:
    row: Row = {"epoch": 1.0, "train_loss": 1.0, "val_loss": 1.0}
    plot_curves([row] * 100, folder / "trial.png")
    report = folder / "trial.html"
    account = Account("", "", (), rows=(row,) * 100)
    write_outcome_report(report, model, measured, images, account)


def _timed(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> tuple[float, R]:
    tick = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - tick, result


def try_steps(
    spec: Spec,
    phase: Phase,
    net: nn.Module,
    batches: Iterator[Batch],
    per_epoch: int,
    seconds: float,
) -> tuple[TrainingState, float]:
    """A trial of one phase with hardly any learning rate, on a copy of a network: its end, and the
    seconds of a step."""
    start, marks = time.monotonic(), list[float]()
    device = next(net.parameters()).device
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
    train_steps(state, batches, task, plan, hooks)
    between = zip(marks[WARM_UP - 1 :], marks[WARM_UP:], strict=False)
    return state, statistics.median(after - before for before, after in between)
