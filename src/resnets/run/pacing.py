"""Keeps a run with a time limit within it: where steps take longer or shorter than was measured
before the first one, the rest of the plan is gone through in fewer or more."""

from __future__ import annotations

import time
from collections import deque

from resnets.run.timing import Costs
from resnets.screen import Screen
from resnets.training.loop import TrainingState
from resnets.training.plan import Plan

CHECKS = 25  # in the course of a run
LOOKS = 6  # that a pace is measured over: a moment's disturbance is none
RECENT = 2  # over which one that is slower counts at once: the end will take as much longer
TOLERATED = 0.04  # deviation of the time that is left from the time that is needed
TOLD = 0.1  # part of the steps that a run loses without a word
MOST = 2.0  # times as many steps as are left, at most


class Pacing:
    """Bends the plan of a run; asked after every step.

    Args:
        deadline: `time.monotonic()` at which all of it is to be over.
        costs: As they were measured before the first step.
        screen: Told when a run gets much shorter.
    """

    def __init__(self, deadline: float, costs: Costs, screen: Screen) -> None:
        self.deadline, self.costs, self.screen = deadline, costs, screen
        self.marks = deque[tuple[int, float]](maxlen=LOOKS)  # steps and seconds at the last looks
        self.told = False

    def __call__(self, state: TrainingState, plan: Plan) -> Plan:
        """The plan from here on."""
        if not self.marks:  # the first step warms up
            self.marks.append((state.step, state.seconds))
        here = plan.place(state.step)
        if here - plan.place(self.marks[-1][0]) < plan.planned / CHECKS:
            return plan
        since = self.marks[0], self.marks[-min(RECENT, len(self.marks))]
        self.marks.append((state.step, state.seconds))
        pace = max(self._pace(state, plan, step, seconds) for step, seconds in since)
        rest = plan.steps - state.step
        other = self.costs.end + -(-rest // plan.validate_every) * self.costs.validation
        available = self.deadline - time.monotonic() - other * max(1.0, pace)
        needed = rest * self._step(plan, here, plan.planned) * pace
        factor = min(MOST, available / needed)
        if abs(factor - 1) <= TOLERATED:
            return plan
        steps = state.step + max(1, int(rest * factor))
        if steps < plan.planned * (1 - TOLD) and not self.told:
            self.told = True
            self.screen.say(
                f"slower than planned: about {steps:,} steps instead of {plan.planned:,}, so as to"
                " end in time"
            )
        return plan if steps == plan.steps else plan.bent(state.step, steps)

    def _pace(self, state: TrainingState, plan: Plan, step: int, seconds: float) -> float:
        """Times as long as was measured before, since this step and second."""
        expected = self._step(plan, plan.place(step), plan.place(state.step))
        return (state.seconds - seconds) / ((state.step - step) * expected)

    def _step(self, plan: Plan, start: float, end: float) -> float:
        """Seconds that a step between two places of the plan was measured to take, on average."""
        seconds = dict(zip(self.costs.phases, self.costs.steps, strict=True))
        shares = [
            (max(0.0, min(end, one.end) - max(start, one.start)), seconds[one.phase])
            for one in plan.phases
        ]
        return sum(share * step for share, step in shares) / (end - start)
