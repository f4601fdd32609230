"""Images as the backbone of a network sees them: the features that a linear head is fitted to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from resnets.data.loader import PreparedImages
from resnets.evaluation import EVALUATORS
from resnets.evaluation.evaluator import Evidence, Quick
from resnets.export.compiled import Compute, compile_module
from resnets.kinds.prediction import Outputs
from resnets.kinds.sample import Sample
from resnets.modelfile import Model
from resnets.run.spec import Spec
from resnets.run.work import Job, autocast_of
from resnets.tasks import Task
from resnets.training.device import autocasting, place_input
from resnets.training.probe import Featured

BATCH = 32  # images at a time


class Looked(NamedTuple):
    """Images, their features, and the mean of these and of those of the mirror images where a run
    trains on mirror images too."""

    images: PreparedImages
    featured: Featured
    averaged: Featured


Seen = dict[str, Looked]  # by part of the data


def can_probe(net: nn.Module, task: Task) -> bool:
    """Whether a network ends in a linear head on features."""
    return task.features(net) is not None and isinstance(task.head(net), nn.Linear)


def computing(spec: Spec, net: nn.Module, count: int = BATCH) -> Compute:
    """From normalised images, up to `count` of them, to their features, both on the CPU: in the
    precision of the run, on a CPU by OpenVINO where that can be.

    Args:
        spec: Of the run.
        net: Of it, with whatever weights.
        count: Of the images at a time.
    """
    features = spec.make_task().features(net.eval())
    assert features is not None
    return _compiled(spec, features, _noise(spec, count))


class InHalves:
    """`computing` in two steps, which keeps the maps between them: those before the last stage.

    Args:
        spec: Of the run.
        front: Images to maps.
        tail: Maps to logits.
    """

    def __init__(self, spec: Spec, front: nn.Module, tail: nn.Module) -> None:
        features, noise = spec.make_task().features(tail.eval()), _noise(spec, BATCH)
        assert features is not None
        self._front = _compiled(spec, front.eval(), noise)
        self._rest = _compiled(spec, features, self._front(noise))
        self._kept: list[torch.Tensor] = []

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalised images to features."""
        maps = self._front(inputs)
        self._kept.append(maps.half())
        return self._rest(maps)

    def take(self) -> torch.Tensor:
        """The maps of all images since the last time, (n, C, h, w) float16."""
        maps, self._kept = torch.cat(self._kept), []
        return maps


def _noise(spec: Spec, count: int) -> torch.Tensor:
    """Images for a trial: on some that are all alike, bfloat16 differs more than on any photo."""
    return torch.randn(spec.input_shape(count), generator=torch.Generator().manual_seed(0))


def _compiled(spec: Spec, module: nn.Module, example: torch.Tensor) -> Compute:
    """A module in eval mode for inputs of a shape: by OpenVINO where that can be."""
    device = next(module.parameters()).device
    autocast = autocast_of(spec.settings, device)
    if device.type == "cpu":
        short = autocast is torch.bfloat16
        if found := compile_module(module, place_input(example, device), short):
            return found

    def compute(inputs: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), autocasting(device, autocast):
            return module(place_input(inputs, device)).float().cpu()

    return compute


def find_features(
    spec: Spec,
    compute: Compute,
    images: PreparedImages,
    advance: Callable[[int], None] = lambda more: None,
) -> Featured:
    """The features of prepared images, on the CPU.

    Args:
        spec: Of the run.
        compute: `computing`.
        images: To look at.
        advance: Told of every batch how many images it has.
    """
    return _look(spec, compute, images, advance, mirrored=False).featured


