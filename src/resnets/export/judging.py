"""Exported files beside a reference, measured on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resnets.data.splits import refuse_unknown_classes
from resnets.evaluation import EVALUATORS
from resnets.evaluation.comparison import Comparison, compare_paired
from resnets.evaluation.metrics import Estimate, Metrics, clusters, wilson
from resnets.kinds.prediction import Prediction
from resnets.kinds.sample import Sample
from resnets.runtime import Predictor
from resnets.runtime.file_engine import EngineError
from resnets.screen import Screen


@dataclass(frozen=True)
class Beside:
    """An exported file beside a reference, on the same images.

    Args:
        reference: The reference, measured.
        metrics: The file, measured.
        comparison: Its main number less that of the reference.
        agreement: The share of images for which both come to the same decision; None where the
            task has no decision for a whole image.
    """

    reference: Metrics
    metrics: Metrics
    comparison: Comparison
    agreement: Estimate | None


def judge_beside(
    reference: Predictor, others: Sequence[Predictor], samples: Sequence[Sample], screen: Screen
) -> list[Beside]:
    """Exported files beside a reference, all of one task and the same classes.

    Raises:
        ValueError: No image can be read, or one is of a class that they do not know.
        EngineError: One of the files has no prediction for an image that the reference has one for.
    """
    refuse_unknown_classes(samples, reference.classes)
    kind, evaluator = reference.kind, EVALUATORS[reference.kind.name]
    predictors = (reference, *others)
    streams = [one.predict(sample.path for sample in samples) for one in predictors]
    evidence, agreeing, groups = [], [], []
    with screen.progress("comparing", len(samples)) as bar:
        for done, (sample, *found) in enumerate(zip(samples, *streams, strict=True), 1):
            bar.update(done)
            if found[0].error is not None:
                screen.warn(f"  skipped: {sample.name}: {found[0].error}")
                continue
            for predictor, prediction in zip(predictors, found, strict=True):
                if prediction.error is not None:
                    raise EngineError(f"{predictor!r}: {sample.name}: {prediction.error}")
            (truth,) = kind.ground_truth([sample], reference.classes)
            evidence.append([evaluator.compare(truth, prediction) for prediction in found])
            agreeing.append([same_decision(found[0], prediction) for prediction in found])
            groups.append(sample.group)
    if not evidence:
        raise ValueError(f"{reference.name}: no usable image to measure it on")
    grouped = clusters(groups)
    first, *metrics = (
        evaluator.measure(own, reference.classes, grouped) for own in zip(*evidence, strict=True)
    )
    return [
        Beside(
            first,
            measured,
            compare_paired(evaluator, [(one[place], one[0]) for one in evidence], grouped),
            _share([one[place] for one in agreeing]),
        )
        for place, measured in enumerate(metrics, 1)
    ]


def same_decision(one: Prediction, other: Prediction) -> bool | None:
    """Whether two predictions for an image give it the same class or classes; None where the task
    has none for a whole image."""
    numbers = one.by_class(), other.by_class()
    if numbers[0] is None or numbers[1] is None:
        return None
    chosen = one.chosen(), other.chosen()
    if chosen[0] is not None and chosen[1] is not None:
        return bool((chosen[0] == chosen[1]).all())
    return bool(numbers[0].argmax() == numbers[1].argmax())


def _share(agreeing: Sequence[bool | None]) -> Estimate | None:
    known = [one for one in agreeing if one is not None]
    return wilson(sum(known), len(known)) if known else None
