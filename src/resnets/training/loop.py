"""The training loop. It knows steps, a task that turns the output for a batch into a loss, and a
list of callbacks; nothing else.

A run's state is one value, `TrainingState`; written to a checkpoint and read back, the loop goes on
as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from resnets.training.device import autocasting, make_scaler
from resnets.training.means import frozen_modules
from resnets.training.optimizers import Average
from resnets.training.plan import Plan, PlannedPhase

Row = dict[str, float | None]  # one line of results.csv


class StepBatch(Protocol):
    """What a step takes: images (N, C, H, W), what a loss needs to know of them, and N."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> dict[str, Tensor]: ...
    @property
    def count(self) -> int: ...


class Task(Protocol):
    """What the loop asks of a task; `tasks.task.Task` says what each is."""

    def backbone(self, net: nn.Module) -> nn.Module: ...
    def head(self, net: nn.Module) -> nn.Module: ...
    def loss(self, raw: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]: ...


class Diverged(ValueError):
    """The loss, the weights or what the network says became NaN or infinite."""


def diverged(what: str, step: int, plan: Plan) -> Diverged:
    """The error, with the highest learning rate of the phase so far and the cure."""
    now = plan.phase(step)
    rate = now.schedule(min(step - now.start, now.schedule.warmup))
    return Diverged(
        f"{what} at step {step} with learning rate {rate:.3g}; try --lr"
        f" {rate / now.phase.lr / 10:.2g}, a longer --warmup, or look for broken images with:"
        " resnets check"
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


@dataclass(kw_only=True)
class Reached:
    """How far a run has come.

    Args:
        step: Steps done.
        seconds: Time spent in training steps so far.
        rows: The results so far.
        best: What is known of the best weights so far: the main number by its name, `loss` or None,
            `weights` (probe, raw or averaged), `step`.
        bends: Of the plan, so far.
        slowed: Of the plan: the step from which on the learning rate is lower; 0: none.
    """

    step: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    bends: tuple[tuple[int, int], ...] = ()
    slowed: int = 0


@dataclass
class TrainingState(Reached):
    """All that a run is, at a step.

    Args:
        net: The network in training.
        optimizer: That of the phase of `step`.
        average: The running average of its weights.
        sums: Over the images since the last row of results: `loss`, what else the task tells, and
            their `count`.
        scaler: Of the loss, where steps compute in float16.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average
    sums: dict[str, float] = field(default_factory=dict)
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: make_scaler(torch.device("cpu"), None)
    )


def keep(state: TrainingState, plan: Plan) -> Plan:
    """The plan as it was."""
    return plan


@dataclass(frozen=True)
class Hooks:
    """What the loop calls: each may do nothing.

    Args:
        validate: Gives the validation columns of a row, and keeps the best weights.
        save: Writes a checkpoint.
        on_step: Told of every step (progress bar).
        on_row: Told of every row of results (user callbacks); a true result stops the run.
        stopping: Asked before every step; true ends the loop early (Ctrl-C).
        replan: Asked after every step that is not the last: the plan from there on.
        validated: Names of the validation columns, empty in a row without a validation.
    """

    validate: Callable[[TrainingState], Row]
    save: Callable[[TrainingState], None]
    on_step: Callable[[TrainingState, float], None] = lambda state, loss: None
    on_row: Callable[[Row], Any] = lambda row: None
    stopping: Callable[[], bool] = lambda: False
    replan: Callable[[TrainingState, Plan], Plan] = keep
    validated: Sequence[str] = ()


def train_steps(
    state: TrainingState, batches: Iterable[StepBatch], task: Task, plan: Plan, hooks: Hooks
) -> TrainingState:
    """Trains from `state.step` to the end of the last phase.

    Args:
        state: Where the run stands; changed in place.
        batches: From `state.step` on, as many for a step as its means say.
        task: The loss, and which part of the network is what.
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
    for group in _grouped(batches, plan.means.accumulate):
        if state.step >= plan.steps or hooks.stopping():
            break
        loss = _step(state, group, task, plan)
        state.seconds += time.perf_counter() - mark
        hooks.on_step(state, loss)
        stop, new = False, plan.begins(state.step)
        validating = state.step % plan.validate_every == 0 or state.step == plan.steps
        if validating or new or state.step % plan.log_every == 0:
            stop = _tell(state, plan, hooks, validating)
        if new:
            part = trained_part(state.net, task, plan.phase(state.step))
            state.optimizer = plan.phase(state.step).make_optimizer(part)
        if validating or stop or time.monotonic() - saved > plan.checkpoint_seconds:
            _save(state, plan, hooks)
            saved = time.monotonic()
        if stop:
            break
        if state.step < plan.steps:
            plan = hooks.replan(state, plan)
            state.bends = plan.bends
        mark = time.perf_counter()
    _save(state, plan, hooks)
    return state


def _tell(state: TrainingState, plan: Plan, hooks: Hooks, validating: bool) -> bool:
    """Adds a row of results; whether the run is to stop."""
    row = _row(state, plan)
    if validating:
        check_weights(state, plan)
    row.update(hooks.validate(state) if validating else dict.fromkeys(hooks.validated))
    state.rows.append(row)
    return bool(hooks.on_row(row))


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
            raise diverged(f"{name} became infinite or NaN", state.step, plan)


def trained_part(net: nn.Module, task: Task, planned: PlannedPhase) -> nn.Module:
    """The part of a network that moves in a phase."""
    return task.head(net) if planned.phase.trains == "head" else net


def _grouped(batches: Iterable[StepBatch], count: int) -> Iterator[tuple[StepBatch, ...]]:
    """The batches of a step, one step after the other."""
    source = iter(batches)
    return iter(lambda: tuple(islice(source, count)), ())


def _step(state: TrainingState, batches: Sequence[StepBatch], task: Task, plan: Plan) -> float:
    """One step on the mean loss of some batches."""
    torch.manual_seed((plan.seed * 1_000_003 + state.step) % 2**63)
    planned = plan.phase(state.step)
    part = trained_part(state.net, task, planned)
    set_training(state.net, part, task, plan.train_norms)
    for module in frozen_modules(task.backbone(state.net), plan.means.freeze):
        module.training = False
    rate = plan.rate(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    state.optimizer.zero_grad(set_to_none=True)
    moving = [one for group in state.optimizer.param_groups for one in group["params"]]
    losses = []
    for number, batch in enumerate(batches):
        mixed = plan.means.mix(batch, (plan.seed, state.step, number))
        with autocasting(batch.images.device, plan.autocast):
            out = mixed.judge(task.loss, state.net(mixed.images))
        losses.append(_checked_loss(out["loss"], state, plan))
        # of a part, gradients go no deeper than they must
        mean = state.scaler.scale(out["loss"] / len(batches))
        mean.backward(inputs=None if part is state.net else moving)
        _count(state, batch, out)
    if planned.phase.clip:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(moving, planned.phase.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.average.update(state.net)
    state.step += 1
    return sum(losses) / len(losses)


def _checked_loss(loss: Tensor, state: TrainingState, plan: Plan) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise diverged(f"the loss became {value}", state.step, plan)
    return value


def _count(state: TrainingState, batch: StepBatch, out: Mapping[str, Tensor]) -> None:
    """Adds what was told of a batch to the sums of a row."""
    sums = {name: float(value) for name, value in out.items() if name != "loss"}
    sums = {"loss": out["loss"].item() * batch.count, **sums, "count": batch.count}
    state.sums = {name: state.sums.get(name, 0.0) + value for name, value in sums.items()}


def _row(state: TrainingState, plan: Plan) -> Row:
    """The training columns of a row, over the steps since the last one."""
    step, sums = state.step - 1, dict(state.sums)
    count = sums.pop("count")
    before = state.rows[-1]["seconds"] if state.rows else 0.0
    state.sums = {}
    number = 1 + plan.probed + plan.phases.index(plan.phase(step))
    return {
        "step": state.step,
        "epoch": round(state.step / plan.steps_per_epoch, 4),
        **({"phase": number} if plan.probed or len(plan.phases) > 1 else {}),
        "seconds": round(state.seconds, 3),
        "learning_rate": plan.rate(step),
        **{f"train_{name}": total / count for name, total in sums.items()},
        "images_per_second": round(count / max(1e-9, state.seconds - (before or 0.0)), 1),
    }


def set_training(net: nn.Module, part: nn.Module, task: Task, train_norms: bool) -> None:
    """Training mode of the part that is trained, eval mode of the rest; in the backbone, norms that
    keep statistics stay in eval mode where they are not to be trained. A fresh head has none to
    keep."""
    net.train(part is net)
    part.train()
    if not train_norms:
        for module in task.backbone(net).modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