def _look(
    spec: Spec,
    compute: Compute,
    images: PreparedImages,
    advance: Callable[[int], None] = lambda more: None,
    mirrored: bool = True,
) -> Looked:
    """Mirrored: at mirror images too, where a run from scratch trains on them; with these, 27 and
    32 of 40 wrong labels of EuroSAT were among the first 40 suspects, instead of 26 and 30 (two
    seeds). Of pretrained networks, which are large, 3,000 images and their mirror images took 65 s
    of a run's minutes; what the latter are worth there was not measured."""
    task, preprocessing = spec.make_task(), spec.preprocessing
    mirrored = mirrored and not spec.probe and spec.settings.flip != "none"
    ways = [False, True] if mirrored else [False]
    found: list[list[torch.Tensor]] = [[] for _ in ways]
    for places, pixels, _ in images.batches(BATCH):
        inputs = torch.from_numpy(preprocessing.normalise(pixels))
        for turned, one in zip(ways, found, strict=True):
            one.append(compute(inputs.flip(-1) if turned else inputs))
        advance(len(places))
    targets = task.collate(task.kind.ground_truth(images.samples, spec.classes))
    each = [torch.cat(one).clone() for one in found]
    averaged = torch.stack(each).mean(0)
    return Looked(images, Featured(each[0], targets), Featured(averaged, targets))


def training_images_of(job: Job) -> PreparedImages:
    """The training images as they are prepared for evaluation; none is kept."""
    samples, workers = job.images.batches.images.samples, job.spec.settings.workers or None
    return PreparedImages(samples, job.spec.preprocessing, 0, workers)


def see_all(job: Job, model: Model, known: Mapping[str, Featured]) -> Seen:
    """The features of all images of a run, for whatever is found by them after training: `train`,
    `val`, and `test` where there is one; nothing where the network has none, or nobody asks.

    Args:
        job: The run.
        model: Of its best weights.
        known: Features of these weights by part of the data, which need not be found again.
    """
    if not _asks(job.spec, model):
        return {}
    images = {"train": training_images_of(job), "val": job.images.held_out}
    if job.images.measured is not job.images.held_out:
        images["test"] = job.images.measured
    seen: Seen = {part: Looked(images[part], one, one) for part, one in known.items()}
    images = {part: one for part, one in images.items() if part not in known}
    if not images:
        return seen
    compute = computing(job.spec, model.net)
    with job.screen.progress("features of the best weights", sum(map(len, images.values()))) as bar:
        for part, one in images.items():
            seen[part] = _look(job.spec, compute, one, bar.advance)
    return seen


def time_seeing(
    spec: Spec, model: Model, few: PreparedImages, count: int
) -> tuple[float, Featured | None]:
    """Seconds that `see_all` takes for so many images, read from their files, and the features of a
    few.

    Args:
        spec: Of the run.
        model: Of any weights.
        few: Some of the images.
        count: Of all images.
    """
    if not _asks(spec, model):
        return 0.0, None
    compute = computing(spec, model.net, min(BATCH, len(few)))
    _look(spec, compute, few)
    unread = PreparedImages(few.samples, spec.preprocessing, 0, spec.settings.workers or None)
    tick = time.perf_counter()
    some = _look(spec, compute, unread).featured
    return (time.perf_counter() - tick) / len(few) * count, some


def _asks(spec: Spec, model: Model) -> bool:
    """Whether features tell something that the task or the run wants to know."""
    kind = model.task.kind
    searches = EVALUATORS[kind.name].suspicion is not None
    wanted = searches or "familiar" in kind.outputs or spec.settings.calibrate != "none"
    return wanted and can_probe(model.net, model.task)


def draw_folds(samples: Sequence[Sample], count: int) -> torch.Tensor:
    """(n,) which of so many folds each image is in, at random; images of one group share theirs."""
    groups = [sample.group or f"\0{place}" for place, sample in enumerate(samples)]
    _, number = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(int(number.max()) + 1)
    return torch.from_numpy(order[number] % count)


def judge_raw(job: Job, raw: torch.Tensor) -> list[Evidence]:
    """What raw outputs for the validation images say, held against the truth."""
    kind, samples, classes = job.task.kind, job.images.held_out.samples, job.spec.classes
    evaluator, options = EVALUATORS[kind.name], job.spec.make_model(job.net).options
    inference: Any = job.task.inference(job.net)
    outputs: Outputs = {next(iter(kind.outputs)): inference.activation(raw).numpy()}
    truths = kind.ground_truth(samples, classes)
    found = kind.unbatch(outputs, [sample.name for sample in samples], classes, options)
    return [evaluator.compare(*pair) for pair in zip(truths, found, strict=True)]


def measure_raw(job: Job, raw: torch.Tensor) -> Quick:
    """What a validation would find, from the raw outputs for its images."""
    return EVALUATORS[job.task.kind.name].quick(judge_raw(job, raw))
