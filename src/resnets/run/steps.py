"""The steps of a run, with validation, checkpoints and what ends it early."""

from __future__ import annotations

import signal
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from resnets.evaluation import EVALUATORS
from resnets.modelfile import Model, write_model
from resnets.run import outcome
from resnets.run.rehearsal import memory_explained
from resnets.run.work import Job, make_state, validation_interval
from resnets.tasks.classification import Classification
from resnets.torch_engine import TorchEngine
from resnets.training.checkpoint import pack, unpack
from resnets.training.loop import (
    Diverged,
    Hooks,
    Plan,
    Row,
    TrainingState,
    check_weights,
    diverged,
    train_steps,
)
from resnets.training.optimizers import Schedule

ROWS_AN_EPOCH = 5  # lines of results.csv
# results.csv is written whole: beyond so many every second time, then every third, so cost stays in
# proportion
MANY_ROWS = 200


def carry_out(
    job: Job, tensors: dict[str, Tensor] | None = None, checkpoint: Any = None
) -> TrainingState:
    """Trains, from a checkpoint if one is given; keeps the best weights and the last state.

    A run that diverges after a good validation ends there, with `job.diverged` set.

    Raises:
        Diverged: No weights are good; what a new run wrote until then is gone again.
        ValueError: The memory does not suffice.
    """
    spec, settings = job.spec, job.spec.settings
    state = make_state(job.net, settings, spec.steps)
    if tensors is not None:
        _restore(job, state, tensors, checkpoint)
        job.screen.say(f"resuming {job.folder.path} at step {state.step:,} of {spec.steps:,}")
    plan = _plan(job)
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
        job.diverged = str(error)
        job.screen.warn(f"diverged: {error}")
    return state


def _restore(job: Job, state: TrainingState, tensors: dict[str, Tensor], checkpoint: Any) -> None:
    cure = "restore the file as the run wrote it, or train anew"
    try:
        unpack(state, tensors, checkpoint)
    except ValueError as error:
        raise ValueError(f"{job.folder.last}: {error}; {cure}") from None
    if state.best and not job.folder.best.is_file():
        raise ValueError(f"{job.folder.best}: the best weights so far are missing; {cure}")


def _plan(job: Job) -> Plan:
    spec, settings, per_epoch = job.spec, job.spec.settings, job.batches.steps_per_epoch
    assert settings.lr is not None
    return Plan(
        Schedule(settings.lr, spec.steps, round(settings.warmup * spec.steps)),
        per_epoch,
        max(1, per_epoch // ROWS_AN_EPOCH),
        validation_interval(spec.steps, per_epoch),
        seed=settings.seed,
        train_norms=settings.norms == "train",
        autocast=torch.bfloat16 if job.device.type == "cuda" else None,
    )


def _train(job: Job, state: TrainingState, plan: Plan) -> None:
    task = Classification(job.spec.settings.smoothing or 0.0)
    with _interruptible() as stopping, job.screen.progress("training", job.spec.steps) as bar:

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
            lambda state: _validate(job, state, plan),
            lambda state: _save(job, state),
            on_step,
            on_row,
            stopping,
        )
        train_steps(state, job.batches.from_step(state.step, job.device), task, plan, hooks)


def _stop_early(job: Job, state: TrainingState, plan: Plan) -> None:
    job.stopped = True
    job.screen.warn(
        f"stopped at step {state.step:,} of {job.spec.steps:,}, saved; go on with: resnets train"
        f" --resume {job.folder.path}"
    )
    if not state.best:
        check_weights(state, plan)
        _validate(job, state, plan)


def _validate(job: Job, state: TrainingState, plan: Plan) -> Row:
    """Measures raw and averaged weights; the better, if it is the best so far, becomes
    best.safetensors.

    Raises:
        Diverged: What they say is not finite: nothing to compare, and nothing to keep.
    """
    evaluator = EVALUATORS["classes"]
    row: Row = {}
    for weights, net, suffix in (("raw", state.net, ""), ("averaged", state.average.net, "_ema")):
        spec = job.spec
        engine = TorchEngine(Model(net, spec.classes, spec.preprocessing, spec.network))
        try:
            evidence = [evaluator.compare(*pair) for pair in outcome.judged(engine, job.held_out)]
        except outcome.NotFinite as error:
            raise diverged(f"in validation {error}", state.step, plan.schedule) from None
        accuracy, loss = evaluator.quick(evidence)
        assert loss is not None
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
    # rows are not all of one length
    counts = [after - earlier for earlier, after in pairwise([0.0, *steps])][before:]
    loss = statistics.fmean(losses[before:], counts)
    speed = statistics.harmonic_mean(speeds[before:], counts)
    return (
        f"epoch {row['epoch']:6.1f}  loss {loss:.3f}, val {row['val_loss']:.3f}  accuracy"
        f" {row['val_accuracy']:.3f}, averaged {row['val_accuracy_ema']:.3f}  {speed:.0f} img/s"
    )
