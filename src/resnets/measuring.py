"""An exported file measured on images, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnets.data.findings import about_left_out_files
from resnets.data.readers import Found
from resnets.data.splits import refuse_unknown_classes, samples_to_measure
from resnets.evaluation import EVALUATORS
from resnets.evaluation.evaluator import Evidence
from resnets.evaluation.metrics import Metrics
from resnets.kinds.sample import Sample
from resnets.runtime import Predictor, load
from resnets.screen import Screen


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
