"""When things happen in a run, in steps: its phases, and what lies between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import nn

from resnets.training.means import Means
from resnets.training.optimizers import OPTIMIZERS, Schedule
from resnets.training.settings import TrainSettings, parse_milestones

TRAINS = ("all", "head")
SLOWER = 0.1  # of the learning rate, after a collapse


@dataclass(frozen=True)
class Phase:
    """A part of a run as a recipe says it.

    Args:
        trains: `all`, or `head`: the rest stays as it is, norms included.
        size: Side of the square input in pixels; None: that of the settings, for which images are
            kept in memory: a larger one shows no more of them.
        share: Of the steps, in proportion to the other phases.
        optimizer: A row of `OPTIMIZERS`. It starts afresh: what it knows is of other parameters,
            other rates or other images.
        lr: Factor of the learning rate.
        depth: Factor of the learning rate from each part of the network to the one before it
            (`parameter_groups`); 1: all alike.
        clip: Largest norm of the gradient of a step; a longer one is shortened to it (Pascanu et
            al. 2013, arXiv:1211.5063). None: any.
    """

    trains: str = "all"
    size: int | None = None
    share: float = 1.0
    optimizer: str = "sgd"
    lr: float = 1.0
    depth: float = 1.0
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.trains not in TRAINS or self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"phase: trains={self.trains} optimizer={self.optimizer}; allowed: trains"
                f" {'|'.join(TRAINS)}, optimizer {'|'.join(OPTIMIZERS)}"
            )
        numbers = (self.share, self.lr, self.depth, self.size, self.clip)
        if not all(number is None or number > 0 for number in numbers):
            raise ValueError(
                f"phase: share={self.share} lr={self.lr} depth={self.depth} size={self.size}"
                f" clip={self.clip};"
                " allowed: above 0"
            )


@dataclass(frozen=True)
class PlannedPhase:
    """A phase in steps.

    Args:
        schedule: The learning rate of each of its steps; knows how many there are.
        start: Its first step.
        phase: What it is.
        momentum: Of its optimizer.
        weight_decay: Of its optimizer.
    """

    schedule: Schedule
    start: int = 0
    phase: Phase = Phase()
    momentum: float = 0.9
    weight_decay: float = 0.0

    @property
    def end(self) -> int:
        """The step after its last one."""
        return self.start + self.schedule.steps

    def make_optimizer(self, part: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer of the part that the phase trains."""
        make = OPTIMIZERS[self.phase.optimizer]
        phase = self.phase
        return make(part, self.schedule.peak, self.momentum, self.weight_decay, phase.depth)


@dataclass(frozen=True)
class Plan:
    """When things happen, in steps.

    Args:
        phases: One after the other, none of them empty.
        steps_per_epoch: To speak of epochs.
        log_every: Steps between rows of results; a phase ends with a row as well.
        validate_every: Steps between validations; the last step always validates.
        checkpoint_seconds: At most this much work is lost in a crash.
        seed: Of the network's own randomness (dropout, stochastic depth), fixed anew at every step.
        train_norms: Whether BatchNorm uses and updates the statistics of the batch, or stays as
            loaded.
        autocast: Mixed precision: a dtype, or None for full precision.
        probed: Whether a linear probe came before the first step: phases are counted from it.
        bends: Where the run was made shorter or longer, as (step, steps of the whole run): from
            that step on, the rest of the schedule is gone through in the steps that are left then.
        slowed: The step from which on the learning rate is a tenth, after a collapse; 0: none.
        means: What is done in steps besides.
    """

    phases: tuple[PlannedPhase, ...]
    steps_per_epoch: int
    log_every: int
    validate_every: int
    checkpoint_seconds: float = 60.0
    seed: int = 0
    train_norms: bool = True
    autocast: torch.dtype | None = None
    probed: bool = False
    bends: tuple[tuple[int, int], ...] = ()
    slowed: int = 0
    means: Means = field(default_factory=Means)

    @property
    def planned(self) -> int:
        """Steps of the schedule."""
        return self.phases[-1].end

    @property
    def steps(self) -> int:
        """All steps of the run."""
        return self.bends[-1][1] if self.bends else self.planned

    def place(self, step: int) -> float:
        """Where in the schedule a step lies, 0 to `planned`."""
        start, place, end = 0, 0.0, self.planned
        for bend, steps in self.bends:
            if step <= bend:
                break
            place += (bend - start) * (self.planned - place) / (end - start)
            start, end = bend, steps
        return place + (step - start) * (self.planned - place) / (end - start)

    def phase(self, step: int) -> PlannedPhase:
        """The phase of a step, counted from 0; after the last step, the last phase."""
        place = self.place(step)
        return next((one for one in self.phases if place < one.end), self.phases[-1])

    def begins(self, step: int) -> bool:
        """Whether another phase begins with a step."""
        return 0 < step < self.steps and self.phase(step) is not self.phase(step - 1)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        phase = self.phase(step)
        factor = SLOWER if 0 < self.slowed <= step else 1.0
        return factor * phase.schedule(self.place(step) - phase.start)

    def bent(self, step: int, steps: int) -> Plan:
        """The plan with another number of steps for the whole run, from a step on."""
        assert step < steps
        return replace(self, bends=(*self.bends, (step, steps)))


def split_steps(phases: Sequence[Phase], steps: int) -> list[int]:
    """How many steps each phase takes; together all of them, and perhaps none."""
    total = sum(phase.share for phase in phases)
    ends = accumulate((phase.share for phase in phases), initial=0.0)
    return [
        after - before for before, after in pairwise(round(steps * end / total) for end in ends)
    ]


def plan_phases(
    phases: Sequence[Phase], steps: int, settings: TrainSettings
) -> tuple[PlannedPhase, ...]:
    """Phases of a run in steps, each with a schedule of its own."""
    assert settings.lr is not None
    assert settings.weight_decay is not None
    planned: list[PlannedPhase] = []
    start = 0
    for phase, count in zip(phases, split_steps(phases, steps), strict=True):
        if count:
            schedule = Schedule(
                settings.lr * phase.lr,
                count,
                round(settings.warmup * count),
                settings.schedule,
                parse_milestones(settings.milestones),
                settings.gamma,
            )
            decay = settings.weight_decay
            planned.append(PlannedPhase(schedule, start, phase, settings.momentum, decay))
        start += count
    return tuple(planned)


def adapt_phases(phases: Sequence[Phase], settings: TrainSettings) -> tuple[Phase, ...]:
    """The phases of a recipe with what the settings say of them."""
    said = {"optimizer": settings.optimizer, "clip": settings.clip}
    given: dict[str, Any] = {name: one for name, one in said.items() if one is not None}
    return tuple(
        replace(phase, depth=phase.depth * settings.layer_decay, **given) for phase in phases
    )
