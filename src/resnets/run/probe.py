"""The first model of a run: a linear probe on the features of the frozen backbone, measured and
exported within seconds, so that there is a file to use while the rest is being trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from resnets.data.loader import PreparedImages
from resnets.evaluation.metrics import title
from resnets.models.halves import halve
from resnets.run.familiarity import fit_familiarity
from resnets.run.featured import (
    InHalves,
    computing,
    find_features,
    measure_raw,
    training_images_of,
)
from resnets.run.growth import measure_growth
from resnets.run.outcome import export_outcome
from resnets.run.validation import main_number
from resnets.run.work import Job, write_best
from resnets.training.device import place_net
from resnets.training.loop import Reached, Row
from resnets.training.probe import Featured, Fitted, fit_probe

SOFTENED = 0.2  # of the weights of the head, when training begins


class Probed(NamedTuple):
    """A run after its probe.

    Args:
        reached: Where it stands: step 0, with a row of results and the best weights so far.
        exporting: Seconds that export and proof took; None without a probe.
        features: Of the images, by part of the data.
        maps: Of the same images before the last stage, (n, C, h, w) float16; none where they are
            not to be had, or too large.
    """

    reached: Reached
    exporting: float | None
    features: dict[str, Featured]
    maps: dict[str, torch.Tensor]


def make_probe(job: Job) -> Probed:
    """Fits the head of the network, its backbone frozen, to the training images; writes it as
    best.safetensors and exports it.

    Raises:
        ProofFailed: The exported file gives other predictions than the model.
        OSError: A file could not be written.
    """
    images, task, main = job.images, job.task, main_number(job.task)
    prepared, started = training_images_of(job), time.monotonic()
    features, maps = _look(job, {"train": prepared, "val": images.held_out})
    train, val = features["train"], features["val"]
    total = len(prepared) + len(images.held_out)
    speed = total / (time.monotonic() - started)
    fit = partial(fit_probe, val=val, outputs=len(job.spec.classes), loss=task.loss)
    with job.screen.progress("linear probe", 1):
        fitted = fit(train)
    _set_head(task.head(job.net), fitted)
    quick = measure_raw(job, fitted(val.features))
    best = {main: quick.main, "loss": quick.loss, "weights": "probe", "step": 0}
    write_best(job, job.net, best)
    job.screen.say(
        f"linear probe on {train.features.shape[1]} features of {total:,} images"
        f" ({speed:.0f} img/s)  {title(main)} {quick.main:.3f}"
    )
    device, tick = job.device, time.monotonic()
    with job.screen.progress("exporting and verifying", 1):
        model = job.spec.make_model(job.net)
        model.familiarity = fit_familiarity(model, prepared.samples, train, val)
        proven = export_outcome(model, job.exported, images.measured.samples)
    place_net(job.net, device)
    exporting, seconds = time.monotonic() - tick, time.monotonic() - job.started
    follows = "" if job.spec.settings.epochs == 0 else "; what follows replaces it if better"
    job.screen.say(f"{proven}, usable after {seconds:.0f} s{follows}")
    measure_growth(job, train, fitted, fit, val.features)
    row: Row = {
        "step": 0,
        "epoch": 0.0,
        "phase": 1,
        "seconds": 0.0,
        "learning_rate": 0.0,
        **{f"train_{name}": value for name, value in fitted.train.items()},
        "images_per_second": round(speed, 1),
        "val_loss": quick.loss,
        f"val_{main}": quick.main,
        f"val_{main}_ema": quick.main,
    }
    return Probed(Reached(rows=[row], best=best), exporting, features, maps)


def _look(
    job: Job, parts: Mapping[str, PreparedImages]
) -> tuple[dict[str, Featured], dict[str, torch.Tensor]]:
    """The features of the images of each part, and their maps before the last stage, if these are
    kept and no number of theirs is beyond half precision."""
    total = sum(map(len, parts.values()))
    compute = _halved(job, total) or computing(job.spec, job.net)
    found, maps = dict[str, Featured](), dict[str, torch.Tensor]()
    with job.screen.progress("features", total) as bar:
        for part, images in parts.items():
            found[part] = find_features(job.spec, compute, images, bar.advance)
            if isinstance(compute, InHalves):
                maps[part] = compute.take()
    sound = all(bool(torch.isfinite(one).all()) for one in maps.values())
    return found, maps if sound else {}


def _halved(job: Job, count: int) -> InHalves | None:
    """What keeps the maps before the last stage, where a time limit may be too short for all layers
    and memory has room for all maps beside the images. On a CPU alone: others are fast enough."""
    halves, images = halve(job.net), job.images.batches.images
    if halves is None or job.deadline is None or job.device.type != "cpu":
        return None
    with torch.inference_mode():
        one = halves[0].eval()(torch.zeros(job.spec.input_shape(1)))
    room = images.budget - images.bytes
    return InHalves(job.spec, *halves) if 2 * one.numel() * count <= room else None


@torch.no_grad()
def _set_head(head: Any, fitted: Fitted) -> None:
    head.weight.copy_(fitted.weight)
    if head.bias is not None:
        head.bias.copy_(fitted.bias)


def soften(head: Any) -> None:
    """Takes most of its certainty from a head before all layers are trained: at one fifth, errors
    are large enough again to say where features should go.

    ResNet-18 for three epochs at 128 px with a rate of 0.001: 94.8 % on EuroSAT and 77.5 % on
    CIFAR-10 (2,000 images each), from a random head 76.4 % on the latter. From the whole head, four
    epochs at a third of the rate came to 90.7 % on EuroSAT, and from a random one to 94.8 %.
    """
    scale_head(head, SOFTENED)


@torch.no_grad()
def scale_head(head: Any, factor: float) -> None:
    """Multiplies the raw outputs of a linear head."""
    head.weight.mul_(factor)
    if head.bias is not None:
        head.bias.mul_(factor)
