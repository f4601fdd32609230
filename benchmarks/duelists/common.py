"""What contenders share: their task, and steps that fill their minutes."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

STARTED = time.monotonic()
BATCH, TRIAL = 8, 12  # images a step, and steps that are timed


def read_task() -> tuple[Path, dict[str, Any]]:
    """The folder that is named on the command line, and what is wanted."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    random.seed(task["seed"])
    np.random.seed(task["seed"])
    torch.manual_seed(task["seed"])
    return folder, task


def part(task: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The images of one part of the data."""
    return [one for one in task["data"]["images"] if one["split"] == name]


def train(
    task: dict[str, Any],
    training: Sequence[Any],
    step: Callable[[list[Any]], float],
    optimizer: torch.optim.Optimizer,
    rate: Callable[[int, int], float],
) -> None:
    """As many steps as fit into the minutes, after some with hardly any rate that say how long one
    takes; what the predictions take is kept back.

    Args:
        task: What is wanted.
        training: What steps are made of.
        step: One step on some of it; gives the loss.
        optimizer: Whose rate is set.
        rate: Of a step, by its number and the number of steps.
    """
    batches = endless(training)

    def timed(count: int) -> float:
        tick = time.monotonic()
        for _ in range(count):
            step(next(batches))
        return (time.monotonic() - tick) / count

    set_rate(optimizer, rate(0, TRIAL) / 20)
    timed(TRIAL // 2)
    each = timed(TRIAL // 2)
    judged = len(part(task, "val")) + len(part(task, "test"))
    left = task["minutes"] * 60 - (time.monotonic() - STARTED) - each / BATCH * judged
    steps = max(20, int(left / each))
    for number in range(steps):
        set_rate(optimizer, rate(number, steps))
        loss = step(next(batches))
        if number % 50 == 0:
            print(number, steps, round(loss, 3), flush=True)


def endless(training: Sequence[Any]) -> Iterator[list[Any]]:
    """Batches of `BATCH`, all of it in a new order before any of it comes again."""
    order: list[int] = []
    while True:
        while len(order) < BATCH:
            order.extend(torch.randperm(len(training)).tolist())
        yield [training[order.pop(0)] for _ in range(BATCH)]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
