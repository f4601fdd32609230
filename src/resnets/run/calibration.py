"""Outputs that are right as often as they say: one temperature, fitted on the validation
images and folded into the head (Guo et al. 2017, arXiv:1706.04599, section 4.2)."""

from __future__ import annotations

import math
from typing import Any

import torch

from resnets.modelfile import Model, read_model, write_model
from resnets.run.featured import Seen, measure_raw
from resnets.run.probe import scale_head
from resnets.run.work import Job

HOTTEST = 20.0  # times as certain, or as uncertain, as the network is by itself
TURNS = 24  # of the search: to a thousandth of the temperature


def calibrate(job: Job, model: Model, seen: Seen) -> list[tuple[str, str]]:
    """Divides the raw outputs of the best weights, and of their file, by the temperature with the
    lowest validation loss; does nothing unless the run is to do so.

    Args:
        job: The run.
        model: Its best weights.
        seen: By them.

    Returns:
        What the report says of it.
    """
    if job.spec.settings.calibrate == "none":
        return []
    head: Any = model.task.head(model.net)
    with torch.inference_mode():
        raw = head.cpu()(seen["val"].featured.features)
    head.to(job.device)

    def loss(logarithm: float) -> float:
        quick = measure_raw(job, raw / math.exp(logarithm))
        assert quick.loss is not None
        return quick.loss

    # the loss has one minimum (Guo et al. 2017, supplement): search by thirds
    low, high = -math.log(HOTTEST), math.log(HOTTEST)
    for _ in range(TURNS):
        left, right = (low + (high - low) * part for part in (1 / 3, 2 / 3))
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    temperature = math.exp((low + high) / 2)
    scale_head(head, 1 / temperature)
    _, metadata = read_model(job.folder.best)
    write_model(job.folder.best, model.net.state_dict(), metadata)
    job.screen.say(f"temperature {temperature:.3g}, folded into the last layer")
    return [("temperature", f"{temperature:.3g}, fitted on the validation images")]
