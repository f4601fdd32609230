"""A model or an exported file, measured on images: what `val` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resnets.data.check import check_images
from resnets.data.findings import about_left_out_files
from resnets.data.loader import PreparedImages
from resnets.data.sources import Found
from resnets.data.splits import class_indices, read_split, samples_to_measure
from resnets.evaluation.metrics import Metrics, measure
from resnets.modelfile import Model
from resnets.run.folder import RunFolder
from resnets.run.outcome import measure_model, write_outcome_report
from resnets.runtime import load
from resnets.screen import Screen
from resnets.training.device import memory_for_images


def measure_file(path: Path, engine: str, data: str, split: str | None, screen: Screen) -> Metrics:
    """NAME.onnx on whole images, as anybody would use it.

    Raises:
        ValueError: No usable image, or no such part of the data.
    """
    predictor = load(path, engine)
    found, samples, part = samples_to_measure(data, split)
    _tell_left_out(found, screen)
    labels = class_indices(samples, predictor.classes)
    rows, kept = [], []
    with screen.progress("measuring", len(samples)) as bar:
        for place, prediction in enumerate(predictor.predict(sample.path for sample in samples)):
            if prediction.probabilities is None:
                screen.warn(f"  skipped: {samples[place].name}: {prediction.error}")
            else:
                rows.append(prediction.probabilities)
                kept.append(place)
            bar.update(place + 1)
    if not rows:
        raise ValueError(f"{data}: no usable image")
    screen.say(f"{path} on {part} of {data}, {len(rows):,} images")
    return measure(np.stack(rows), labels[kept], predictor.classes)


def measure_and_report(
    model: Model,
    path: Path,
    data: str | None,
    split: str | None,
    report: Path | None,
    screen: Screen,
) -> Metrics:
    """A model on some data, or on what its run held out.

    Args:
        model: What is measured.
        path: Where it came from: a run's folder knows its data.
        data: What to measure on.
        split: Which part of it; by default test, else val.
        report: Where to write report.html, if at all.
        screen: Told of what is skipped.

    Raises:
        ValueError: No data, no usable image, or no such part.
    """
    own = RunFolder(path).split
    if data is None and own.is_file():
        samples = read_split(own)
        part = split or ("test" if any(sample.split == "test" for sample in samples) else "val")
        there = sorted({sample.split for sample in samples})
        if part not in there:
            raise ValueError(f"{own} has no split {part!r}; it has {', '.join(there)}")
        samples, data = [sample for sample in samples if sample.split == part], str(own)
    elif data is None:
        raise ValueError(f"{path} does not know its data; name them: resnets val {path} DATA")
    else:
        found, samples, part = samples_to_measure(data, split)
        _tell_left_out(found, screen)
    result = check_images(Found("", tuple(samples)))
    for finding in result.findings:
        if finding.text.startswith("unusable"):
            screen.warn(f"  {finding.text}")
    usable = [sample for sample, fact in zip(samples, result.facts, strict=True) if not fact.error]
    if not usable:
        raise ValueError(f"{data}: no usable image in {part}")
    pictures = PreparedImages(usable, model.preprocessing, memory_for_images(None))
    with screen.progress("measuring", len(usable)) as bar:
        answers = measure_model(model, pictures, bar.update)
    screen.say(f"{model.network_name} ({path}) on {part} of {data}, {len(usable):,} images")
    if report:
        facts = [("model", str(path)), ("data", f"{part} of {data}")]
        title, command = f"{model.network_name} on {Path(data).name}", f"resnets val {path} {data}"
        write_outcome_report(
            report, model, answers, pictures, title=title, command=command, facts=facts
        )
        screen.say(f"report: {report}")
    return answers.metrics


def _tell_left_out(found: Found, screen: Screen) -> None:
    for finding in about_left_out_files(found):
        screen.warn(f"  {finding.text}")
