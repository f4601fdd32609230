"""Finds the learning rate by trying all of them: a copy of the network is trained for some steps,
the rate of each a little higher than that of the one before (Smith 2017, arXiv:1506.01186, section
3.3)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from resnets.evaluation.curves import plot_search
from resnets.files import csv_text, write_file
from resnets.run.folder import RunFolder
from resnets.run.probe import soften
from resnets.run.spec import Spec
from resnets.run.work import Job, make_plan, make_state
from resnets.training.loop import Diverged, Hooks, TrainingState, train_steps
from resnets.training.optimizers import Schedule

STEPS = 100  # of a search
LOWEST = 1e-7
HIGHEST = {"sgd": 10.0}  # by optimizer; of those that scale each gradient, 1
RISEN = 4.0  # times its minimum, above which the loss has shown enough
WIDTH = 4.0  # steps: standard deviation of the smoothing, a quarter of a decade
LOWER = 0.1  # of the rate of the lowest loss, where none falls


@dataclass(frozen=True)
class Rise(Schedule):
    """From `LOWEST` to the peak, each step by the same factor."""

    def __call__(self, step: float) -> float:
        """The rate of a step, counted from 0."""
        return float(LOWEST * (self.peak / LOWEST) ** (step / (self.steps - 1)))


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """(n,) mean of the losses around each, by a normal distribution. A moving average, which knows
    only those before, would show each fall later than it is: at too high a rate."""
    places = np.arange(len(losses))
    near = np.exp(-(((places[:, None] - places) / WIDTH) ** 2) / 2)
    return np.asarray(near @ np.array(losses, float) / near.sum(1))


@dataclass(frozen=True)
class Search:
    """The losses that were found at each rate, and the rate that is best by them.

    Args:
        rates: Of each step, rising.
        losses: Of each step, before it.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    def best(self) -> tuple[float, str]:
        """The rate, in two digits, and why: that of the steepest fall of the smoothed loss, over
        the logarithm of the rate, down to its lowest value."""
        means = smoothed(self.losses)
        lowest = int(means.argmin())
        if lowest >= 2 and (place := int(np.gradient(means)[: lowest + 1].argmin())):
            return float(f"{self.rates[place]:.2g}"), "there the loss falls most steeply"
        rate = max(LOWEST, LOWER * self.rates[lowest])
        return float(f"{rate:.2g}"), "a tenth of the rate with the lowest loss, which never fell"

    def write(self, folder: RunFolder) -> None:
        """The table and the curve."""
        means = smoothed(self.losses).tolist()
        steps = enumerate(zip(self.rates, self.losses, means, strict=True))
        rows = [
            {"step": step, "learning_rate": rate, "loss": loss, "smoothed_loss": mean}
            for step, (rate, loss, mean) in steps
        ]
        write_file(folder.search, csv_text(rows))
        plot_search(self.rates, self.losses, means, self.best()[0], folder.search_curve)


def find_rate(job: Job) -> tuple[Spec, Search]:
    """The spec with the rate that was found, as if it had been given.

    Args:
        job: Before its first step; its network stays as it is.

    Raises:
        ValueError: Even the lowest rates give no loss.
    """
    spec, device, net = job.spec, job.device, copy.deepcopy(job.net)
    if spec.probe:
        soften(job.task.head(net))
    phase = spec.phases[-1]
    trial = replace(spec, phases=(phase,), steps=STEPS, interval=STEPS + 1)
    plan = make_plan(trial, STEPS + 1, device)
    schedule = Rise(HIGHEST.get(phase.optimizer, 1.0), STEPS, 0)
    plan = replace(plan, phases=(replace(plan.phases[0], schedule=schedule),))
    state, losses = make_state(net, job.task, plan, 0.0), list[float]()
    with job.screen.progress("finding the learning rate", STEPS) as bar:

        def on_step(state: TrainingState, loss: float) -> None:
            losses.append(loss)
            bar.update(state.step)

        def risen() -> bool:
            means = smoothed(losses)
            return len(losses) > 0 and bool(means[-1] > RISEN * means.min())

        hooks = Hooks(lambda _: {}, lambda _: None, on_step, stopping=risen)
        count = STEPS * spec.settings.accumulate
        batches = islice(job.images.batches.from_step(0, device, phase.size), count)
        with suppress(Diverged):  # at the end of the curve
            train_steps(state, batches, job.task, plan, hooks)
    if len(losses) < 3 or not math.isfinite(sum(losses)):
        raise ValueError(
            f"find_lr: the loss is no number after {len(losses)} steps with rates from {LOWEST:g};"
            " look for broken images with: resnets check"
        )
    search = Search(tuple(map(plan.rate, range(len(losses)))), tuple(losses))
    rate, reason = search.best()
    job.screen.say(
        f"lr {rate:g}: {reason}, in {len(losses)} steps from {LOWEST:g} to {search.rates[-1]:.2g}"
        f" ({job.folder.search_curve.name})"
    )
    given = replace(spec.settings, lr=rate / phase.lr, find_lr=False)
    return replace(spec, settings=given), search
