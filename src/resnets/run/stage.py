"""The last stage of a network trained alone, on the maps before it, which the probe has left in
memory: a step takes about a quarter of one of all layers (4.4 times as fast without AMX,
`benchmarks/train_step.py --only last-stage-no-amx`), so that on a CPU many fit where of the others
there are too few.

ResNet-18 in three minutes of two cores without AMX, 2,000 images of CIFAR-10 at 128 px: 76.0 %
[74.1, 77.8]; with one and a half epochs of all layers instead 71.4 % [69.3, 73.3].
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice

import torch
from torch import Tensor, nn

from resnets.data.batches import Batch
from resnets.evaluation.metrics import title
from resnets.models.halves import Tail, halve
from resnets.run.featured import BATCH, measure_raw
from resnets.run.pacing import Pacing
from resnets.run.probe import Probed, soften
from resnets.run.spec import Spec
from resnets.run.steps import Trained, interruptible, no_better
from resnets.run.timing import Costs, try_steps
from resnets.run.validation import choose, columns_of_validation, fill_in, main_number
from resnets.run.work import Job, autocast_of, make_state, write_best
from resnets.training.device import autocasting, place_input
from resnets.training.loop import (
    Diverged,
    Hooks,
    Reached,
    Row,
    TrainingState,
    diverged,
    keep,
    train_steps,
)
from resnets.training.plan import Phase, Plan, plan_phases

# Epochs of all layers: where fewer would fit, the last stage gets the time. With 1.7 of them there
# was no difference on street scenes, 91.7 % [89.3, 93.6] beside 90.6 % [88.1, 92.7]
ENOUGH = 2.0
STAGE = "last stage"  # what its weights are called
TRIAL = 0.03  # of the time that is left may go into timing its steps


def decide_stage(job: Job, probed: Probed, costs: Costs | None) -> tuple[Spec, Costs | None]:
    """Fixes the steps of the last stage: none unless there is a time limit that is too short for
    all layers, and there are maps.

    Args:
        job: After its probe.
        probed: With the maps.
        costs: Of all layers, where there is a time limit.

    Returns:
        The spec, and what these steps cost.
    """
    tail, per_epoch = _tail(job), job.images.batches.steps_per_epoch
    whole = replace(job.spec, stage=0)
    if not probed.maps or tail is None or costs is None or job.deadline is None:
        return whole, None
    left = job.deadline - time.monotonic()
    if costs.steps_within(left, per_epoch)[0] >= ENOUGH * per_epoch:
        return whole, None
    with job.screen.progress("timing steps of the last stage", 1):
        alone = _time(job, tail, probed, TRIAL * max(0.0, left), costs.end)
    steps, interval = alone.steps_within(job.deadline - time.monotonic(), per_epoch)
    if steps:
        job.screen.say(
            f"the last stage alone, {steps:,} steps ({steps / per_epoch:.1f} epochs): of all layers"
            f" less than {ENOUGH:g} epochs would fit; {alone}"
        )
    return replace(job.spec, stage=steps, interval=interval if steps else 0), alone


def train_stage(job: Job, probed: Probed, alone: Costs | None) -> Trained:
    """Trains the last stage for the steps of the spec; what validation finds better than the probe
    becomes best.safetensors, and else the network stays as it was.

    Args:
        job: With the network after the probe.
        probed: With the maps.
        alone: What its steps cost; None in a run that goes on, whose plan stays as it is.
    """
    tail, main, patience = _tail(job), main_number(job.task), job.spec.settings.patience
    assert tail is not None
    before, plan = copy.deepcopy(tail.state_dict()), _plan(job)
    soften(tail.fc)
    state = make_state(tail, job.task, plan, job.spec.settings.average)
    state.rows, state.best = list(probed.reached.rows), dict(probed.reached.best)
    kept, fault = before, ""

    def validate(state: TrainingState) -> Row:
        nonlocal kept
        row = Row()
        for net in (tail, state.average.net):
            raw = _judge(job, net, probed.maps["val"])
            if not bool(raw.isfinite().all()):
                raise diverged("the outputs in validation are not finite", state.step, plan)
            quick = measure_raw(job, raw)
            fill_in(row, quick, main, averaged=net is not tail)
            if choose(state, quick, main, STAGE):
                kept = copy.deepcopy(net.state_dict())
        return row

    def on_row(row: Row) -> bool:
        job.folder.write_results(state.rows)
        stops = [callback(row) for callback in job.callbacks]  # all of them are told
        return any(stops)

    replan = Pacing(job.deadline, alone, job.screen) if alone and job.deadline else keep
    with interruptible() as asked, job.screen.progress("training", plan.steps) as bar:
        hooks = Hooks(
            validate,
            lambda _: None,
            lambda state, loss: bar.update(state.step, f"last stage  loss {loss:.3f}"),
            on_row,
            lambda: asked() or bool(no_better(state.rows, patience, main)),
            replan,
            columns_of_validation(job.task),
        )
        try:
            train_steps(state, map_batches(job, probed), job.task, plan, hooks)
        except Diverged as error:
            fault = f"it diverged: {error}"
            job.screen.warn(f"last stage: {fault}")
    tail.load_state_dict(kept)
    if kept is not before:
        write_best(job, job.net.eval(), state.best)
        probed.features.clear()  # of other weights
    probed.maps.clear()
    return _ended(job, state, probed, fault)


def map_batches(job: Job, probed: Probed) -> Iterator[Batch]:
    """Maps of training images in the order in which a run takes these, with what is true of
    them."""
    maps, targets = probed.maps["train"], probed.features["train"].targets
    for step in count():
        places = torch.from_numpy(job.images.batches.places(step))
        known = {name: one[places].to(job.device) for name, one in targets.items()}
        yield Batch(place_input(maps[places].float(), job.device), known)


def _ended(job: Job, state: TrainingState, probed: Probed, fault: str) -> Trained:
    main, planned = main_number(job.task), state.bends[-1][1] if state.bends else job.spec.stage
    better = "" if state.best["weights"] == STAGE else ": no better than the probe"
    job.screen.say(
        f"last stage alone, {state.step:,} steps ({state.seconds:.0f} s)  {title(main)}"
        f" {state.best[main]:.3f}{better}"
    )
    reached = Reached(
        step=state.step, seconds=state.seconds, rows=state.rows, best=state.best, bends=state.bends
    )
    patience = no_better(state.rows, job.spec.settings.patience, main)
    enough = fault or patience or "it was stopped"
    enough = enough if state.step < planned else ""
    return Trained(reached, enough=enough, features=probed.features)


def _tail(job: Job) -> Tail | None:
    """The part that moves; None where there is none, or all of it is frozen."""
    halves = halve(job.net)
    if halves is None or job.spec.settings.freeze > len(halves[0].stages) + 1:
        return None
    return halves[1]


def _phase(job: Job) -> Phase:
    return replace(job.spec.phases[-1], trains="all", size=None)


def _plan(job: Job) -> Plan:
    settings, per_epoch = job.spec.settings, job.images.batches.steps_per_epoch
    return Plan(
        plan_phases((_phase(job),), job.spec.stage, settings),
        per_epoch,
        per_epoch,
        job.spec.interval or per_epoch,
        checkpoint_seconds=math.inf,
        seed=settings.seed,
        train_norms=settings.norms != "frozen",
        autocast=autocast_of(settings, job.device),
        probed=True,
    )


def _time(job: Job, tail: Tail, probed: Probed, seconds: float, end: float) -> Costs:
    """What the last stage costs: tried on a copy of it, with no means that are for all layers."""
    batches, per_epoch = islice(map_batches(job, probed), 40), job.images.batches.steps_per_epoch
    alone = replace(job.spec.settings, accumulate=1, freeze=0, dropout=0.0, mixup=0.0, cutmix=0.0)
    spec = replace(job.spec, settings=alone)
    _, step = try_steps(spec, _phase(job), tail, batches, per_epoch, seconds)
    tick = time.perf_counter()
    _judge(job, tail, probed.maps["val"])
    return Costs((_phase(job),), (step,), 2 * (time.perf_counter() - tick), end)


@torch.no_grad()
def _judge(job: Job, net: nn.Module, maps: Tensor) -> Tensor:
    """Raw outputs for all maps."""
    net.eval()
    found = []
    with autocasting(job.device, autocast_of(job.spec.settings, job.device)):
        for some in maps.split(BATCH):
            found.append(net(place_input(some.float(), job.device)).float().cpu())
    return torch.cat(found)
