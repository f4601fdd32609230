"""The last stage of a network trained alone, on the maps before it, which the probe has left in
memory: a step takes a fifth to an eighth of one of all layers, so that on a CPU many fit where of
the others there are too few.

ResNet-18 on 1,342 crops of street scenes (seven classes; 641 of other drives), two cores without
AMX: the probe 82.7 % at 128 px, after four epochs of the last stage, in 34 s, 90.8 %.
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
from resnets.modelfile import write_model
from resnets.models.halves import Tail, halve
from resnets.run.featured import BATCH, measure_raw
from resnets.run.pacing import Pacing
from resnets.run.probe import Probed, soften
from resnets.run.spec import Spec
from resnets.run.timing import LEAST, Costs, try_steps
from resnets.run.validation import columns_of_validation, main_number, rank
from resnets.run.work import Job, autocast_of, make_state
from resnets.training.device import autocasting, place_input
from resnets.training.loop import Diverged, Hooks, Row, TrainingState, keep, train_steps
from resnets.training.plan import Phase, Plan, plan_phases

EPOCHS = 6  # of the last stage, where all layers follow
# Epochs of all layers, from which on they do without it, at a rate of their own
ENOUGH = 4.0
# Of the learning rate, for all layers after it: two epochs of street scenes came to 90.8 % at 0.3
# and at 1, but validation was 1.6 points better
AFTER = 0.3
MOST = 60  # epochs of it, beyond which nothing is learnt
TRIAL = 0.03  # of the time that is left may go into timing its steps


def decide_stage(job: Job, probed: Probed, costs: Costs | None) -> tuple[Spec, Costs | None]:
    """Fixes the steps of the last stage, if there are maps to train it on.

    Args:
        job: After its probe.
        probed: With the maps.
        costs: Of all layers, where there is a time limit.

    Returns:
        The spec, and what these steps cost, where they get all of the time.
    """
    tail, per_epoch = _tail(job), job.images.batches.steps_per_epoch
    if not probed.maps or tail is None:
        return job.spec, None
    if costs is None or job.deadline is None:
        few = 0 < (job.spec.settings.epochs or 0) < ENOUGH
        return _with_stage(job.spec, EPOCHS * per_epoch if few else 0), None
    left = job.deadline - time.monotonic()
    if costs.steps_within(left, per_epoch)[0] >= ENOUGH * per_epoch:
        return job.spec, None
    with job.screen.progress("timing steps of the last stage", 1):
        alone = _time(job, tail, probed, TRIAL * max(0.0, left), costs.end)
    left = job.deadline - time.monotonic()
    before = EPOCHS * (per_epoch * alone.steps[0] + alone.validation)
    if costs.steps_within(left - before, per_epoch)[0] >= LEAST * per_epoch:
        return _with_stage(job.spec, EPOCHS * per_epoch), None
    steps, _ = alone.steps_within(left, per_epoch)
    spec = _with_stage(job.spec, min(steps, MOST * per_epoch))
    return spec, replace(alone, phases=(_phase(spec),))


def _with_stage(spec: Spec, steps: int) -> Spec:
    phases = tuple(replace(phase, lr=AFTER * phase.lr) for phase in spec.phases)
    return replace(spec, stage=steps, phases=phases) if steps else spec


def train_stage(job: Job, probed: Probed, alone: Costs | None) -> Probed:
    """Trains the last stage for the steps of the spec; what validation finds better than the probe
    becomes best.safetensors, and else the network stays as it was.

    Args:
        job: With the network after the probe.
        probed: With the maps.
        alone: What its steps cost, where they get all of the time that a limit leaves.
    """
    tail = _tail(job)
    assert tail is not None
    reached, before = probed.reached, copy.deepcopy(tail.state_dict())
    plan = _plan(job, job.spec.stage, alone)
    soften(tail.fc)
    state = make_state(tail, job.task, plan, job.spec.settings.average)
    state.best, kept = dict(reached.best), before

    def validate(state: TrainingState) -> Row:
        nonlocal kept
        main, row = main_number(job.task), Row()
        for net in (tail, state.average.net):
            quick = measure_raw(job, _judge(job, net, probed.maps["val"]))
            row |= {"val_loss": quick.loss} if net is tail else {}
            row[f"val_{main}{'' if net is tail else '_ema'}"] = quick.main
            best = {main: quick.main, "loss": quick.loss, "weights": "last stage", "step": 0}
            if rank(best, main) > rank(state.best, main):
                state.best, kept = best, copy.deepcopy(net.state_dict())
        return row

    replan = Pacing(job.deadline, alone, job.screen) if alone and job.deadline else keep
    with job.screen.progress("training the last stage", plan.steps) as bar:
        hooks = Hooks(
            validate,
            lambda _: None,
            lambda state, loss: bar.update(state.step, f"loss {loss:.3f}"),
            replan=replan,
            validated=columns_of_validation(job.task),
        )
        try:
            train_steps(state, map_batches(job, probed), job.task, plan, hooks)
        except Diverged as error:
            job.screen.say(f"last stage: {error}; left out")
    tail.load_state_dict(kept)
    job.net.eval()
    # one row for all of it, before the first step of all layers
    rows = [{**row, "step": 0, "epoch": 0.0, "seconds": 0.0} for row in state.rows[-1:]]
    if kept is not before:
        metadata = {**job.spec.metadata(), "weights": state.best}
        write_model(job.folder.best, job.net.state_dict(), metadata)
        probed.features.clear()  # of other weights
    _tell(job, state, kept is not before)
    reached = replace(reached, rows=[*reached.rows, *rows], best=state.best)
    return probed._replace(reached=reached)


def map_batches(job: Job, probed: Probed) -> Iterator[Batch]:
    """Maps of training images in the order in which a run takes these, with what is true of
    them."""
    maps, targets = probed.maps["train"], probed.features["train"].targets
    for step in count():
        places = torch.from_numpy(job.images.batches.places(step))
        known = {name: one[places].to(job.device) for name, one in targets.items()}
        yield Batch(place_input(maps[places].float(), job.device), known)


def _tail(job: Job) -> Tail | None:
    """The part that moves; None where there is none, or all of it is frozen."""
    halves = halve(job.net)
    if halves is None or job.spec.settings.freeze > len(halves[0].stages) + 1:
        return None
    return halves[1]


def _phase(spec: Spec) -> Phase:
    last = spec.phases[-1]
    return replace(last, trains="all", size=None, lr=last.lr / AFTER)


def _plan(job: Job, steps: int, alone: Costs | None) -> Plan:
    settings, per_epoch = job.spec.settings, job.images.batches.steps_per_epoch
    interval = alone.interval(steps, per_epoch) if alone else per_epoch
    return Plan(
        *(plan_phases((_phase(job.spec),), steps, settings), per_epoch, per_epoch, interval),
        checkpoint_seconds=math.inf,
        seed=settings.seed,
        train_norms=settings.norms != "frozen",
        autocast=autocast_of(settings, job.device),
        earlier=1,
    )


def _time(job: Job, tail: Tail, probed: Probed, seconds: float, end: float) -> Costs:
    """What the last stage costs: tried on a copy of it, with no means that are for all layers."""
    batches, per_epoch = islice(map_batches(job, probed), 40), job.images.batches.steps_per_epoch
    alone = replace(job.spec.settings, accumulate=1, freeze=0, dropout=0.0, mixup=0.0, cutmix=0.0)
    phase, spec = _phase(job.spec), replace(job.spec, settings=alone)
    _, step = try_steps(spec, phase, tail, batches, per_epoch, seconds)
    tick = time.perf_counter()
    _judge(job, tail, probed.maps["val"])
    return Costs((phase,), (step,), 2 * (time.perf_counter() - tick), end)


@torch.no_grad()
def _judge(job: Job, net: nn.Module, maps: Tensor) -> Tensor:
    """Raw outputs for all maps."""
    net.eval()
    found = []
    with autocasting(job.device, autocast_of(job.spec.settings, job.device)):
        for some in maps.split(BATCH):
            found.append(net(place_input(some.float(), job.device)).float().cpu())
    return torch.cat(found)


def _tell(job: Job, state: TrainingState, better: bool) -> None:
    main = main_number(job.task)
    job.screen.say(
        f"last stage alone, {state.step:,} steps on kept maps ({state.seconds:.0f} s)"
        f"  {title(main)} {state.best[main]:.3f}" + ("" if better else ": no better than the probe")
    )
