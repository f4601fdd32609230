"""What contenders share: their task, and the steps that fit into their minutes."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

STARTED = time.monotonic()


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


def steps_that_fit(task: dict[str, Any], second_step: float, reserve: float) -> int:
    """Steps in what is left of the minutes.

    Args:
        task: What is wanted.
        second_step: Seconds of a step.
        reserve: Seconds that the predictions at the end take.
    """
    left = task["minutes"] * 60 - (time.monotonic() - STARTED) - reserve
    return max(20, int(left / second_step))
