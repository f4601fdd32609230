"""Images whose label may be wrong: what a head that was not fitted to them says of their features.

A network that was trained on a wrong label has learnt it by heart in part, but its features still
lie where those of the true class lie: of 1,500 tiles of EuroSAT with 40 wrong labels (ResNet-20, 40
epochs) this found 28 among the first 40, the loss of the trained network 24, and its mean over the
training 26.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from resnets.data.loader import PreparedImages
from resnets.evaluation import EVALUATORS
from resnets.evaluation.maps import thumbnail
from resnets.evaluation.sections import Case, Section
from resnets.files import csv_text
from resnets.kinds.prediction import Prediction
from resnets.kinds.sample import Sample
from resnets.modelfile import Model
from resnets.run.featured import Seen, draw_folds
from resnets.run.reporting import as_bytes
from resnets.run.work import Job
from resnets.training.probe import Featured, predict_held_out

FOLDS = 10
STRENGTH = 0.1  # of the weight decay: a head that cannot fit single images
SHOWN = 60  # in the report
FITTED, MANY_FITTED = 256, 2048  # images that the time of heads is measured on


@dataclass(frozen=True)
class Suspect:
    """An image that looks like another class.

    Args:
        sample: The image.
        truth: Its label.
        prediction: What its features look like.
    """

    sample: Sample
    truth: Prediction
    prediction: Prediction


def find_suspects(job: Job, model: Model, seen: Seen) -> list[Suspect]:
    """Suspect images of all parts, the most suspicious one first; none where the task has no right
    or wrong label, or the network no features.

    Args:
        job: The run.
        model: Its best weights.
        seen: By the network, if it has features.
    """
    suspicion = EVALUATORS[job.task.kind.name].suspicion
    if suspicion is None or not seen:
        return []
    samples = [sample for one in seen.values() for sample in one.images.samples]
    folds = _folds(samples)
    if len(folds.unique()) < FOLDS:  # too few images to hold some of them out
        return []
    parts = [one.averaged for one in seen.values()]
    targets = {name: torch.cat([part.targets[name] for part in parts]) for name in parts[0].targets}
    together = Featured(torch.cat([part.features for part in parts]), targets)
    raw = predict_held_out(together, folds, len(model.classes), job.task.loss, STRENGTH)
    inference: Any = job.task.inference(model.net)
    kind = job.task.kind
    outputs = {next(iter(kind.outputs)): inference.activation(raw).numpy()}
    names = [sample.name for sample in samples]
    found = kind.unbatch(outputs, names, model.classes, model.options)
    truths = kind.ground_truth(samples, model.classes)
    scored = [
        (suspicion.score(truth, prediction), Suspect(sample, truth, prediction))
        for sample, truth, prediction in zip(samples, truths, found, strict=True)
    ]
    suspects = [(score, one) for score, one in scored if score is not None]
    return [one for _, one in sorted(suspects, key=lambda pair: -pair[0])]


def time_search(model: Model, some: Featured, count: int) -> float:
    """Seconds that the search among so many images takes, from the features of a few of them."""
    if EVALUATORS[model.task.kind.name].suspicion is None:
        return 0.0
    small, large = min(count, FITTED), min(count, MANY_FITTED)
    at_small = _time_heads(model, some, small)
    if large == small:
        return at_small
    # each head takes some time for itself, and more of it for more images
    at_large = _time_heads(model, some, large)
    return at_large + max(0.0, at_large - at_small) / (large - small) * (count - large)


def _time_heads(model: Model, some: Featured, count: int) -> float:
    """Seconds for heads that are fitted to so many images: a few repeated ones, as far as that
    tells."""
    places = torch.arange(count) % len(some.features)
    targets = {name: one[places] for name, one in some.targets.items()}
    many, folds = Featured(some.features[places], targets), torch.arange(count) % FOLDS
    tick = time.perf_counter()
    predict_held_out(many, folds, len(model.classes), model.task.loss, STRENGTH)
    return time.perf_counter() - tick


def _folds(samples: Sequence[Sample]) -> torch.Tensor:
    return draw_folds(samples, FOLDS)


def suspects_csv(job: Job, suspects: Sequence[Suspect]) -> str:
    """suspects.csv: what each image is said to be and looks like."""
    row = EVALUATORS[job.task.kind.name].row
    rows = [
        {"file": one.sample.name, "split": one.sample.split, **row(one.truth, one.prediction)}
        for one in suspects
    ]
    return csv_text(rows)


def suspect_section(job: Job, suspects: Sequence[Suspect]) -> Section:
    """The first of them with their pictures."""
    suspicion = EVALUATORS[job.task.kind.name].suspicion
    assert suspicion is not None
    shown = suspects[:SHOWN]
    samples, workers = [one.sample for one in shown], job.spec.settings.workers or None
    images = PreparedImages(samples, job.spec.preprocessing, 0, workers)
    cases = [
        Case(one.truth, one.prediction, thumbnail(as_bytes(images.read(place))))
        for place, one in enumerate(shown)
    ]
    return suspicion.section(cases, len(suspects))
