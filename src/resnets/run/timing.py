"""How many steps fit into a given time: everything that a run will do is done once beforehand,
timed and thrown away."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from resnets.data.loader import ImageCache, TrainingBatches
from resnets.modelfile import Model, write_model
from resnets.run import outcome
from resnets.torch_engine import TorchEngine
from resnets.training.checkpoint import pack
from resnets.training.loop import Hooks, Plan, Task, TrainingState, train_steps
from resnets.training.optimizers import Schedule

MARGIN = 0.05  # of the time that is left: machines are not perfectly even
TRIAL = 0.04  # of the time that is left may go into timing steps
WARM_UP = 2  # steps that are not counted


@dataclass(frozen=True)
class Costs:
    """Seconds that parts of a run take on this machine.

    Args:
        step: One training step.
        validation: One validation, of raw and averaged weights, and what is saved after it.
        end: Measuring, report, export and proof.
    """

    step: float
    validation: float
    end: float

    def __str__(self) -> str:
        return (
            f"a step takes {self.step:.2f} s, a validation {self.validation:.1f} s, the end"
            f" {self.end:.0f} s"
        )

    def total(self, steps: int, interval: int) -> float:
        """Seconds of a run of so many steps with a validation every `interval`."""
        return steps * self.step + -(-steps // interval) * self.validation + self.end

    def steps_within(self, seconds: float, interval: Callable[[int], int]) -> int:
        """The most steps that end in time; 0 if none do."""
        low, high = 0, int(seconds / self.step) + 1
        while high - low > 1:
            steps = (low + high) // 2
            low, high = (
                (steps, high)
                if self.total(steps, interval(steps)) <= seconds * (1 - MARGIN)
                else (low, steps)
            )
        return low


def measure_costs(
    state: TrainingState,
    batches: TrainingBatches,
    task: Task,
    model: Model,
    held_out: ImageCache,
    measured: ImageCache,
    seconds: float,
) -> Costs:
    """Tries a few steps on a copy of the run, one batch of a validation, what is saved, and the
    whole export.

    Args:
        state: Before its first step; a copy of it is trained.
        batches: Of the run.
        task: Of the run.
        model: The network as it will be measured and exported.
        held_out: Images of a validation.
        measured: Images of the final measurement.
        seconds: What is left of the time.
    """
    start = time.monotonic()
    trial = copy.deepcopy(state)
    marks: list[float] = []
    plan = Plan(Schedule(1e-6, 10_000, 0), 1, 10_000, 10_000)

    def enough() -> bool:
        return len(marks) > WARM_UP + 1 and time.monotonic() - start > TRIAL * seconds

    hooks = Hooks(
        lambda _: {}, lambda _: None, lambda *_: marks.append(time.perf_counter()), stopping=enough
    )
    device = next(state.net.parameters()).device
    train_steps(trial, islice(batches.from_step(0, device), 40), task, plan, hooks)
    step = statistics.median(
        after - before for before, after in zip(marks[WARM_UP - 1 :], marks[WARM_UP:], strict=False)
    )
    places, pixels = next(held_out.batches())
    engine = TorchEngine(model)
    engine.run(pixels)
    tick = time.perf_counter()
    engine.run(pixels)
    picture = (time.perf_counter() - tick) / len(places)
    tick = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome.export_outcome(model, Path(folder) / "trial.onnx", measured.samples)
        export = time.perf_counter() - tick
        tick = time.perf_counter()
        for tensors in (
            trial.net.state_dict(),
            pack(trial)[0],
        ):  # the best weights, and the checkpoint
            write_model(Path(folder) / "trial.safetensors", tensors, {})
        saving = time.perf_counter() - tick
    shown = min(len(measured), 1200) * 0.003  # thumbnails and maps of the report
    return Costs(
        step, 2 * picture * len(held_out) + saving, picture * len(measured) + shown + export + 2.0
    )
