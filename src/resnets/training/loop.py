"""The training loop. It knows steps, a task that turns a batch into a loss, and a list of
callbacks; nothing else.

A run's state is one value, `TrainingState`; written to a checkpoint and read back, the loop goes on
as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from resnets.training.optimizers import Average, Schedule


class StepBatch(Protocol):
    """What a step takes: images (N, C, H, W) and labels (N, ...)."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


Task = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
Row = dict[str, float | None]  # one line of results.csv


class Diverged(ValueError):
    """The loss, the weights or what the network says became NaN or infinite."""


def diverged(what: str, step: int, schedule: Schedule) -> Diverged:
    """The error, with the highest learning rate so far and the cure."""
    rate = schedule(min(step, schedule.warmup))
    return Diverged(
        f"{what} at step {step} with learning rate {rate:.3g}; try --lr {rate / 10:.2g}, a longer"
        " --warmup, or look for broken images with: resnets check"
    )


def unsound(net: nn.Module) -> str | None:
    """The first parameter or buffer that holds NaN or infinity. Infinity is a fault in statistics,
    but a custom in masks."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        finite = isinstance(tensor, nn.Parameter) or "running_" in name
        if tensor.is_floating_point() and bool(
            (~torch.isfinite(tensor) if finite else torch.isnan(tensor)).any()
        ):
            return name
    return None


@dataclass
class TrainingState:
    """All that a run is, at a step.

    Args:
        net: The network in training.
        optimizer: Its optimizer.
        average: The running average of its weights.
        step: Steps done.
        sums: Loss, hits and images since the last row of results.
        seconds: Time spent in training steps so far.
        rows: The results so far.
        best: What is known of the best weights so far: {"accuracy": ..., "weights": "raw" |
            "averaged", "step": ...}.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """When things happen, in steps.

    Args:
        schedule: The learning rate of each step; knows how many there are.
        steps_per_epoch: To speak of epochs.
        log_every: Steps between rows of results.
        validate_every: Steps between validations, a multiple of `log_every`'s rows; the last step
            always validates.
        checkpoint_seconds: At most this much work is lost in a crash.
        seed: Of the network's own randomness (dropout, stochastic depth), fixed anew at every step.
        train_norms: Whether BatchNorm uses and updates the statistics of the batch, or stays as
            loaded.
        autocast: Mixed precision: a dtype, or None for full precision.
    """

    schedule: Schedule
    steps_per_epoch: int
    log_every: int
    validate_every: int
    checkpoint_seconds: float = 60.0
    seed: int = 0
    train_norms: bool = True
    autocast: torch.dtype | None = None


@dataclass(frozen=True)
class Hooks:
    """What the loop calls: each may do nothing.

    Args:
        validate: Gives the validation columns of a row, and keeps the best weights.
        save: Writes a checkpoint.
        on_step: Told of every step (progress bar).
        on_row: Told of every row of results (user callbacks); a true result stops the run.
        stopping: Asked before every step; true ends the loop early (Ctrl-C).
    """

    validate: Callable[[TrainingState], Row]
    save: Callable[[TrainingState], None]
    on_step: Callable[[TrainingState, float], None] = lambda state, loss: None
    on_row: Callable[[Row], Any] = lambda row: None
    stopping: Callable[[], bool] = lambda: False


def train_steps(
    state: TrainingState, batches: Iterable[StepBatch], task: Task, plan: Plan, hooks: Hooks
) -> TrainingState:
    """Trains from `state.step` to the end of the schedule.

    Args:
        state: Where the run stands; changed in place.
        batches: From `state.step` on.
        task: Loss of a batch.
        plan: When things happen.
        hooks: What is called then.

    Raises:
        Diverged: The loss, a weight or a statistic is no longer a number.
    """
    saved = time.monotonic()
    if state.step == 0:
        hooks.save(state)
    # validation and saving do not count as training, waiting for images does
    mark = time.perf_counter()
    for batch in batches:
        if state.step >= plan.schedule.steps or hooks.stopping():
            break
        loss = _step(state, batch, task, plan)
        state.seconds += time.perf_counter() - mark
        hooks.on_step(state, loss)
        last = state.step == plan.schedule.steps
        validating = state.step % plan.validate_every == 0 or last
        stop = False
        if validating or state.step % plan.log_every == 0:
            row = _row(state, plan)
            if validating:
                check_weights(state, plan)
            row.update(
                hooks.validate(state)
                if validating
                else dict.fromkeys(("val_loss", "val_accuracy", "val_accuracy_ema"))
            )
            state.rows.append(row)
            stop = bool(hooks.on_row(row))
        if validating or stop or time.monotonic() - saved > plan.checkpoint_seconds:
            _save(state, plan, hooks)
            saved = time.monotonic()
        if stop:
            break
        mark = time.perf_counter()
    _save(state, plan, hooks)
    return state


def _save(state: TrainingState, plan: Plan, hooks: Hooks) -> None:
    """A checkpoint, unless it would take the place of a good one with numbers that are none."""
    check_weights(state, plan)
    hooks.save(state)


def check_weights(state: TrainingState, plan: Plan) -> None:
    """Holds the weights, the statistics and their averages against NaN and infinity.

    Raises:
        Diverged: One of them is not finite.
    """
    for net in (state.net, state.average.net):
        if name := unsound(net):
            raise diverged(f"{name} became infinite or NaN", state.step, plan.schedule)


def _step(state: TrainingState, batch: StepBatch, task: Task, plan: Plan) -> float:
    torch.manual_seed((plan.seed * 1_000_003 + state.step) % 2**63)
    set_training(state.net, plan.train_norms)
    rate = plan.schedule(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(
        batch.images.device.type, dtype=plan.autocast, enabled=plan.autocast is not None
    ):
        out = task(state.net, batch.images, batch.labels)
    loss = out["loss"].item()
    if not math.isfinite(loss):
        raise diverged(f"the loss became {loss}", state.step, plan.schedule)
    state.optimizer.zero_grad(set_to_none=True)
    out["loss"].backward()
    state.optimizer.step()
    state.average.update(state.net)
    state.step += 1
    count = len(batch.labels)
    state.sums = [
        total + new
        for total, new in zip(
            state.sums, (loss * count, float(out.get("correct", 0)), count), strict=True
        )
    ]
    return loss


def _row(state: TrainingState, plan: Plan) -> Row:
    """The training columns of a row, over the steps since the last one."""
    loss, correct, count = state.sums
    before = state.rows[-1]["seconds"] if state.rows else 0.0
    state.sums = [0.0, 0.0, 0.0]
    return {
        "step": state.step,
        "epoch": round(state.step / plan.steps_per_epoch, 4),
        "seconds": round(state.seconds, 3),
        "learning_rate": plan.schedule(state.step - 1),
        "train_loss": loss / count,
        "train_accuracy": correct / count,
        "images_per_second": round(count / max(1e-9, state.seconds - (before or 0.0)), 1),
    }


def set_training(net: nn.Module, train_norms: bool) -> None:
    """Training mode; norms that keep statistics stay in eval mode where they are not to be
    trained."""
    net.train()
    if not train_norms:
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
