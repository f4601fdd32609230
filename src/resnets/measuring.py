"""An exported file measured on images, without PyTorch."""

from __future__ import annotations

from pathlib import Path

from resnets.data.findings import about_left_out_files
from resnets.data.readers import Found
from resnets.data.splits import refuse_unknown_classes, samples_to_measure
from resnets.evaluation import EVALUATORS
from resnets.evaluation.metrics import Metrics
from resnets.runtime import load
from resnets.screen import Screen


def measure_file(path: Path, engine: str, data: str, split: str | None, screen: Screen) -> Metrics:
    """NAME.onnx on whole images, as anybody would use it.

    Raises:
        ValueError: No usable image, or no such part of the data.
    """
    predictor = load(path, engine)
    found, samples, part = samples_to_measure(data, split, predictor.kind.name)
    tell_left_out(found, screen)
    refuse_unknown_classes(samples, predictor.classes)
    kind, evidence = predictor.kind, []
    evaluator = EVALUATORS[kind.name]
    with screen.progress("measuring", len(samples)) as bar:
        predictions = predictor.predict(sample.path for sample in samples)
        for done, (sample, prediction) in enumerate(zip(samples, predictions, strict=True), 1):
            if prediction.error is not None:
                screen.warn(f"  skipped: {sample.name}: {prediction.error}")
            else:
                (truth,) = kind.ground_truth([sample], predictor.classes)
                evidence.append(evaluator.compare(truth, prediction))
            bar.update(done)
    if not evidence:
        raise ValueError(f"{data}: no usable image")
    screen.say(f"{path} on {part} of {data}, {len(evidence):,} images")
    return evaluator.measure(evidence, predictor.classes, None)


def tell_left_out(found: Found, screen: Screen) -> None:
    """Warns of images that are not read."""
    for finding in about_left_out_files(found):
        screen.warn(f"  {finding.text}")
