"""Exported files measured on images, without PyTorch: one with its metrics, or two beside each
other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnets.data.findings import about_left_out_files
from resnets.data.readers import Found
from resnets.data.splits import refuse_unknown_classes, samples_to_measure
from resnets.evaluation import EVALUATORS
from resnets.evaluation.evaluator import Evidence
from resnets.evaluation.metrics import Estimate, Metrics, wilson
from resnets.kinds.sample import Sample
from resnets.listing import Listing
from resnets.runtime import Predictor, load
from resnets.runtime.cascade import check_pair, confidence
from resnets.screen import Screen

FEWEST = 20  # images that tell when the first network of a cascade is to be believed


@dataclass(frozen=True)
class Judged:
    """A model on some images.

    Args:
        kind: Name of what it predicts.
        samples: The images that could be read.
        evidence: What the metrics need of each.
        metrics: All of it, measured.
    """

    kind: str
    samples: tuple[Sample, ...]
    evidence: tuple[Evidence, ...]
    metrics: Metrics

    @property
    def whole(self) -> list[Sample]:
        """The images or videos themselves, not their windows."""
        return list({one.path: replace(one, span=None) for one in self.samples}.values())


def measure_file(path: Path, engine: str, data: str, split: str | None, screen: Screen) -> Judged:
    """NAME.onnx on whole images of some data, as anybody would use it.

    Raises:
        ValueError: No usable image, or no such part of the data.
    """
    predictor = load(path, engine)
    found, samples, part = samples_to_measure(data, split, predictor.kind.name)
    tell_left_out(found, screen)
    judged = judge_file(predictor, samples, screen)
    screen.say(f"{path} on {part} of {data}, {len(judged.evidence):,} images")
    return judged


def judge_file(predictor: Predictor, samples: Sequence[Sample], screen: Screen) -> Judged:
    """An exported file on whole images.

    Raises:
        ValueError: None of them can be read, or one is of a class that it does not know.
    """
    refuse_unknown_classes(samples, predictor.classes)
    kind, evidence, usable = predictor.kind, [], []
    evaluator = EVALUATORS[kind.name]
    with screen.progress("measuring", len(samples)) as bar:
        predictions = predictor.predict(sample.path for sample in samples)
        for done, (sample, prediction) in enumerate(zip(samples, predictions, strict=True), 1):
            if prediction.error is not None:
                screen.warn(f"  skipped: {sample.name}: {prediction.error}")
            else:
                (truth,) = kind.ground_truth([sample], predictor.classes)
                evidence.append(evaluator.compare(truth, prediction))
                usable.append(sample)
            bar.update(done)
    if not evidence:
        raise ValueError(f"{predictor.name}: no usable image to measure it on")
    metrics = evaluator.measure(evidence, predictor.classes, None)
    return Judged(kind.name, tuple(usable), tuple(evidence), metrics)


def tell_left_out(found: Found, screen: Screen) -> None:
    """Warns of images that are not read."""
    for finding in about_left_out_files(found):
        screen.warn(f"  {finding.text}")


@dataclass(frozen=True)
class Sureness:
    """From where on the first network of a cascade is believed.

    Args:
        threshold: How sure it has to be, 0 to 1.
        share: The part of the images that it answers.
        agreement: The part of the images of which the cascade names the class that the second
            network names; each half is judged with the threshold that the other half gives.
    """

    threshold: float
    share: float
    agreement: Estimate


def find_sureness(
    first: Predictor, second: Predictor, data: str, target: float, screen: Screen
) -> Sureness:
    """Both networks on the same images, whose classes need not be known.

    Args:
        first: The fast network.
        second: The one that is agreed with.
        data: A folder of images, or one.
        target: The part of the images on which they shall agree, 0 to 1.
        screen: Told how far it is.

    Raises:
        ValueError: The networks do not fit together, or there are fewer than `FEWEST` images.
    """
    check_pair(first, second)
    files = list(Listing([data]))
    with screen.progress("comparing", len(files)) as bar:
        pairs = []
        both = zip(first.predict(files), second.predict(files), strict=True)
        for done, (one, other) in enumerate(both, 1):
            mine, theirs = one.by_class(), other.by_class()
            if mine is not None and theirs is not None:
                pairs.append((confidence(one), mine.argmax() == theirs.argmax()))
            bar.update(done)
    if len(pairs) < FEWEST:
        raise ValueError(
            f"{data}: {len(pairs)} images; to find out when {first.name} is to be believed takes at"
            f" least {FEWEST}, and a hundred or more to know it well"
        )
    order = np.random.default_rng(0).permutation(len(pairs))
    values, agreeing = (np.array(column)[order] for column in zip(*pairs, strict=True))
    half = len(pairs) // 2
    hits = 0
    for chosen, judged in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        threshold = sure_from(values[chosen], agreeing[chosen], target)
        hits += int((agreeing[judged] | (values[judged] < threshold)).sum())
    threshold = sure_from(values, agreeing, target)
    if math.isinf(threshold):
        raise ValueError(
            f"{first.name} and {second.name} do not agree on {target:.1%} of {len(pairs)} images"
            " even where the first is surest; allow less agreement, or predict with"
            f" {second.name} alone"
        )
    share = float((values >= threshold).mean())
    return Sureness(threshold, share, wilson(hits, len(pairs)))


def sure_from(values: np.ndarray, agreeing: np.ndarray, target: float) -> float:
    """The lowest threshold at which so many images come to the same class: those that agree, and
    those below it, which the second network answers. Infinite where not even the surest are enough.

    Args:
        values: (images,) how sure the first network is.
        agreeing: (images,) bool, whether the second one names the same class.
        target: The part of the images, 0 to 1.
    """
    order = np.argsort(-values, kind="stable")
    values, wrong = values[order], np.cumsum(~agreeing[order])
    kept = int(np.searchsorted(wrong, len(values) * (1 - target) + 1e-9, side="right"))
    if kept == len(values):
        return 0.0
    while kept and values[kept - 1] == values[kept]:  # equally sure, so all or none
        kept -= 1
    return float(values[kept - 1]) if kept else math.inf
