"""The steps of a run, with validation, checkpoints and what ends it early."""

from __future__ import annotations

import signal
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from types import FrameType
from typing import Any

from torch import Tensor

from resnets.data.batches import Batch
from resnets.evaluation.metrics import title
from resnets.modelfile import write_model
from resnets.run.rehearsal import memory_explained
from resnets.run.validation import Validation, columns_of_validation, main_number
from resnets.run.work import Job, make_plan, make_state
from resnets.training.checkpoint import pack, steps_done, unpack
from resnets.training.loop import Diverged, Hooks, Row, TrainingState, check_weights, train_steps
from resnets.training.plan import Plan

# results.csv is written whole: beyond so many every second time, then every third, so cost stays in
# proportion
MANY_ROWS = 200


@dataclass(frozen=True)
class Trained:
    """What came of the steps of a run.

    Args:
        state: Where it ended.
        stopped: Whether that is before its last step.
        diverged: What became NaN or infinite, after a good validation.
    """

    state: TrainingState
    stopped: bool = False
    diverged: str = ""


def carry_out(
    job: Job, tensors: dict[str, Tensor] | None = None, checkpoint: Any = None
) -> Trained:
    """Trains, from a checkpoint if one is given; keeps the best weights and the last state.

    A run that diverges after a good validation ends there.

    Raises:
        Diverged: No weights are good; what a new run wrote until then is gone again.
        ValueError: The memory does not suffice.
    """
    spec, settings = job.spec, job.spec.settings
    plan = make_plan(spec, job.images.batches.steps_per_epoch, job.device)
    if tensors is None:
        state = make_state(job.net, job.task, plan, settings.average)
    else:
        state = _restore(job, plan, tensors, checkpoint)
        job.screen.say(f"resuming {job.folder.path} at step {state.step:,} of {spec.steps:,}")
    try:
        with memory_explained(settings):
            _train(job, state, plan)
            if state.step < spec.steps:
                _stop_early(job, state, plan)
    except Diverged as error:
        if not state.best:
            if tensors is None:
                job.folder.discard()
            raise
        job.screen.warn(f"diverged: {error}")
        return Trained(state, diverged=str(error))
    return Trained(state, stopped=state.step < spec.steps)


def _restore(job: Job, plan: Plan, tensors: dict[str, Tensor], checkpoint: Any) -> TrainingState:
    cure, main = "restore the file as the run wrote it, or train anew", main_number(job.task)
    try:
        step = steps_done(checkpoint, main)
        state = make_state(job.net, job.task, plan, job.spec.settings.average, step)
        unpack(state, tensors, checkpoint, main)
    except ValueError as error:
        raise ValueError(f"{job.folder.last}: {error}; {cure}") from None
    if state.best and not job.folder.best.is_file():
        raise ValueError(f"{job.folder.best}: the best weights so far are missing; {cure}")
    return state


def _train(job: Job, state: TrainingState, plan: Plan) -> None:
    main, validation = main_number(job.task), Validation(job, state)
    with _interruptible() as stopping, job.screen.progress("training", plan.steps) as bar:

        def on_step(state: TrainingState, loss: float) -> None:
            rate = state.step * job.images.batches.batch_size / max(1e-9, state.seconds)
            bar.update(state.step, f"loss {loss:.3f}  {rate:.0f} img/s  {_last(state.rows, main)}")

        def on_row(row: Row) -> bool:
            validated = row[f"val_{main}"] is not None
            if validated or len(state.rows) % (1 + len(state.rows) // MANY_ROWS) == 0:
                job.folder.write_results(state.rows)
            if validated:
                job.screen.say(_row_text(state.rows, main))
            stops = [callback(row) for callback in job.callbacks]  # all of them are told
            return any(stops)

        hooks = Hooks(
            lambda state: validation(plan),
            lambda state: _save(job, state),
            on_step,
            on_row,
            stopping,
            columns_of_validation(job.task),
        )
        train_steps(state, _batches(job, plan, state.step), job.task, plan, hooks)


def _batches(job: Job, plan: Plan, first: int) -> Iterator[Batch]:
    """Batches from a step on, each in the size of its phase."""
    for phase in plan.phases:
        start = max(first, phase.start)
        if start < phase.end:
            batches = job.images.batches.from_step(start, job.device, phase.phase.size)
            yield from islice(batches, phase.end - start)


def _stop_early(job: Job, state: TrainingState, plan: Plan) -> None:
    job.screen.warn(
        f"stopped at step {state.step:,} of {plan.steps:,}, saved; go on with: resnets train"
        f" --resume {job.folder.path}"
    )
    if not state.best:
        check_weights(state, plan)
        Validation(job, state)(plan)


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


def _last(rows: Sequence[Row], main: str) -> str:
    found = (row.get(f"val_{main}") for row in reversed(rows))
    value = next((value for value in found if value is not None), None)
    return "" if value is None else f"{title(main)} {value:.3f}"


def _row_text(rows: Sequence[Row], main: str) -> str:
    """The last row's validation, and the training since the validation before it."""
    row, before = rows[-1], len(rows) - 1
    while before > 0 and rows[before - 1][f"val_{main}"] is None:
        before -= 1
    steps, losses, speeds = (
        [one[key] or 0.0 for one in rows] for key in ("step", "train_loss", "images_per_second")
    )
    # rows are not all of one length
    counts = [after - earlier for earlier, after in pairwise([0.0, *steps])][before:]
    loss = statistics.fmean(losses[before:], counts)
    speed = statistics.harmonic_mean(speeds[before:], counts)
    validation = "" if row["val_loss"] is None else f", val {row['val_loss']:.3f}"
    reached = f"{title(main)} {row[f'val_{main}']:.3f}, averaged {row[f'val_{main}_ema']:.3f}"
    return f"epoch {row['epoch']:6.1f}  loss {loss:.3f}{validation}  {reached}  {speed:.0f} img/s"
