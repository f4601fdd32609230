"""The steps of a run, with validation, checkpoints and what ends it early."""

from __future__ import annotations

import signal
import statistics
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import FrameType
from typing import Any

from torch import Tensor

from resnets.data.batches import Batch
from resnets.evaluation.metrics import title
from resnets.modelfile import write_model
from resnets.run.pacing import Pacing
from resnets.run.probe import soften
from resnets.run.rehearsal import memory_explained
from resnets.run.validation import Validation, collapsed, columns_of_validation, main_number
from resnets.run.work import Job, make_plan, make_state
from resnets.training.checkpoint import pack, position, unpack
from resnets.training.loop import (
    Diverged,
    Hooks,
    Reached,
    Row,
    TrainingState,
    check_weights,
    keep,
    train_steps,
)
from resnets.training.plan import Plan
from resnets.training.probe import Featured

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
        enough: Why it ended before its last step and is finished all the same.
        features: Of the images, by part of the data, where the last weights are those of a probe.
    """

    state: Reached
    stopped: bool = False
    diverged: str = ""
    enough: str = ""
    features: Mapping[str, Featured] = field(default_factory=dict)


def carry_out(job: Job, reached: Reached, pacing: Pacing | None = None) -> Trained:
    """Trains; keeps the best weights and the last state. A run that diverges after a good
    validation ends there.

    Args:
        job: The run.
        reached: What came before the first step.
        pacing: What keeps it in its time, if it has a limit.

    Raises:
        Diverged: No weights are good; what the run wrote until then is gone again.
        ValueError: The memory does not suffice.
    """
    plan = make_plan(job.spec, job.images.batches.steps_per_epoch, job.device)
    if job.spec.probe:
        soften(job.task.head(job.net))
    state = make_state(job.net, job.task, plan, job.spec.settings.average)
    state.rows, state.best = list(reached.rows), dict(reached.best)
    try:
        return _carry_out(job, state, plan, pacing)
    except Diverged:
        job.folder.discard()
        raise


def go_on(job: Job, tensors: dict[str, Tensor], checkpoint: Any) -> Trained:
    """The same, from a checkpoint; its plan stays as it is, whatever the time.

    Args:
        job: The run.
        tensors: Of the checkpoint.
        checkpoint: What else it holds.
    """
    plan = make_plan(job.spec, job.images.batches.steps_per_epoch, job.device)
    cure, main = "restore the file as the run wrote it, or train anew", main_number(job.task)
    try:
        step, bends = position(checkpoint, main)
        plan = replace(plan, bends=bends)
        state = make_state(job.net, job.task, plan, job.spec.settings.average, step)
        unpack(state, tensors, checkpoint, main)
        plan = replace(plan, slowed=state.slowed)
    except ValueError as error:
        raise ValueError(f"{job.folder.last}: {error}; {cure}") from None
    if state.best and not job.folder.best.is_file():
        raise ValueError(f"{job.folder.best}: the best weights so far are missing; {cure}")
    job.screen.say(f"resuming {job.folder.path} at step {state.step:,} of {plan.steps:,}")
    return _carry_out(job, state, plan, None)


def _carry_out(job: Job, state: TrainingState, plan: Plan, pacing: Pacing | None) -> Trained:
    try:
        with memory_explained(job.spec.settings):
            _train(job, state, plan, pacing)
            plan = replace(plan, bends=state.bends)
            early = state.step < plan.steps
            enough = no_better(state.rows, job.spec.settings.patience, main_number(job.task))
            if early and enough:
                job.screen.say(f"ended at step {state.step:,} of {plan.steps:,}: {enough}")
            elif early:
                _stop_early(job, state, plan)
    except Diverged as error:
        if not state.best:
            raise
        job.screen.warn(f"diverged: {error}")
        return Trained(state, diverged=str(error))
    return Trained(state, stopped=early and not enough, enough=enough if early else "")


def no_better(rows: Sequence[Row], patience: int | None, main: str) -> str:
    """Why a run is to end after its last validation; empty where it is to go on.

    Args:
        rows: Of results.csv.
        patience: Validations without a higher main number that it is given; None: all.
        main: Name of that number.
    """
    if patience is None or not rows or rows[-1][f"val_{main}"] is None:
        return ""
    pairs = [(row["step"], row[f"val_{main}"], row.get(f"val_{main}_ema")) for row in rows]
    reached = [(max(raw, mean or raw), step) for step, raw, mean in pairs if raw is not None]
    highest = max(value for value, _ in reached)
    place = next(place for place, (value, _) in enumerate(reached) if value == highest)
    if len(reached) - 1 - place < patience:
        return ""
    return (
        f"no better validation in the last {patience}, since step {reached[place][1]:,} (patience)"
    )


def _train(job: Job, state: TrainingState, plan: Plan, pacing: Pacing | None) -> None:
    main, validation = main_number(job.task), Validation(job, state)
    with interruptible() as stopping, job.screen.progress("training", plan.steps) as bar:

        def on_step(state: TrainingState, loss: float) -> None:
            rate = state.step * job.images.batches.step_size / max(1e-9, state.seconds)
            bar.update(state.step, f"loss {loss:.3f}  {rate:.0f} img/s  {_last(state.rows, main)}")

        def on_row(row: Row) -> bool:
            validated = row[f"val_{main}"] is not None
            if validated or len(state.rows) % (1 + len(state.rows) // MANY_ROWS) == 0:
                job.folder.write_results(state.rows)
            if validated:
                job.screen.say(_row_text(state.rows, main))
            if not state.slowed and state.step < plan.steps and collapsed(job, state.rows):
                state.slowed = state.step
                job.screen.warn(
                    f"nothing learnt so far: the {title(main)} stays at what the most frequent"
                    " answer gives; from here on the learning rate is a tenth"
                )
            stops = [callback(row) for callback in job.callbacks]  # all of them are told
            return any(stops)

        patience = job.spec.settings.patience

        def replan(state: TrainingState, plan: Plan) -> Plan:
            plan = (pacing or keep)(state, plan)
            same = plan.slowed == state.slowed
            return plan if same else replace(plan, slowed=state.slowed)

        def ending() -> bool:
            here = bool(state.rows) and state.rows[-1]["step"] == state.step
            return stopping() or (here and bool(no_better(state.rows, patience, main)))

        hooks = Hooks(
            lambda state: validation(plan),
            lambda state: _save(job, state),
            on_step,
            on_row,
            ending,
            replan,
            columns_of_validation(job.task),
        )
        batches = _batches(job, state, plan)
        train_steps(state, batches, job.task, plan, hooks)


def _batches(job: Job, state: TrainingState, plan: Plan) -> Iterator[Batch]:
    """Batches from the step of a state on, each in the size of its phase; the state is looked at
    anew before each, since its plan may be bent."""
    while True:
        size = replace(plan, bends=state.bends).phase(state.step).phase.size
        for batch in job.images.batches.from_step(state.step, job.device, size):
            yield batch
            if replace(plan, bends=state.bends).phase(state.step).phase.size != size:
                break


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
    if state.step == 0 and not job.spec.probe:  # before a probe, that was done
        job.folder.forget()


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
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
